// Files of this repository inside the program: docs/cli/*.md and wheel/data/*. CMake lists them.
#pragma once
#include <span>
#include <string_view>

namespace clary::tool {

struct Embedded {
  std::string_view name;  // "docs/cli/plan.md", "wheel/data/torch.toml"
  std::string_view text;
};

std::span<const Embedded> embedded_files();
std::string_view embedded(std::string_view name);  // empty when there is none

}  // namespace clary::tool
