// The matrix of wheels a recipe asks for: Python x torch x CUDA x platform, every cell either planned to the file name or
// refused with the reason. Pure: the data tables and the machine's size are all it knows.
#pragma once
#include <string>
#include <vector>

#include "wheel/core/arch.h"
#include "wheel/core/recipe.h"
#include "wheel/core/tables.h"

namespace clary::tool {

struct Machine {
  int cores = 4;
  uint64_t memory_mb = 16000;
};

struct Cell {
  std::string id;                             // t280-cu128-cp312-lx64
  std::string torch, cuda, python, platform;  // 2.8.0, 12.8, 3.12, linux_x86_64; torch and cuda empty: any
  std::string wheel;
  ArchList archs;
  std::string index_url, image;
  bool cxx11abi = true;
  int cxx = 17;
  int jobs = 1;
  int memory_mb = 0;
  int minutes = 0;
  std::string note;
};

struct Refused {
  std::string what;  // "torch 2.7.1, CUDA 12.9, Python 3.12, linux_x86_64"
  std::string reason;
};

struct Matrix {
  std::vector<Cell> cells;
  std::vector<Refused> refused;
};

// An error when the recipe names something that does not exist at all; impossible pairs are refused cells.
Result<Matrix> make_matrix(const Recipe& recipe, const Machine& machine);

// jobs that fit: one per core, as far as the memory goes.
int jobs_for(const Machine& machine, int memory_mb_each);

}  // namespace clary::tool
