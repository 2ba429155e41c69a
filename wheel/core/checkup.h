// What `clary doctor` looks at, one line for each thing, with the repair where there is something to repair.
#pragma once
#include <string>
#include <vector>

#include "wheel/ctx.h"

namespace clary::tool {

struct CheckupLine {
  enum State { kOk, kWarn, kFail } state;
  std::string topic, text, repair;
  const char* name() const { return state == kOk ? "OK" : state == kWarn ? "WARN" : "FAIL"; }
};

std::vector<CheckupLine> checkup(Ctx& ctx);

// The first line a program prints; empty when it is not there or fails.
std::string first_line_of(Ctx& ctx, const Strings& argv);

}  // namespace clary::tool
