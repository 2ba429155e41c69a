// What to plan and build: clary.toml, sharpened by the command line. docs/cli/plan.md and docs/cli/build.md say its keys.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "wheel/core/version.h"
#include "wheel/ctx.h"

namespace clary::tool {

struct Exclude {  // a cell that matches every pattern given is left out
  std::string torch = "*", cuda = "*", python = "*", platform = "*", reason;
};

// A change of one file of the sources that is checked: `find` must be there exactly `times` times (0: at least once), or the
// change must be there already.
struct Edit {
  std::string file, find, replace, reason;
  int times = 1;
};

struct Recipe {
  std::string name;
  Version version;
  std::string version_from;  // a file of the sources that says it, instead
  // Lists as written: versions, lines ("2.8"), specifiers (">=2.6,<2.9"), "all", "newest". Empty: all.
  Strings torch, cuda, python, platform;
  std::string arch = "auto";
  std::string python_abi = "cp";  // cp: one wheel per Python; abi3: one from abi3-floor on; none: py3-none
  std::string abi3_floor = "3.9";
  std::string torch_abi = "locked";  // locked: one wheel per torch and CUDA; none: one for all
  std::string local = "cu{cuda}torch{torch}";
  std::vector<Exclude> excludes;
  std::string base_image;

  // [build]: what `clary build` needs to know beyond the matrix.
  std::string folder = ".";                     // of the sources' pyproject.toml or setup.py, from the recipe's place
  std::string cuda_compiler = "auto";           // no: nothing is compiled for GPUs; auto, or a version such as 13.2
  Strings packages;                             // packages in the build's environment, besides torch
  std::map<std::string, std::string> env;       // of the build
  std::map<std::string, std::string> settings;  // config settings of the build backend
  Strings patches;                              // unified diffs, from the recipe's place
  std::vector<Edit> edits;                      // [[patch]]
  Strings expect_modules;                       // patterns of libraries that the wheel must hold
  std::string policy;                           // of verify; empty: by torch-abi
  std::string call;                             // [test]: module:function of q, k, v
  // Cost: CUDA translation units, seconds for one of them and one architecture, memory of one compiler.
  int units = 12, seconds = 20, memory_mb = 2800;
};

// Keys of [package], [matrix], [build], [test], [cost], [[patch]] and [[exclude]]. Other tables belong to other commands.
// Of a recipe with version-from the version is 0 until version_in() has read that file.
Result<Version> version_in(std::string_view text, const std::string& name);
Result<Recipe> parse_recipe(std::string_view text, const std::string& name);

}  // namespace clary::tool
