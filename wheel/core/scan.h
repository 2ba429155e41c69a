// What a source tree says about itself: read, never run.
#pragma once
#include <string>
#include <vector>

#include "wheel/ctx.h"

namespace clary::tool {

struct SourceFacts {
  std::string name, version, version_from;  // version_from: the file it was found in
  std::string backend;                      // of pyproject.toml; setuptools' where there is only a setup.py
  Strings build_requires;                   // [build-system] requires, setup_requires
  Strings modules;                          // extension modules, by the names the build gives them
  Strings variables;                        // environment variables that the build reads
  Strings archs;                            // GPU architectures it names: "8.0", "90a"
  Strings standards;                        // C++ standards it passes: "c++17"
  std::string requires_python, torch;       // specifiers; empty: none
  bool uses_torch = false;                  // its build imports or finds torch
  std::string limited_api;                  // "3.9", of the limited API; "any": no Python API at all
  int cuda_sources = 0, cxx_sources = 0;
  Strings notes;  // what a builder will trip over
};

// REQUIRES: nothing. An error when the folder holds neither pyproject.toml nor setup.py.
Result<SourceFacts> scan_source(Ctx& ctx, const std::string& folder);

// clary.toml with a comment for each line. `python`: the version to plan for.
std::string recipe_text(const SourceFacts& facts, const std::string& python);

}  // namespace clary::tool
