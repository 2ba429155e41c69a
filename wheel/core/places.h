// Where clary keeps what it must remember (keys, serials). What can be fetched again is in cache_folder() of core/python.h.
#pragma once
#include "wheel/ctx.h"

namespace clary::tool {

std::string config_dir(Ctx& ctx);  // CLARY_HOME, XDG_CONFIG_HOME/clary, ~/.config/clary

}  // namespace clary::tool
