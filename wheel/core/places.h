// Where clary keeps things: wheels it downloaded (may be deleted any time) and what it must remember (keys, serials).
#pragma once
#include "wheel/ctx.h"

namespace clary::tool {

std::string cache_dir(Ctx& ctx);   // CLARY_CACHE, XDG_CACHE_HOME/clary, ~/.cache/clary
std::string config_dir(Ctx& ctx);  // CLARY_HOME, XDG_CONFIG_HOME/clary, ~/.config/clary

}  // namespace clary::tool
