// What quantise.h must produce, in f64 and scalar code, and how far codes and scales are from it.
#pragma once
#include <cstdint>
#include <string>

#include "engine/cuda/quantise.h"

namespace clary::test {

// The byte a workspace is filled with before a call.
constexpr uint8_t kUnwritten = 0x55;

struct Difference {
  int worst_code = 0;  // of codes whose scale is finite
  double differing =
      0;              // share of them that differ at all; of v mostly ties, which bf16 values times 127 / max often are
  double excess = 0;  // how far a code is from the exact value, beyond one half
  double worst_scale = 0;  // relative to it, for k to it and the mean's
  double worst_shift = 0;  // relative to |q| |mean of K| * softmax scale
  std::string damage;  // the first thing that is plainly wrong: padding, bytes past a length, a finite scale for NaN
};

// q, k, v of `problem` point to host memory; `workspace` is the host's copy of it after the call, from its first multiple of 256.
Difference check_queries(const Problem& problem, const cuda::QuantisePlan& plan, const char* workspace);
Difference check_keys(const Problem& problem, const cuda::QuantisePlan& plan, const char* workspace);
Difference check_values(const Problem& problem, const cuda::QuantisePlan& plan, const char* workspace);

}  // namespace clary::test
