// The CPU backend: planning for a CPU and running a plan. Baseline code; the arithmetic is in the targets (kernel.h).
#pragma once
#include "engine/plan.h"
#include "engine/text.h"

namespace clary::cpu {

extern const Backend kBackend;

// `force`: "", ":target" or ":target:arithmetic".
Plan choose(const Problem& problem, const Device& device, const char* force, int threads);

// A JSON object about this machine's CPU and the targets built for it.
void info(const Device& device, Text* text);

}  // namespace clary::cpu
