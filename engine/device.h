// What there is. A real probe and a fake constructor: the planner sees only this, so any machine can be planned for on any
// other.
#pragma once
#include <cstdint>

#include "clary/clary.h"
#include "status.h"

namespace clary {

enum CpuFeature : uint32_t {
  kAvx2 = 1u << 0,  // with FMA and F16C
  kAvxVnni = 1u << 1,
  kAvx512 = 1u << 2,  // F, BW, DQ, VL, CD
  kAvx512Vnni = 1u << 3,
  kAvx512Vbmi = 1u << 4,
  kAvx512Bf16 = 1u << 5,
  kAmxInt8 = 1u << 6,
  kNeon = 1u << 7,
  kNeonDot = 1u << 8,
  kNeonI8mm = 1u << 9,
};

struct Device {
  int32_t type = CLARY_CPU;  // clary_device_type
  uint32_t cpu_features = 0;
  char name[64] = {0};

  // Of a GPU; zero elsewhere.
  int capability = 0;  // 10 * major + minor
  int multiprocessors = 0;
  int shared_per_block = 0, shared_per_multiprocessor = 0;  // bytes
  int clock = 0;                                            // MHz, the highest
  int bandwidth = 0;                                        // GB/s of its memory

  static Device fake_cpu(uint32_t features) {
    Device d;
    d.cpu_features = features;
    return d;
  }
};

// The machine's CPU, probed once (cpuid and xgetbv, or the auxiliary vector).
const Device& cpu_device();

// The device of clary_device_type `type` and number `id`: the CPU, or a GPU as its driver describes it, without a context there;
// with CLARY_DEVICE the GPU of that name (cuda/planning.h), which is then good for planning only.
Status find_device(int32_t type, int32_t id, Device* device);

}  // namespace clary
