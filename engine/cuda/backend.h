// The CUDA backend: planning for a GPU and running a plan on it. Kernels and their launches: quantise.h, attention.h.
#pragma once
#include "engine/plan.h"
#include "engine/text.h"

namespace clary::cuda {

extern const Backend kBackend;

// `force`: "", "cuda", "cuda:path" or "cuda:path:arithmetic", a path being a family of GPU code: sm75, sm80, sm89, sm90, sm120. Pure.
Plan choose(const Problem& problem, const Device& device, const char* force);

// A JSON object about the driver, the GPUs and the code built for them; makes no context.
void info(Text* text);

}  // namespace clary::cuda
