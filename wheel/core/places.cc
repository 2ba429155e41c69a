#include "wheel/core/places.h"

namespace clary::tool {

std::string config_dir(Ctx& ctx) {
  const auto value = [&](const char* name) { return ctx.proc.env(name).value_or(""); };
  if (const std::string dir = value("CLARY_HOME"); !dir.empty()) return dir;
  if (const std::string dir = value("XDG_CONFIG_HOME"); !dir.empty()) return dir + "/clary";
  return value("HOME") + "/.config/clary";
}

}  // namespace clary::tool
