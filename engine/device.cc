// Probes. CPU: instruction sets that both the core and the operating system provide. GPU: what the driver says of it.
#include "device.h"

#include <cstring>

#include "engine/cuda/gpu.h"
#include "engine/cuda/planning.h"
#include "engine/env.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace clary {
namespace {

#if defined(__x86_64__)
uint64_t xcr0() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

// Linux hands out the AMX tile registers on request only (Documentation/arch/x86/xstate.rst).
bool request_amx() {
  constexpr long kArchReqXcompPerm = 0x1023, kXfeatureTiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTiledata) == 0;
}

void probe(Device* d) {
  uint32_t a, b, c, dx;
  if (!__get_cpuid_count(1, 0, &a, &b, &c, &dx)) return;
  const bool osxsave = c >> 27 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
  const uint64_t state = osxsave ? xcr0() : 0;
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  uint32_t b7, c7, d7, a71, b71, c71, d71;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return;
  if (!__get_cpuid_count(7, 1, &a71, &b71, &c71, &d71)) a71 = 0;
  uint32_t f = 0;
  if (ymm && fma && f16c && (b7 >> 5 & 1)) f |= kAvx2;
  if ((f & kAvx2) && (a71 >> 4 & 1)) f |= kAvxVnni;
  const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // F DQ CD BW VL
  if ((f & kAvx2) && zmm && (b7 & avx512) == avx512) {
    f |= kAvx512;
    if (c7 >> 11 & 1) f |= kAvx512Vnni;
    if (c7 >> 1 & 1) f |= kAvx512Vbmi;
    if (a71 >> 5 & 1) f |= kAvx512Bf16;
    if (tiles && (d7 >> 24 & 1) && (d7 >> 25 & 1) && request_amx()) f |= kAmxInt8;
  }
  d->cpu_features = f;
  uint32_t brand[12];
  for (uint32_t i = 0; i < 3; i++)
    if (!__get_cpuid(0x80000002u + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2], &brand[4 * i + 3])) return;
  std::memcpy(d->name, brand, 48);
}
#elif defined(__aarch64__)
void probe(Device* d) {
  constexpr unsigned long kHwcapAsimdDp = 1ul << 20, kHwcap2I8mm = 1ul << 13;
  uint32_t f = kNeon;
  if (getauxval(AT_HWCAP) & kHwcapAsimdDp) {
    f |= kNeonDot;
    if (getauxval(AT_HWCAP2) & kHwcap2I8mm) f |= kNeonI8mm;
  }
  d->cpu_features = f;
  std::strcpy(d->name, "aarch64");
}
#else
void probe(Device*) {}
#endif

Device make() {
  Device d;
  probe(&d);
  return d;
}

Status known_gpu(const char* name, Device* device) {
  for (const Device& d : cuda::known_gpus())
    if (std::strcmp(d.name, name) == 0) return *device = d, Status();
  return Status::error(CLARY_INVALID_ARGUMENT,
                       "engine/cuda/planning.cc lists them: T4, A100 80GB, RTX 4090, H200 and so on.",
                       "CLARY_DEVICE names no known GPU: \"%.60s\"", name);
}

}  // namespace

const Device& cpu_device() {
  static const Device device = make();
  return device;
}

Status find_device(int32_t type, int32_t id, Device* device) {
  if (type == CLARY_CPU) return *device = cpu_device(), Status();
  if (env().device[0]) return known_gpu(env().device, device);
  const cuda::Gpu* gpu = nullptr;
  if (Status s = cuda::gpu(id, &gpu); !s) return s;
  *device = {};
  device->type = CLARY_CUDA;
  std::memcpy(device->name, gpu->name, sizeof device->name);
  device->capability = 10 * gpu->major + gpu->minor;
  device->multiprocessors = gpu->multiprocessors;
  device->shared_per_block = gpu->shared_per_block;
  device->shared_per_multiprocessor = gpu->shared_per_multiprocessor;
  device->clock = gpu->clock / 1000;
  device->bandwidth = static_cast<int>(int64_t{2} * gpu->memory_clock * (gpu->memory_bus / 8) / 1000000);
  return {};
}

}  // namespace clary
