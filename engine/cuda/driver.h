// The CUDA driver without linking it: hand-declared types, libcuda.so.1 opened on first use, entry points by version.
//
// Nothing here is included from the toolkit. Names and numbers are the driver API's (cuda.h); a function is asked for with
// cuGetProcAddress at the version whose signature is declared here, so a newer driver cannot answer with another one.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/status.h"

namespace clary::cuda {

using Result = int32_t;        // CUresult
using DeviceHandle = int32_t;  // CUdevice
using DevicePointer = uint64_t;
using Context = struct CUctx_st*;
using Stream = struct CUstream_st*;
using Library = struct CUlib_st*;
using Kernel = struct CUkern_st*;
using Function = struct CUfunc_st*;
using Graph = struct CUgraph_st*;
using GraphNode = struct CUgraphNode_st*;
using GraphExec = struct CUgraphExec_st*;

// CUresult, those that are told apart.
constexpr Result kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNotInitialized = 3, kDeinitialized = 4,
                 kNoDevice = 100, kInvalidDevice = 101, kInvalidImage = 200, kInvalidContext = 201,
                 kNoBinaryForGpu = 209, kEccUncorrectable = 214, kInvalidPtx = 218, kJitCompilerNotFound = 221,
                 kUnsupportedPtxVersion = 222, kNotFound = 500, kNotReady = 600, kIllegalAddress = 700,
                 kLaunchOutOfResources = 701, kSystemDriverMismatch = 803, kCompatNotSupportedOnDevice = 804;

// CUdevice_attribute.
enum DeviceAttribute : int32_t {
  kClock = 13,  // kHz, the highest
  kMultiprocessors = 16,
  kMemoryClock = 36,     // kHz
  kMemoryBusWidth = 37,  // bits
  kL2Size = 38,
  kMajor = 75,
  kMinor = 76,
  kSharedPerMultiprocessor = 81,
  kSharedPerBlockOptin = 97,
};

// CUlaunchAttribute and CUlaunchConfig.
struct LaunchAttribute {
  int32_t id;
  char pad[4];
  union {
    char raw[64];
    int32_t flag;
    uint32_t size[3];
  } value;
};
constexpr int32_t kClusterDimension = 4;           // blocks of a cluster in x, y, z
constexpr int32_t kProgrammaticSerialization = 6;  // the grid may start before the one ahead of it in the stream ends
constexpr int32_t kPriority = 8;                   // the stream's
constexpr int32_t kMaxDynamicShared = 8, kLargeClusters = 14;  // CUfunction_attribute
struct LaunchConfig {
  uint32_t grid[3], block[3];
  uint32_t shared_bytes;
  Stream stream;
  LaunchAttribute* attributes;
  uint32_t attribute_count;
};
// CUDA_KERNEL_NODE_PARAMS_v2 and CUgraphEdgeData.
struct KernelNode {
  Function function;  // null: kernel in context
  uint32_t grid[3], block[3];
  uint32_t shared_bytes;
  void** parameters;
  void** extra;
  Kernel kernel;
  Context context;
};
struct GraphEdge {
  uint8_t from_port, to_port, type;
  uint8_t reserved[5];
};
constexpr GraphEdge kWholeGrid = {}, kProgrammaticEdge = {1, 0, 1, {}};  // as kProgrammaticSerialization
constexpr int32_t kRelaxedCapture = 2;                                   // CUstreamCaptureMode
static_assert(sizeof(KernelNode) == 72 && offsetof(KernelNode, kernel) == 56 && sizeof(GraphEdge) == 8);
static_assert(sizeof(LaunchAttribute) == 72 && offsetof(LaunchConfig, stream) == 32 && sizeof(LaunchConfig) == 56);

// X(member, symbol, version of the signature, parameters). All exist from kMinDriver on.
#define CLARY_DRIVER_FUNCTIONS(X)                                                                                      \
  X(init, cuInit, 2000, (uint32_t flags))                                                                              \
  X(driver_version, cuDriverGetVersion, 2020, (int* version))                                                          \
  X(device_count, cuDeviceGetCount, 2000, (int* count))                                                                \
  X(device_get, cuDeviceGet, 2000, (DeviceHandle * device, int ordinal))                                               \
  X(device_attribute, cuDeviceGetAttribute, 2000, (int* value, int32_t attribute, DeviceHandle device))                \
  X(device_name, cuDeviceGetName, 2000, (char* name, int length, DeviceHandle device))                                 \
  X(primary_retain, cuDevicePrimaryCtxRetain, 7000, (Context * context, DeviceHandle device))                          \
  X(context_current, cuCtxGetCurrent, 4000, (Context * context))                                                       \
  X(context_push, cuCtxPushCurrent, 4000, (Context context))                                                           \
  X(context_pop, cuCtxPopCurrent, 4000, (Context * context))                                                           \
  X(stream_capturing, cuStreamIsCapturing, 10000, (Stream stream, int* status))                                        \
  X(library_load, cuLibraryLoadData, 12000,                                                                            \
    (Library * library, const void* code, const int32_t* jit_options, void** jit_values, uint32_t jit_count,           \
     const int32_t* options, void** values, uint32_t count))                                                           \
  X(library_unload, cuLibraryUnload, 12000, (Library library))                                                         \
  X(library_kernel, cuLibraryGetKernel, 12000, (Kernel * kernel, Library library, const char* name))                   \
  X(kernel_function, cuKernelGetFunction, 12000, (Function * function, Kernel kernel))                                 \
  X(kernel_attribute, cuKernelSetAttribute, 12000, (int32_t attribute, int value, Kernel kernel, DeviceHandle device)) \
  X(launch, cuLaunchKernelEx, 11060, (const LaunchConfig* config, Function function, void** parameters, void** extra)) \
  X(error_name, cuGetErrorName, 6000, (Result error, const char** name))

// The same for a graph of launches (queue.h). Null on a driver that lacks one of them.
#define CLARY_GRAPH_FUNCTIONS(X)                                                                                \
  X(capture_mode, cuThreadExchangeStreamCaptureMode, 10010, (int32_t* mode))                                    \
  X(stream_context, cuStreamGetCtx, 9020, (Stream stream, Context * context))                                   \
  X(stream_priority, cuStreamGetPriority, 5050, (Stream stream, int* priority))                                 \
  X(graph_create, cuGraphCreate, 10000, (Graph * graph, uint32_t flags))                                        \
  X(graph_add_kernel, cuGraphAddKernelNode, 12000,                                                              \
    (GraphNode * node, Graph graph, const GraphNode* after, size_t count, const KernelNode* kernel))            \
  X(graph_set_attribute, cuGraphKernelNodeSetAttribute, 11000, (GraphNode node, int32_t id, const void* value)) \
  X(graph_add_edges, cuGraphAddDependencies, 12030,                                                             \
    (Graph graph, const GraphNode* from, const GraphNode* to, const GraphEdge* edges, size_t count))            \
  X(graph_instantiate, cuGraphInstantiateWithFlags, 11040, (GraphExec * exec, Graph graph, uint64_t flags))     \
  X(graph_set_kernel, cuGraphExecKernelNodeSetParams, 12000,                                                    \
    (GraphExec exec, GraphNode node, const KernelNode* kernel))                                                 \
  X(graph_launch, cuGraphLaunch, 10000, (GraphExec exec, Stream stream))                                        \
  X(graph_destroy, cuGraphDestroy, 10000, (Graph graph))

constexpr int kMinDriver = 12000;           // CUDA 12.0: driver 525
constexpr int kMinDependentLaunch = 12030;  // from here on programmatic dependency may be captured into a graph

struct Driver {
#define CLARY_DECLARE(member, symbol, version, parameters) Result(*member) parameters = nullptr;
  CLARY_DRIVER_FUNCTIONS(CLARY_DECLARE)
  CLARY_GRAPH_FUNCTIONS(CLARY_DECLARE)
#undef CLARY_DECLARE
  bool graphs = false;  // it has all of CLARY_GRAPH_FUNCTIONS
  // Any other entry point, or null; for tests and benches.
  void* (*find)(const char* symbol, int version) = nullptr;
  int version = 0;  // 1000 * major + 10 * minor of the newest CUDA it supports
};

// The driver, opened and initialised by the first call; the same answer ever after, a failure included. Any thread.
Status load_driver(const Driver** driver);

// A failure of the driver as a status; `doing` completes "... failed while ...".
Status driver_status(const Driver& driver, Result result, const char* doing);
// Errors after which the context only ever returns errors: earlier work on the device failed.
bool is_sticky(Result result);

// Tests only, while nothing else runs: forgets the driver and all that hangs on it, and opens `path` from now on; null restores
// libcuda.so.1.
void set_driver_for_test(const char* path);

}  // namespace clary::cuda
