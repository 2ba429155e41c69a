// clary: plans, builds, proves, serves and installs wheels of compiled CUDA packages.
//
// The table below is the program. A command is a function of the world (ctx.h) and its arguments (core/cli.h); it lives in
// cmd/<name>.cc, and its page in docs/cli/<name>.md is its help.
#include <algorithm>

#include "clary/clary.h"
#include "wheel/cmd/cmd.h"
#include "wheel/command.h"
#include "wheel/core/cli.h"
#include "wheel/core/table.h"

namespace clary::tool {
namespace {

constexpr Command kCommands[] = {
    {"doctor", cmd_doctor},    //
    {"init", cmd_init},        //
    {"plan", cmd_plan},        //
    {"build", cmd_build},      //
    {"inspect", cmd_inspect},  //
    {"verify", cmd_verify},    //
    {"repair", cmd_repair},    //
    {"test", cmd_test},        //
    {"index", cmd_index},      //
    {"sign", cmd_sign},        //
    {"publish", cmd_publish},  //
    {"resolve", cmd_resolve},  //
    {"install", cmd_install},  //
    {"lock", cmd_lock},        //
    {"sync", cmd_sync},        //
    {"cache", cmd_cache},      //
    {"explain", cmd_explain},  //
    {"completion", cmd_completion},
};

int overview(Ctx& ctx) {
  Table table({"", ""});
  for (const Command& command : kCommands) table.row({command.name, help_summary(command.name)});
  ctx.out.write(replace_all(help_page("clary"), "  {commands}\n", table.str("  ")));
  return kFine;
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

int fail(Ctx& ctx, const Error& error, int code) {
  const bool colour = ctx.err.colour;
  ctx.err.write((colour ? "\x1b[1;31merror\x1b[0m: " : "error: ") + error.message + "\n");
  if (!error.hint.empty()) ctx.err.write((colour ? "\n\x1b[1;36mhint\x1b[0m: " : "\nhint: ") + error.hint + "\n");
  return code;
}

int run_clary(Ctx& ctx, const Strings& args) {
  const std::string first = args.empty() ? "" : args[0];
  if (first == "--version" || first == "-V") {
    ctx.out.write("clary " CLARY_VERSION "\n");
    return kFine;
  }
  const bool help = first == "help" || first == "--help" || first == "-h";
  if (help && args.size() == 1) return overview(ctx);
  if (first.empty()) {
    overview(ctx);
    return kUsage;
  }
  const std::string name = help ? args[1] : first;
  const auto command =
      std::find_if(std::begin(kCommands), std::end(kCommands), [&](const Command& c) { return name == c.name; });
  if (command == std::end(kCommands)) {
    Strings names;
    for (const Command& c : kCommands) names.push_back(c.name);
    const std::string near = nearest(name, names);
    return fail(ctx, {"unknown command: `" + printable(name) + "`",
                      (near.empty() ? "" : "did you mean `" + near + "`? ") + "there are: " + join(names, ", ")});
  }
  Cli cli(ctx, name, help ? Strings{"--help"} : Strings(args.begin() + 1, args.end()));
  return command->run(ctx, cli);
}

}  // namespace clary::tool
