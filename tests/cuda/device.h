// What tests and benches need of the driver beyond what the engine uses: memory, streams, events, graphs.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "engine/cuda/gpu.h"

namespace clary::test {

using Event = struct CUevent_st*;
using Graph = struct CUgraph_st*;
using GraphExec = struct CUgraphExec_st*;

// Entry points by name, resolved once.
struct DeviceApi {
  cuda::Result (*allocate)(cuda::DevicePointer*, size_t);
  cuda::Result (*free)(cuda::DevicePointer);
  cuda::Result (*to_device)(cuda::DevicePointer, const void*, size_t);
  cuda::Result (*to_host)(void*, cuda::DevicePointer, size_t);
  cuda::Result (*copy)(cuda::DevicePointer, cuda::DevicePointer, size_t, cuda::Stream);
  cuda::Result (*fill)(cuda::DevicePointer, uint8_t, size_t, cuda::Stream);
  cuda::Result (*synchronize)();
  cuda::Result (*stream_create)(cuda::Stream*, uint32_t);
  cuda::Result (*capture_begin)(cuda::Stream, int32_t);
  cuda::Result (*capture_end)(cuda::Stream, Graph*);
  cuda::Result (*instantiate)(GraphExec*, Graph, uint64_t);
  cuda::Result (*graph_launch)(GraphExec, cuda::Stream);
  cuda::Result (*event_create)(Event*, uint32_t);
  cuda::Result (*event_record)(Event, cuda::Stream);
  cuda::Result (*event_synchronize)(Event);
  cuda::Result (*elapsed)(float*, Event, Event);
};
// REQUIRES a driver.
inline const DeviceApi& device_api() {
  static const DeviceApi api = [] {
    const cuda::Driver* d = nullptr;
    if (!cuda::load_driver(&d)) std::abort();
    DeviceApi a;
    const auto get = [&](auto& member, const char* name, int version) {
      void* address = d->find(name, version);
      if (!address) std::abort();
      member = reinterpret_cast<std::remove_reference_t<decltype(member)>>(address);
    };
    get(a.allocate, "cuMemAlloc", 3020);
    get(a.free, "cuMemFree", 3020);
    get(a.to_device, "cuMemcpyHtoD", 3020);
    get(a.to_host, "cuMemcpyDtoH", 3020);
    get(a.copy, "cuMemcpyDtoDAsync", 3020);
    get(a.fill, "cuMemsetD8Async", 3020);
    get(a.synchronize, "cuCtxSynchronize", 2000);
    get(a.stream_create, "cuStreamCreate", 2000);
    get(a.capture_begin, "cuStreamBeginCapture", 10010);
    get(a.capture_end, "cuStreamEndCapture", 10000);
    get(a.instantiate, "cuGraphInstantiateWithFlags", 11040);
    get(a.graph_launch, "cuGraphLaunch", 10000);
    get(a.event_create, "cuEventCreate", 2000);
    get(a.event_record, "cuEventRecord", 2000);
    get(a.event_synchronize, "cuEventSynchronize", 2000);
    get(a.elapsed, "cuEventElapsedTime", 2000);
    return a;
  }();
  return api;
}

// Device memory for a scope. The address is 256-byte aligned.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : size_(bytes ? bytes : 1) {
    if (device_api().allocate(&address_, size_) != cuda::kSuccess) std::abort();
  }
  DeviceMemory(const DeviceMemory&) = delete;
  ~DeviceMemory() { device_api().free(address_); }
  char* data() const { return reinterpret_cast<char*>(address_); }
  cuda::DevicePointer address() const { return address_; }
  size_t size() const { return size_; }
  void put(const void* from, size_t bytes) const { device_api().to_device(address_, from, bytes); }
  void fill(uint8_t byte) const { device_api().fill(address_, byte, size_, nullptr); }
  std::vector<char> get() const {
    std::vector<char> out(size_);
    device_api().to_host(out.data(), address_, size_);
    return out;
  }

 private:
  cuda::DevicePointer address_ = 0;
  size_t size_;
};

}  // namespace clary::test
