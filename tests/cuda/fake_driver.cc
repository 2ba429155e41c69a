// A libcuda.so.1 that drives nothing: it keeps the books of contexts, libraries and launches, and fails where the test says so.
#include "fake_driver.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "engine/cuda/driver.h"

using namespace clary::cuda;

namespace {

clary::test::FakeDriver fake;
std::mutex mutex;
thread_local std::vector<Context> stack;
std::vector<bool> library_is_ptx;
struct FakeKernel {
  size_t library;
  std::string name;
};
std::vector<FakeKernel> kernels;
int calls_before_failure;

Context context_of(DeviceHandle device) { return reinterpret_cast<Context>(static_cast<intptr_t>(0x1000 + device)); }

// The result `symbol` gives by order of the test.
Result ordered(const char* symbol) {
  const std::lock_guard lock(mutex);
  return std::strcmp(fake.fails, symbol) == 0 && calls_before_failure++ >= fake.fails_after ? fake.fails_with
                                                                                            : kSuccess;
}

#define CLARY_ORDERED(symbol) \
  if (const Result r = ordered(symbol); r != kSuccess) return r

Result init(uint32_t) {
  CLARY_ORDERED("cuInit");
  fake.inits++;
  return kSuccess;
}
Result driver_version(int* version) {
  *version = fake.version;
  return kSuccess;
}
Result device_count(int* count) {
  CLARY_ORDERED("cuDeviceGetCount");
  *count = fake.devices;
  return kSuccess;
}
Result device_get(DeviceHandle* device, int ordinal) {
  *device = ordinal;
  return kSuccess;
}
Result device_attribute(int* value, int32_t attribute, DeviceHandle device) {
  CLARY_ORDERED("cuDeviceGetAttribute");
  switch (attribute) {
    case kMajor:
      *value = fake.capability[device] / 10;
      break;
    case kMinor:
      *value = fake.capability[device] % 10;
      break;
    case kSharedPerBlockOptin:
      *value = 227 << 10;
      break;
    case kSharedPerMultiprocessor:
      *value = 228 << 10;
      break;
    case kClock:
    case kMemoryClock:
      *value = 1980000;
      break;
    case kMemoryBusWidth:
      *value = 6144;
      break;
    default:
      *value = 100;
  }
  return kSuccess;
}
Result device_name(char* name, int length, DeviceHandle) {
  std::strncpy(name, "Fake GPU", static_cast<size_t>(length));
  return kSuccess;
}
Result primary_retain(Context* context, DeviceHandle device) {
  CLARY_ORDERED("cuDevicePrimaryCtxRetain");
  const std::lock_guard lock(mutex);
  fake.retains++;
  *context = context_of(device);
  return kSuccess;
}
Result context_current(Context* context) {
  CLARY_ORDERED("cuCtxGetCurrent");
  *context = stack.empty() ? nullptr : stack.back();
  return kSuccess;
}
Result context_push(Context context) {
  CLARY_ORDERED("cuCtxPushCurrent");
  stack.push_back(context);
  const std::lock_guard lock(mutex);
  fake.pushes++;
  return kSuccess;
}
Result context_pop(Context* context) {
  if (stack.empty()) return kInvalidContext;
  *context = stack.back();
  stack.pop_back();
  const std::lock_guard lock(mutex);
  fake.pops++;
  return kSuccess;
}
Result stream_capturing(Stream, int* status) {
  CLARY_ORDERED("cuStreamIsCapturing");
  *status = 0;
  return kSuccess;
}
Result library_load(Library* library, const void* code, const int32_t*, void**, uint32_t, const int32_t*, void**,
                    uint32_t) {
  CLARY_ORDERED("cuLibraryLoadData");
  {
    const std::lock_guard lock(mutex);
    fake.most_concurrent = std::max(fake.most_concurrent, ++fake.concurrent);
  }
  usleep(2000);
  const std::lock_guard lock(mutex);
  fake.concurrent--;
  fake.loads++;
  const bool ptx = std::memcmp(code,
                               "\x7f"
                               "ELF",
                               4) != 0;
  fake.ptx_loads += ptx;
  library_is_ptx.push_back(ptx);
  *library = reinterpret_cast<Library>(library_is_ptx.size());
  return kSuccess;
}
Result library_unload(Library) { return kSuccess; }
Result library_kernel(Kernel* kernel, Library library, const char* name) {
  CLARY_ORDERED("cuLibraryGetKernel");
  if (std::strcmp(name, "no_such_kernel") == 0) return kNotFound;
  const std::lock_guard lock(mutex);
  fake.lookups++;
  kernels.push_back({reinterpret_cast<size_t>(library) - 1, name});
  *kernel = reinterpret_cast<Kernel>(kernels.size());
  return kSuccess;
}
Result kernel_function(Function* function, Kernel kernel) {
  CLARY_ORDERED("cuKernelGetFunction");
  if (stack.empty()) return kInvalidContext;
  const std::lock_guard lock(mutex);
  if (fake.no_binary && !library_is_ptx[kernels[reinterpret_cast<size_t>(kernel) - 1].library]) return kNoBinaryForGpu;
  fake.functions++;
  *function = reinterpret_cast<Function>(kernel);
  return kSuccess;
}
Result kernel_attribute(int32_t, int, Kernel, DeviceHandle) {
  CLARY_ORDERED("cuKernelSetAttribute");
  return kSuccess;
}
Result launch(const LaunchConfig* config, Function function, void**, void**) {
  CLARY_ORDERED("cuLaunchKernelEx");
  if (stack.empty()) return kInvalidContext;
  const std::lock_guard lock(mutex);
  std::snprintf(fake.last_kernel, sizeof fake.last_kernel, "%s",
                kernels[reinterpret_cast<size_t>(function) - 1].name.c_str());
  if (fake.launches < 8) {
    std::memcpy(fake.kernels[fake.launches], fake.last_kernel, sizeof fake.last_kernel);
    fake.streams[fake.launches] = config->stream;
    uint32_t& cluster = fake.clusters[fake.launches] = 1;
    for (uint32_t i = 0; i < config->attribute_count; i++)
      if (config->attributes[i].id == kClusterDimension) cluster = config->attributes[i].value.size[0];
    if (config->grid[0] % cluster != 0) return kInvalidValue;
  }
  fake.launches++;
  fake.last_grid = config->grid[0];
  fake.last_attributes = static_cast<int>(config->attribute_count);
  fake.last_device_of_launch = static_cast<int>(reinterpret_cast<intptr_t>(stack.back()) - 0x1000);
  return kSuccess;
}
Result error_name(Result, const char** name) {
  *name = "CUDA_ERROR_FAKE";
  return kSuccess;
}

}  // namespace

