// clary.lock.json: the wheels that were chosen once, so that they are installed again and no others.
#pragma once
#include "wheel/core/deliver.h"

namespace clary::tool {

struct LockFile {
  std::string target;  // what it was resolved for, for people
  std::string abi, machine, system;
  std::vector<Delivery> wheels;
  static Result<LockFile> parse(std::string_view text, const std::string& name);
  std::string str() const;
};

}  // namespace clary::tool
