// Things a build leaves in its output by accident: the builder's home folder, and access tokens.
#pragma once
#include <vector>

#include "wheel/core/facts.h"

namespace clary::tool {

// At most a few of each kind. Paths are looked for in compiled code only: in text they are examples.
std::vector<Leak> find_leaks(Bytes bytes, bool paths);

}  // namespace clary::tool
