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
  *status = fake.capturing;
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
// The books of one launch, by whoever holds the mutex.
void note(Kernel kernel, uint32_t grid, uint32_t cluster, Stream stream, void* const* parameters) {
  std::snprintf(fake.last_kernel, sizeof fake.last_kernel, "%s",
                kernels[reinterpret_cast<size_t>(kernel) - 1].name.c_str());
  if (fake.launches < 8) {
    std::memcpy(fake.kernels[fake.launches], fake.last_kernel, sizeof fake.last_kernel);
    fake.streams[fake.launches] = stream;
    fake.clusters[fake.launches] = cluster;
    std::memcpy(&fake.arguments[fake.launches], parameters[0], sizeof fake.arguments[0]);
  }
  fake.launches++;
  fake.last_grid = grid;
  fake.last_device_of_launch = static_cast<int>(reinterpret_cast<intptr_t>(stack.back()) - 0x1000);
}
Result launch(const LaunchConfig* config, Function function, void** parameters, void**) {
  CLARY_ORDERED("cuLaunchKernelEx");
  if (stack.empty()) return kInvalidContext;
  const std::lock_guard lock(mutex);
  uint32_t cluster = 1;
  for (uint32_t i = 0; i < config->attribute_count; i++)
    if (config->attributes[i].id == kClusterDimension) cluster = config->attributes[i].value.size[0];
  if (config->grid[0] % cluster != 0) return kInvalidValue;
  note(reinterpret_cast<Kernel>(function), config->grid[0], cluster, config->stream, parameters);
  fake.last_attributes = static_cast<int>(config->attribute_count);
  return kSuccess;
}

// ---- graphs: a line of kernels each; a graph, its nodes and its executable are one object ---------------------------------

struct FakeNode {
  size_t graph;
  Kernel kernel;
  uint32_t grid, cluster;
  uint64_t argument;
};
std::vector<std::vector<FakeNode*>> graphs;

Result capture_mode(int32_t* mode) {
  CLARY_ORDERED("cuThreadExchangeStreamCaptureMode");
  static thread_local int32_t own = 0;
  std::swap(own, *mode);
  return kSuccess;
}
Result stream_context(Stream, Context* context) {
  CLARY_ORDERED("cuStreamGetCtx");
  *context = fake.other_context || stack.empty() ? nullptr : stack.back();
  return kSuccess;
}
Result stream_priority(Stream, int* priority) {
  CLARY_ORDERED("cuStreamGetPriority");
  *priority = fake.priority;
  return kSuccess;
}
Result graph_create(Graph* graph, uint32_t) {
  CLARY_ORDERED("cuGraphCreate");
  const std::lock_guard lock(mutex);
  graphs.emplace_back();
  *graph = reinterpret_cast<Graph>(graphs.size());
  return kSuccess;
}
void fill(FakeNode* node, const KernelNode* k) {
  node->kernel = k->kernel;
  node->grid = k->grid[0];
  std::memcpy(&node->argument, k->parameters[0], sizeof node->argument);
}
Result graph_add_kernel(GraphNode* node, Graph graph, const GraphNode*, size_t, const KernelNode* kernel) {
  CLARY_ORDERED("cuGraphAddKernelNode");
  const std::lock_guard lock(mutex);
  const size_t at = reinterpret_cast<size_t>(graph) - 1;
  FakeNode* fresh = graphs[at].emplace_back(new FakeNode{at, nullptr, 0, 1, 0});
  fill(fresh, kernel);
  *node = reinterpret_cast<GraphNode>(fresh);
  return kSuccess;
}
Result graph_set_attribute(GraphNode node, int32_t id, const void* value) {
  CLARY_ORDERED("cuGraphKernelNodeSetAttribute");
  if (id == kClusterDimension)
    std::memcpy(&reinterpret_cast<FakeNode*>(node)->cluster, value, sizeof(uint32_t));
  else
    fake.graph_priorities++;
  return kSuccess;
}
// REQUIRES each node to come right after the one before it in the graph: then launching them in order is what the edges say.
Result graph_add_edges(Graph graph, const GraphNode* from, const GraphNode* to, const GraphEdge* edges, size_t count) {
  CLARY_ORDERED("cuGraphAddDependencies");
  const std::lock_guard lock(mutex);
  const auto& own = graphs[reinterpret_cast<size_t>(graph) - 1];
  for (size_t i = 0; i < count; i++) {
    const auto at = std::find(own.begin(), own.end(), reinterpret_cast<FakeNode*>(from[i]));
    if (at == own.end() || at + 1 == own.end() || *(at + 1) != reinterpret_cast<FakeNode*>(to[i])) return kInvalidValue;
    fake.graph_edges += edges[i].type;
  }
  return kSuccess;
}
Result graph_instantiate(GraphExec* exec, Graph graph, uint64_t) {
  CLARY_ORDERED("cuGraphInstantiateWithFlags");
  fake.graphs++;
  *exec = reinterpret_cast<GraphExec>(graph);
  return kSuccess;
}
Result graph_set_kernel(GraphExec exec, GraphNode node, const KernelNode* kernel) {
  CLARY_ORDERED("cuGraphExecKernelNodeSetParams");
  const std::lock_guard lock(mutex);
  auto* own = reinterpret_cast<FakeNode*>(node);
  if (own->graph != reinterpret_cast<size_t>(exec) - 1) return kInvalidValue;
  fill(own, kernel);
  return kSuccess;
}
Result graph_launch(GraphExec exec, Stream stream) {
  CLARY_ORDERED("cuGraphLaunch");
  if (stack.empty()) return kInvalidContext;
  const std::lock_guard lock(mutex);
  for (FakeNode* node : graphs[reinterpret_cast<size_t>(exec) - 1]) {
    void* parameter = &node->argument;
    if (node->grid % node->cluster != 0) return kInvalidValue;
    note(node->kernel, node->grid, node->cluster, stream, &parameter);
  }
  fake.graph_launches++;
  return kSuccess;
}
Result graph_destroy(Graph) { return kSuccess; }

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
      CLARY_DRIVER_FUNCTIONS(CLARY_ROW) CLARY_GRAPH_FUNCTIONS(CLARY_ROW)
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
