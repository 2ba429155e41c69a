// Completion scripts for shells, made from what the commands declare.
#pragma once
#include <string>
#include <vector>

#include "wheel/core/cli.h"

namespace clary::tool {

struct DescribedCommand {
  std::string name;
  std::vector<CliOption> options;
};

std::string bash_completion(const std::vector<DescribedCommand>& commands);
std::string zsh_completion(const std::vector<DescribedCommand>& commands);
std::string fish_completion(const std::vector<DescribedCommand>& commands);

}  // namespace clary::tool
