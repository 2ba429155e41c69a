// A command of the program: one row of the table in main.cc, one file in cmd/, one page in docs/cli/.
#pragma once
#include <span>
#include <string_view>

#include "wheel/ctx.h"

namespace clary::tool {

class Cli;

struct Command {
  const char* name;
  int (*run)(Ctx&, Cli&);
};

std::span<const Command> commands();

// The whole program: what main() does with its arguments, and what tests call.
int run_clary(Ctx& ctx, const Strings& args);

}  // namespace clary::tool
