// What to plan: clary.toml, sharpened by the command line. docs/cli/plan.md says its keys.
#pragma once
#include <string>
#include <vector>

#include "wheel/core/version.h"
#include "wheel/ctx.h"

namespace clary::tool {

struct Exclude {  // a cell that matches every pattern given is left out
  std::string torch = "*", cuda = "*", python = "*", platform = "*", reason;
};

struct Recipe {
  std::string name;
  Version version;
  // Lists as written: versions, lines ("2.8"), specifiers (">=2.6,<2.9"), "all", "newest". Empty: all.
  Strings torch, cuda, python, platform;
  std::string arch = "auto";
  std::string python_abi = "cp";  // cp: one wheel per Python; abi3: one from abi3-floor on; none: py3-none
  std::string abi3_floor = "3.9";
  std::string torch_abi = "locked";  // locked: one wheel per torch and CUDA; none: one for all
  std::string local = "cu{cuda}torch{torch}";
  std::vector<Exclude> excludes;
  std::string base_image;
  // Cost: CUDA translation units, seconds for one of them and one architecture, memory of one compiler.
  int units = 12, seconds = 20, memory_mb = 2800;
};

// Keys of [package], [matrix], [build], [cost] and [[exclude]]. Other tables belong to other commands.
Result<Recipe> parse_recipe(std::string_view text, const std::string& name);

}  // namespace clary::tool
