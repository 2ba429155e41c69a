// Making a wheel's platform tag true: what its libraries need decides, torch's and CUDA's own libraries are never taken in.
#pragma once
#include <map>
#include <optional>
#include <string>

#include "wheel/core/facts.h"
#include "wheel/core/tables.h"

namespace clary::tool {

// Why the wheel's libraries do not keep what `platform` ("manylinux_2_28_x86_64") promises; a linux_ tag promises nothing.
std::optional<Error> platform_fault(const FileFacts& facts, const std::string& platform);

// Sonames that the wheel needs and neither holds nor leaves to the system, torch, CUDA, the driver or Python.
Strings foreign_libraries(const FileFacts& facts);

// Libraries that search outside the wheel, each with what is left of its RUNPATH without those places.
std::map<std::string, std::string> mend_run_paths(const std::vector<BinaryFacts>& binaries);

struct RepairPlan {
  std::string platform;                          // the tag it will have
  std::vector<std::string> why;                  // in sentences: what decides, what is left out
  Strings foreign;                               // to be taken in: auditwheel's work
  std::map<std::string, std::string> run_paths;  // mend_run_paths(): patchelf's work
  bool nothing_to_do = false;
};
// `wanted`: a policy ("manylinux_2_28"), or auto: the oldest that is true. An error when the libraries need a newer system.
Result<RepairPlan> plan_repair(const FileFacts& facts, const std::string& wanted, bool bundle);

}  // namespace clary::tool
