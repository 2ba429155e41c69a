#include "wheel/core/places.h"

namespace clary::tool {
namespace {

std::string place(Ctx& ctx, const char* own, const char* xdg, const char* below_home) {
  const auto value = [&](const char* name) { return ctx.proc.env(name).value_or(""); };
  if (const std::string dir = value(own); !dir.empty()) return dir;
  if (const std::string dir = value(xdg); !dir.empty()) return dir + "/clary";
  return ctx.proc.env("HOME").value_or("/root") + below_home;
}

}  // namespace

std::string cache_dir(Ctx& ctx) { return place(ctx, "CLARY_CACHE", "XDG_CACHE_HOME", "/.cache/clary"); }
std::string config_dir(Ctx& ctx) { return place(ctx, "CLARY_HOME", "XDG_CONFIG_HOME", "/.config/clary"); }

}  // namespace clary::tool
