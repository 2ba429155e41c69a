// The Pythons of this machine, and environments made from them.
#pragma once
#include <string>
#include <vector>

#include "wheel/ctx.h"

namespace clary::tool {

struct Python {
  std::string program;        // as it is started
  std::string version;        // 3.12.1
  std::string site;           // where its packages are
  bool threaded = false;      // built without the global lock
  std::string minor() const;  // "3.12", "3.13t"
};

// An error when it does not start or is no CPython.
Result<Python> ask_python(Ctx& ctx, const std::string& program);
// Every CPython from 3.9 on: on PATH, of pyenv, of uv. One of each minor version, oldest first.
std::vector<Python> find_pythons(Ctx& ctx);
// The one of that minor version ("3.12"); empty: the environment in use, else python3. The error lists what there is.
Result<Python> python_for(Ctx& ctx, const std::string& minor);

// What makes an empty environment with pip in `folder`: the interpreter's venv, or uv where that is incomplete.
Job make_environment(Ctx& ctx, const Python& python, const std::string& folder);

// Where clary keeps what can be made again: CLARY_CACHE, else clary in XDG_CACHE_HOME or ~/.cache.
std::string cache_folder(Ctx& ctx);
std::string current_folder(Ctx& ctx);
std::string absolute(Ctx& ctx, const std::string& path);

}  // namespace clary::tool
