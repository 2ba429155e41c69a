// First use of devices, images and kernels, under one lock; afterwards a lookup.
#include "engine/cuda/gpu.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/cuda/image.h"

namespace clary::cuda {
namespace {

constexpr int kMaxGpus = 64;

struct LoadedKernel {
  char name[40];
  Kernel kernel;
  uint64_t ready = 0;  // bit per device on which its code is loaded
};
// What find_kernel() has answered before.
struct FoundKernel {
  int ordinal, ptx;
  const char* image;  // the archive's
  char name[40];
  Kernel kernel;
};
struct LoadedImage {
  const ImageEntry* entry;
  Library library;
  std::vector<LoadedKernel> kernels;
};

// What every device has loaded. Never destroyed: the driver may be gone before static destructors run.
struct State {
  std::mutex mutex;
  int count = -1;
  std::array<std::unique_ptr<Gpu>, kMaxGpus> gpus;
  std::array<Context, kMaxGpus> contexts = {};
  std::vector<LoadedImage> images;
  std::vector<FoundKernel> found;
};
State* state = new State;

Status count_locked(const Driver& d, State& s) {
  if (s.count >= 0) return {};
  int n = 0;
  if (const Result r = d.device_count(&n); r != kSuccess) return driver_status(d, r, "counting GPUs");
  s.count = n < kMaxGpus ? n : kMaxGpus;
  return {};
}

Status probe(const Driver& d, int ordinal, Gpu* g) {
  g->ordinal = ordinal;
  const struct {
    DeviceAttribute attribute;
    int* value;
  } kWanted[] = {{kMajor, &g->major},
                 {kMinor, &g->minor},
                 {kMultiprocessors, &g->multiprocessors},
                 {kSharedPerBlockOptin, &g->shared_per_block},
                 {kSharedPerMultiprocessor, &g->shared_per_multiprocessor},
                 {kL2Size, &g->l2_size},
                 {kClock, &g->clock},
                 {kMemoryClock, &g->memory_clock},
                 {kMemoryBusWidth, &g->memory_bus}};
  Result r = d.device_get(&g->handle, ordinal);
  for (const auto& w : kWanted)
    if (r == kSuccess) r = d.device_attribute(w.value, w.attribute, g->handle);
  if (r == kSuccess) r = d.device_name(g->name, sizeof g->name, g->handle);
  return driver_status(d, r, "asking what the GPU is");
}

// The context of a GPU that gpu() has answered with, retained once.
Status retain(const Driver& d, State& s, int ordinal, Context* context) {
  const std::lock_guard lock(s.mutex);
  const auto i = static_cast<size_t>(ordinal);
  if (!s.contexts[i]) {
    Context fresh = nullptr;
    if (const Result r = d.primary_retain(&fresh, s.gpus[i]->handle); r != kSuccess)
      return driver_status(d, r, "opening the GPU");
    s.contexts[i] = fresh;
  }
  *context = s.contexts[i];
  return {};
}

Status load_image(const Driver& d, State& s, const ImageEntry& entry, LoadedImage** image) {
  for (LoadedImage& i : s.images)
    if (i.entry == &entry) return *image = &i, Status();
  const std::vector<char> code = embedded_images().unpack(entry);
  if (code.empty())
    return Status::error(CLARY_INTERNAL, "Reinstall clary.", "the GPU code \"%s\" is damaged", entry.name);
  Library library = nullptr;
  const Result r = d.library_load(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  if (r != kSuccess) return driver_status(d, r, "loading GPU code");
  s.images.push_back({&entry, library, {}});
  *image = &s.images.back();
  return {};
}

// The kernel of one image; its code is on the device afterwards, so that a launch can no longer fail for want of it.
Status load_kernel(const Driver& d, State& s, const Gpu& g, const ImageEntry& entry, const char* name,
                   uint32_t shared_bytes, uint32_t cluster, Kernel* kernel) {
  LoadedImage* image = nullptr;
  if (Status status = load_image(d, s, entry, &image); !status) return status;
  LoadedKernel* found = nullptr;
  for (LoadedKernel& k : image->kernels)
    if (std::strcmp(k.name, name) == 0) found = &k;
  if (!found) {
    Kernel handle = nullptr;
    if (const Result r = d.library_kernel(&handle, image->library, name); r != kSuccess)
      return driver_status(d, r, "looking up a kernel");
    found = &image->kernels.emplace_back();
    std::snprintf(found->name, sizeof found->name, "%s", name);
    found->kernel = handle;
  }
  const uint64_t bit = 1ull << g.ordinal;
  if (!(found->ready & bit)) {
    Function function = nullptr;
    if (const Result r = d.kernel_function(&function, found->kernel); r != kSuccess)
      return driver_status(d, r, "loading GPU code");
    constexpr uint32_t kSharedByDefault = 48 << 10;  // more has to be asked for
    if (shared_bytes > kSharedByDefault) {
      const auto bytes = static_cast<int>(shared_bytes);
      if (const Result r = d.kernel_attribute(kMaxDynamicShared, bytes, found->kernel, g.handle); r != kSuccess)
        return driver_status(d, r, "asking for shared memory");
    }
    constexpr uint32_t kClusterByDefault = 8;
    if (cluster > kClusterByDefault && g.major >= 9)
      if (const Result r = d.kernel_attribute(kLargeClusters, 1, found->kernel, g.handle); r != kSuccess)
        return driver_status(d, r, "asking for large clusters");
    found->ready |= bit;
  }
  *kernel = found->kernel;
  return {};
}

}  // namespace

Status gpu_count(int* count) {
  *count = 0;
  const Driver* d = nullptr;
  if (Status s = load_driver(&d); !s) return s;
  const std::lock_guard lock(state->mutex);
  if (Status s = count_locked(*d, *state); !s) return s;
  *count = state->count;
  return {};
}

Status gpu(int ordinal, const Gpu** result) {
  const Driver* d = nullptr;
  if (Status s = load_driver(&d); !s) return s;
  State& s = *state;
  const std::lock_guard lock(s.mutex);
  if (Status status = count_locked(*d, s); !status) return status;
  if (ordinal < 0 || ordinal >= s.count)
    return Status::error(CLARY_NO_DEVICE, "Check the device number and CUDA_VISIBLE_DEVICES.",
                         "no GPU %d; the driver shows %d", ordinal, s.count);
  std::unique_ptr<Gpu>& slot = s.gpus[static_cast<size_t>(ordinal)];
  if (!slot) {
    auto fresh = std::make_unique<Gpu>();
    if (Status status = probe(*d, ordinal, fresh.get()); !status) return status;
    slot = std::move(fresh);
  }
  *result = slot.get();
  return {};
}

Status CurrentGpu::enter(const Gpu& g, Stream stream) {
  const Driver* d = nullptr;
  if (Status s = load_driver(&d); !s) return s;
  Context context = nullptr, now = nullptr;
  if (Status s = retain(*d, *state, g.ordinal, &context); !s) return s;
  Result r = d->context_current(&now);
  if (r == kSuccess && now != context) {
    r = d->context_push(context);
    pushed_ = r == kSuccess;
  }
  int capturing = 0;
  if (r == kSuccess) r = d->stream_capturing(stream, &capturing);  // the cheapest call that reports what failed before
  return driver_status(*d, r, "entering the GPU's context");
}

CurrentGpu::~CurrentGpu() {
  const Driver* d = nullptr;
  Context popped = nullptr;
  if (pushed_ && load_driver(&d)) d->context_pop(&popped);
}

Status find_kernel(const Gpu& g, const char* image, const char* name, Kernel* kernel, uint32_t shared_bytes,
                   uint32_t cluster) {
  const Driver* d = nullptr;
  if (Status s = load_driver(&d); !s) return s;
  const std::lock_guard lock(state->mutex);
  for (const FoundKernel& f : state->found)
    if (f.ordinal == g.ordinal && f.ptx == g.ptx && std::strcmp(f.name, name) == 0 && std::strcmp(f.image, image) == 0)
      return *kernel = f.kernel, Status();
  const Archive::Candidates candidates =
      g.ptx ? embedded_images().find(image, g.ptx / 10, g.ptx % 10) : embedded_images().find(image, g.major, g.minor);
  if (candidates.count == 0)
    return Status::error(CLARY_NOT_SUPPORTED, "clary needs a GPU of compute capability 7.5 or newer.",
                         "%s (compute capability %d.%d) is older than any GPU code in this build", g.name, g.major,
                         g.minor);
  Status last;
  for (int i = 0; i < candidates.count; i++) {
    const ImageEntry& entry = *candidates.entries[i];
    if (g.ptx && entry.kind != ImageKind::kPtx) continue;
    last = load_kernel(*d, *state, g, entry, name, shared_bytes, cluster, kernel);
    if (last) {
      FoundKernel& f = state->found.emplace_back(FoundKernel{g.ordinal, g.ptx, entry.name, {}, *kernel});
      std::snprintf(f.name, sizeof f.name, "%s", name);
    }
    if (last || last.code() != CLARY_NOT_SUPPORTED) return last;
  }
  return Status::error(
      CLARY_NOT_SUPPORTED, "Update the NVIDIA driver, or clary.",
      "no GPU code for %s (compute capability %d.%d), %s: %.100s", g.name, g.major, g.minor,
      candidates.entries[candidates.count - 1]->kind == ImageKind::kPtx ? "PTX included" : "and no PTX",
      last ? "none for this code path" : last.message());
}

LaunchAttribute cluster_attribute(uint32_t blocks) {
  LaunchAttribute cluster = {};
  cluster.id = kClusterDimension;
  cluster.value.size[0] = blocks;
  cluster.value.size[1] = cluster.value.size[2] = 1;
  return cluster;
}

bool can_overlap(const Driver& driver, const Gpu& gpu) {
  return gpu.major >= 9 && driver.version >= kMinDependentLaunch;
}

Status launch(const Gpu& g, Stream stream, const Launch& l, const void* arguments) {
  if (l.grid == 0) return {};
  const Driver* d = nullptr;
  if (Status s = load_driver(&d); !s) return s;
  LaunchAttribute attributes[2] = {};
  LaunchConfig config = {{l.grid, 1, 1}, {l.block, 1, 1}, l.shared_bytes, stream, attributes, 0};
  if (l.overlap && can_overlap(*d, g)) {
    LaunchAttribute& overlap = attributes[config.attribute_count++];
    overlap.id = kProgrammaticSerialization;
    overlap.value.flag = 1;
  }
  if (l.cluster > 1) attributes[config.attribute_count++] = cluster_attribute(l.cluster);
  void* parameter = const_cast<void*>(arguments);
  // A CUkernel stands for the CUfunction of the current context (CUDA driver API, cuLaunchKernelEx).
  return driver_status(*d, d->launch(&config, reinterpret_cast<Function>(l.kernel), &parameter, nullptr),
                       "launching a kernel");
}

void reset_gpus() {
  delete state;
  state = new State;
}

}  // namespace clary::cuda
