// Kernels by name, on the host.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/cuda/args.h"

namespace clary::emulation {

// False: there is no such kernel.
bool run(const char* kernel, uint32_t blocks, uint32_t threads, size_t shared_bytes, const cuda::QuantiseArgs& args);
bool run(const char* kernel, uint32_t blocks, uint32_t threads, size_t shared_bytes, const cuda::AttentionArgs& args);

}  // namespace clary::emulation
