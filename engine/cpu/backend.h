// The CPU backend: planning for a CPU and running a plan. Baseline code; the arithmetic is in the targets (kernel.h).
#pragma once
#include "engine/plan.h"

namespace clary::cpu {

extern const Backend kBackend;

// `force`: "", ":target" or ":target:arithmetic".
Plan choose(const Problem& problem, const Device& device, const char* force, int threads);

// JSON about the library and this machine.
int info(const Device& device, char* buffer, size_t capacity);

}  // namespace clary::cpu
