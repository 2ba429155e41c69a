// What the fake driver answers and what it saw. Shared by fake_driver.cc (a libcuda.so.1) and the tests that load it.
#pragma once
#include <cstdint>

namespace clary::test {

struct FakeDriver {
  int version;          // cuDriverGetVersion
  int devices;          // up to 8
  int capability[8];    // 10 * major + minor
  char missing[40];     // this entry point does not exist
  char fails[40];       // this entry point fails
  int32_t fails_with;   // with this CUresult
  int32_t fails_after;  // but only after so many good calls
  bool capturing;       // every stream is
  bool other_context;   // every stream's context is not the current one
  int priority;         // of every stream
  bool no_binary;       // cubins are refused: only PTX loads (cuKernelGetFunction says so)

  int inits, loads, ptx_loads, retains, lookups, launches, pushes, pops, functions;
  char last_kernel[40];
  char kernels[8][40];  // of the first launches
  void* streams[8];
  uint32_t clusters[8];               // their blocks of a cluster
  uint64_t arguments[8];              // the first word of each launch's parameter
  int graphs, graph_launches;         // made; sent. The launches of a graph are counted among `launches`
  int graph_edges, graph_priorities;  // programmatic ones; nodes that were given one
  int last_device_of_launch, last_attributes;
  uint32_t last_grid;
  int concurrent, most_concurrent;  // calls of cuLibraryLoadData at a time
};

}  // namespace clary::test