#define CLARY_EXPORT extern "C" __attribute__((visibility("default")))

CLARY_EXPORT clary::test::FakeDriver* fake_driver() { return &fake; }
// All settings to a machine with one GPU of capability 9.0 and CUDA 12.4.
CLARY_EXPORT void fake_driver_reset() {
  const std::lock_guard lock(mutex);
  fake = {};
  fake.version = 12040;
  fake.devices = 1;
  for (int& c : fake.capability) c = 90;
  calls_before_failure = 0;
}
CLARY_EXPORT int fake_context_depth() { return static_cast<int>(stack.size()); }

CLARY_EXPORT Result cuDriverGetVersion(int* version) { return driver_version(version); }
// Leaves out what the test says is missing; asked for a version it does not know, it answers as the real one: not found.
CLARY_EXPORT Result cuGetProcAddress_v2(const char* symbol, void** address, int version, uint64_t, int*) {
  static const struct {
    const char* name;
    int since;
    void* address;
  } kTable[] = {
#define CLARY_ROW(member, symbol, since, parameters) \
  {#symbol, since, reinterpret_cast<void*>(static_cast<Result(*) parameters>(member))},
      CLARY_DRIVER_FUNCTIONS(CLARY_ROW)
#undef CLARY_ROW
  };
  for (const auto& row : kTable)
    if (std::strcmp(row.name, symbol) == 0 && version >= row.since && std::strcmp(symbol, fake.missing) != 0) {
      *address = row.address;
      return kSuccess;
    }
  *address = nullptr;
  return kNotFound;
}
