// A planned matrix in the forms other tools read.
#pragma once
#include <string>

#include "wheel/core/matrix.h"

namespace clary::tool {

// GitHub Actions runs at most this many jobs of one matrix.
constexpr size_t kGithubJobs = 256;

struct Shard {  // --shard 2/3; 1/1 is everything
  size_t index = 1, count = 1;
};
Result<Shard> parse_shard(const std::string& text);
void take_shard(Matrix& matrix, const Shard& shard);

std::string plan_table(const Matrix& matrix, const Recipe& recipe);
std::string plan_json(const Matrix& matrix, const Recipe& recipe, const Machine& machine);
std::string plan_github(const Matrix& matrix);                // NAME=JSON lines for $GITHUB_OUTPUT
Result<std::string> plan_cibuildwheel(const Matrix& matrix);  // REQUIRES one torch and CUDA among the cells
Result<std::string> plan_compose(const Matrix& matrix);
Result<std::string> plan_dockerfile(const Matrix& matrix);

// The Python of a cell in the manylinux images, cp312-cp312 of /opt/python; abi3 and py3 wheels are built by the oldest there.
std::string opt_python(const Cell& cell);

}  // namespace clary::tool
