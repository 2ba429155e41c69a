// This machine, read through Ctx: memory, driver, GPUs, torch. Used by doctor and plan.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "wheel/core/matrix.h"
#include "wheel/ctx.h"

namespace clary::tool {

class Cli;

struct Gpu {
  std::string name;
  int sm = 0;  // 120
};

// Cores and memory this process may use, control groups included.
Machine host_machine(Ctx& ctx);
Result<Machine> parse_machine(const std::string& text);  // "16x64": cores and gigabytes
std::string driver_version(Ctx& ctx);                    // "580.95.05"; empty: none
std::vector<Gpu> host_gpus(Ctx& ctx);                    // through nvidia-smi
struct InstalledTorch {
  std::string version, cuda, folder;
};
std::optional<InstalledTorch> torch_in(Ctx& ctx, const std::string& site_packages);  // read, not imported

// What the command line says of a recipe; empty: nothing.
struct RecipeChoice {
  std::string recipe, name, version, torch, cuda, python, platform, arch, base_image;
};
void cell_options(Cli& cli, RecipeChoice& choice);  // --version to --arch: which cells are meant
// The recipe's file, if there is one, then the environment's names that builds use, then the command line.
Result<Recipe> choose_recipe(Ctx& ctx, const RecipeChoice& choice);
Result<Recipe> sharpen_recipe(Ctx& ctx, Recipe recipe, const RecipeChoice& choice);  // the last two

}  // namespace clary::tool
