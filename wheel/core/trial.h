// Trying a wheel: installed alone into an empty environment, imported, every library loaded with immediate binding, a call
// compared with torch's attention where torch is. The work inside is wheel/data/probe.py's.
#pragma once
#include <string>
#include <vector>

#include "wheel/core/facts.h"
#include "wheel/core/python.h"

namespace clary::tool {

struct TrialOptions {
  std::string call;   // module:function; empty: found
  std::string with;   // an environment whose packages are seen, too
  Strings install;    // requirements to install before the wheel
  std::string image;  // a container instead of this machine
  double tolerance = 0.05;
  bool gpu = false, keep = false;
};

struct Check {
  std::string what, name, state, text;  // state: ok, failed, skipped
};

struct Trial {
  std::string where;  // "Python 3.12.1", an image
  std::vector<Check> checks;
  bool failed() const;
};

// Modules that the wheel makes importable, top level.
Strings wheel_modules(const FileFacts& facts);
// Whether that Python may install the wheel at all, by tag and Requires-Python.
bool wheel_fits(const FileFacts& facts, const Python& python);

// An error when the trial could not be made; what the wheel does wrong is a failed check.
Result<Trial> try_wheel(Ctx& ctx, const FileFacts& facts, const Python& python, const TrialOptions& options);
Result<Trial> try_in_container(Ctx& ctx, const FileFacts& facts, const TrialOptions& options);

}  // namespace clary::tool
