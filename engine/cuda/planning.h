// What the planner knows of GPUs: families of code, rates for the break-even against SDPA, and cards to plan for without having
// them.
#pragma once
#include <span>

#include "engine/cuda/attention.h"
#include "engine/plan.h"

namespace clary::cuda {

// A family of GPU code, by the compute capability it was first made for.
struct CodePath {
  const char* name;  // "sm80"
  int capability;
  int only;  // not 0: what no other compute capability runs
};
std::span<const CodePath> code_paths();
// The one that is compiled for a card; null below 7.5.
const CodePath* native_path(int capability);

// A plan's target is its AttentionVariant, its path a CodePath.
inline const AttentionVariant& variant_of(const Plan& plan) {
  return *static_cast<const AttentionVariant*>(plan.target);
}
inline const CodePath& path_of(const Plan& plan) { return *static_cast<const CodePath*>(plan.path); }

// Whether torch's scaled_dot_product_attention serves the problem in one call; if not, there is nothing to compare with.
bool sdpa_serves(const Problem& problem);
// Seconds on the GPU of a call in our arithmetic and of SDPA's.
struct Estimate {
  double ours, sdpa;
};
Estimate estimate(const Problem& problem, const Device& device, int32_t accuracy);

// Data sheets of cards, to plan for machines without them.
std::span<const Device> known_gpus();

}  // namespace clary::cuda
