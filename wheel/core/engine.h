// Where a cell is built: on this machine, in a container, or by cibuildwheel. An engine turns a cell into steps; running them,
// the log, the time cap, the explanation of a failure and what becomes of the wheel are the same for all (core/build.h).
#pragma once
#include <map>
#include <span>
#include <string>
#include <vector>

#include "wheel/core/matrix.h"
#include "wheel/core/toolchain.h"

namespace clary::tool {

struct BuildSite {  // absolute paths
  Cell cell;
  std::string source;  // the patched copy of the sources
  std::string work;    // of this cell: log, environment, configuration
  std::string out;     // where the engine leaves the wheel
  Python python;       // local: the one to make the environment from
  std::string prefix;  // local: an environment that is used as it is; empty: one is made
  std::optional<CudaHome> cuda;
  Strings packages;                        // of the build's environment, besides torch
  std::map<std::string, std::string> env;  // of the build
  std::map<std::string, std::string> settings;
};

struct Step {
  std::string title;
  Job job;
  bool once = false;  // not again while its command line stays the same
};

struct Engine {
  const char* name;
  const char* program;  // it needs; empty: none
  const char* source;   // where it sees the sources; empty: where they are
  Result<std::vector<Step>> (*steps)(Ctx& ctx, const BuildSite& site);  // may write into `work`
};

std::span<const Engine> engines();
const Engine* find_engine(std::string_view name);
Strings engine_names();

}  // namespace clary::tool
