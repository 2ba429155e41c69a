// "This package where the GPU has it, else that one": the chain of clary.toml.
//
//   [fallback]
//   chain = [{pkg = "sageattn3", when = "sm in (100, 120) and cuda >= 12.8"}, {pkg = "sageattention>=2", when = "sm >= 80"}]
#pragma once
#include "wheel/core/target.h"

namespace clary::tool {

struct ChainLink {
  std::string pkg, when;
};
Result<std::vector<ChainLink>> parse_chain(std::string_view toml, const std::string& name);

// Terms joined by `and`, those by `or`. A term compares sm (100 is 10.0; each GPU must fit), cuda, torch, driver or python with
// < <= == != >= > or `in (...)`. What is not there compares as false. Empty: always.
Result<bool> chain_holds(const std::string& when, const Target& target);

}  // namespace clary::tool
