// The launches of a call, sent to the GPU together.
//
// A launch takes the host 2.4 to 3.6 us; a graph whose parameters are set anew for the same three kernels 2.7 to 3.6 us in all, and three
// short kernels then follow each other every 3.4 us instead of every 10 (one H200, driver 580.159). So a
// graph is kept for the kernels of a call and its stream.
#pragma once
#include "engine/cuda/gpu.h"

namespace clary::cuda {

class Queue {
 public:
  static constexpr int kMost = 5;  // V's maxima, rows, V, attention, combine

  Queue(const Gpu& gpu, Stream stream) : gpu_(gpu), stream_(stream) {}
  Queue(const Queue&) = delete;

  // `arguments` is the kernel's only parameter and lives until send(). No blocks: nothing to launch. REQUIRES room: kMost.
  void add(const Launch& launch, const void* arguments);
  // All of them in order, once. Asynchronous; where the stream is being captured, as so many launches. REQUIRES gpu to be current.
  Status send();

 private:
  const Gpu& gpu_;
  const Stream stream_;
  int count_ = 0;
  Launch launches_[kMost];
  const void* arguments_[kMost];
};

// Tests only, while nothing else runs. See set_driver_for_test.
void reset_queues();

}  // namespace clary::cuda
