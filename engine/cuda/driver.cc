// Opening the driver and saying what is wrong with it.
#include "engine/cuda/driver.h"

#include <dlfcn.h>

#include <cstring>
#include <mutex>

#include "engine/cuda/queue.h"

namespace clary::cuda {
namespace {

// cuGetProcAddress_v2, CUDA 12.0: (symbol, address out, version, flags, what became of the query out).
using GetProcAddress = Result (*)(const char*, void**, int, uint64_t, int*);

struct Loaded {
  std::once_flag once;
  Status status;
  Driver driver;
  GetProcAddress get = nullptr;
};

const char* path = "libcuda.so.1";
Loaded* loaded = new Loaded;  // never destroyed: the driver may be called from other destructors

void* find(const char* symbol, int version) {
  void* address = nullptr;
  int query = 0;
  return loaded->get && loaded->get(symbol, &address, version, 0, &query) == kSuccess ? address : nullptr;
}

Status too_old(int version) {
  return Status::error(CLARY_NO_DEVICE, "Install NVIDIA driver 525 or newer.",
                       "the NVIDIA driver supports CUDA %d.%d; clary needs %d.%d", version / 1000, version % 1000 / 10,
                       kMinDriver / 1000, kMinDriver % 1000 / 10);
}

Status open(Driver* d, GetProcAddress* get) {
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* why = dlerror();
    return Status::error(CLARY_NO_DEVICE,
                         "Install the NVIDIA driver, or in a container start it with the GPU (--gpus all).",
                         "no NVIDIA driver: %.180s", why ? why : path);
  }
  const auto symbol = [&](const char* name) { return dlsym(handle, name); };
  const auto version = reinterpret_cast<Result (*)(int*)>(symbol("cuDriverGetVersion"));
  int number = 0;
  if (!version || version(&number) != kSuccess)
    return Status::error(CLARY_NO_DEVICE, "Reinstall the NVIDIA driver.", "%.60s is not a CUDA driver", path);
  if (number < kMinDriver) return too_old(number);
  *get = reinterpret_cast<GetProcAddress>(symbol("cuGetProcAddress_v2"));
  if (!*get) return too_old(number);
  const char* missing = nullptr;
#define CLARY_RESOLVE(member, name, since, parameters)                   \
  d->member = reinterpret_cast<decltype(d->member)>(find(#name, since)); \
  if (!d->member) missing = #name;
  CLARY_DRIVER_FUNCTIONS(CLARY_RESOLVE)
  if (missing)
    return Status::error(CLARY_NO_DEVICE, "Reinstall the NVIDIA driver.", "the NVIDIA driver (CUDA %d.%d) has no %s",
                         number / 1000, number % 1000 / 10, missing);
  missing = nullptr;
  CLARY_GRAPH_FUNCTIONS(CLARY_RESOLVE)
  d->graphs = !missing && number >= kMinDependentLaunch;
#undef CLARY_RESOLVE
  d->find = find;
  d->version = number;
  if (const Result r = d->init(0); r != kSuccess) return driver_status(*d, r, "starting CUDA");
  return {};
}

}  // namespace

Status load_driver(const Driver** driver) {
  Loaded* const l = loaded;
  std::call_once(l->once, [l] { l->status = open(&l->driver, &l->get); });
  *driver = &l->driver;
  return l->status;
}

bool is_sticky(Result r) {
  // 702 launch timeout, 709 context destroyed, 714 hardware stack, 715 illegal instruction, 716 misaligned address, 717 address
  // space, 718 invalid pc, 719 launch failed, 720 cooperative launch too large is not one
  return r == kIllegalAddress || r == kEccUncorrectable || r == 702 || r == 709 || (r >= 714 && r <= 719);
}

Status driver_status(const Driver& d, Result r, const char* doing) {
  if (r == kSuccess) return {};
  const char* name = nullptr;
  if (!d.error_name || d.error_name(r, &name) != kSuccess || !name) name = "unknown error";
  if (is_sticky(r))
    return Status::error(
        CLARY_DEVICE_ERROR,
        "Restart the process; CUDA_LAUNCH_BLOCKING=1 or compute-sanitizer finds the kernel that failed.",
        "the GPU was already in an error state while %s: earlier work failed (%s)", doing, name);
  switch (r) {
    case kOutOfMemory:
      return Status::error(CLARY_OUT_OF_MEMORY, "Free GPU memory and call again.", "out of GPU memory while %s", doing);
    case kNoDevice:
      return Status::error(CLARY_NO_DEVICE, "Check nvidia-smi and CUDA_VISIBLE_DEVICES.", "the driver sees no GPU");
    case kInvalidDevice:
      return Status::error(CLARY_NO_DEVICE, "Check the device number and CUDA_VISIBLE_DEVICES.", "no such GPU while %s",
                           doing);
    case kNotInitialized:
      return Status::error(CLARY_DEVICE_ERROR, "CUDA does not survive fork(): start worker processes with spawn.",
                           "CUDA is not initialised in this process (%s while %s)", name, doing);
    case kDeinitialized:
      return Status::error(CLARY_DEVICE_ERROR, "Do not call into clary from destructors that run at exit.",
                           "the CUDA driver is shutting down (%s)", name);
    case kSystemDriverMismatch:
    case kCompatNotSupportedOnDevice:
      return Status::error(CLARY_NO_DEVICE,
                           "Load the kernel module of this driver version (restart), or remove the compat libcuda.",
                           "the driver's library and kernel module do not fit together (%s)", name);
    case kNoBinaryForGpu:
    case kInvalidPtx:
    case kInvalidImage:
    case kJitCompilerNotFound:
    case kUnsupportedPtxVersion:
      return Status::error(CLARY_NOT_SUPPORTED, "Update the NVIDIA driver, or clary.",
                           "the driver (CUDA %d.%d) failed while %s: %s", d.version / 1000, d.version % 1000 / 10,
                           doing, name);
    default:
      return Status::error(CLARY_DEVICE_ERROR, "", "the driver failed while %s: %s (%d)", doing, name, r);
  }
}

void set_driver_for_test(const char* test_path) {
  reset_gpus();
  reset_queues();
  path = test_path ? test_path : "libcuda.so.1";
  delete loaded;
  loaded = new Loaded;
}

}  // namespace clary::cuda
