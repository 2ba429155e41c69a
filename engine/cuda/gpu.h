// The GPUs of this machine and what is loaded on them: primary contexts, libraries, kernels. Filled on demand, kept for good.
#pragma once
#include <cstdint>

#include "engine/cuda/driver.h"

namespace clary::cuda {

struct Gpu {
  int ordinal = -1;
  DeviceHandle handle = 0;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int shared_per_block = 0, shared_per_multiprocessor = 0, l2_size = 0;  // bytes
  int clock = 0, memory_clock = 0;                                       // kHz, the highest
  int memory_bus = 0;                                                    // bits
  int ptx =
      0;  // not 0: its kernels come from the newest PTX for this compute capability (75: sm_75's code on any card)
  char name[64] = {0};
};

// Number of GPUs the driver shows (CUDA_VISIBLE_DEVICES applies).
Status gpu_count(int* count);
// What GPU `ordinal` is; makes no context. The pointer stays valid. Any thread.
Status gpu(int ordinal, const Gpu** result);

// Makes a GPU's primary context (torch's too; retained by the first use) current for a scope and puts back what was there.
class CurrentGpu {
 public:
  CurrentGpu() = default;
  CurrentGpu(const CurrentGpu&) = delete;
  ~CurrentGpu();
  // Also where errors of earlier work come to light, before anything is launched: `stream` may be capturing.
  Status enter(const Gpu& gpu, Stream stream);

 private:
  bool pushed_ = false;
};

// Kernel `name` of image `image` ("any/quantise"), loaded for `gpu`: the best image it can run, compiled by the driver from PTX
// if there is no other. One CUlibrary per image, for all devices. `shared_bytes`: dynamic ones its launches take, `cluster`: blocks of a cluster they
// take at most; always as many.
// REQUIRES gpu to be current.
Status find_kernel(const Gpu& gpu, const char* image, const char* name, Kernel* kernel, uint32_t shared_bytes = 0,
                   uint32_t cluster = 1);

struct Launch {
  Kernel kernel;
  uint32_t grid;   // blocks; 0 launches nothing
  uint32_t block;  // threads
  uint32_t shared_bytes = 0;
  bool overlap = false;  // may start before the grid ahead of it ends (it then waits with griddepcontrol)
  uint32_t cluster = 1;  // blocks of a cluster, which divide the grid; past 1 from compute capability 9.0 on
};
// REQUIRES gpu to be current. `arguments` is the kernel's only parameter, copied by the driver.
Status launch(const Gpu& gpu, Stream stream, const Launch& launch, const void* arguments);
// What a launch of clusters asks for.
LaunchAttribute cluster_attribute(uint32_t blocks);
// Whether the GPU and its driver have what `overlap` asks for.
bool can_overlap(const Driver& driver, const Gpu& gpu);

// Tests only, while nothing else runs. See set_driver_for_test.
void reset_gpus();

}  // namespace clary::cuda
