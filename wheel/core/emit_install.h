// What would be installed, as a file for another installer.
#pragma once
#include "wheel/core/deliver.h"

namespace clary::tool {

std::string emit_requirements(const Delivery& what);  // pip -r, uv pip -r: the wheel by address and hash, and the stack
std::string emit_constraints(const Delivery& what);   // exact versions
std::string emit_pylock(const Delivery& what, const std::string& requires_python);  // PEP 751
std::string emit_dockerfile(const Delivery& what);  // the lines that install it in an image

}  // namespace clary::tool
