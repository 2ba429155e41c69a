// Graphs kept for the kernels and streams that were seen, and what is sent without one.
#include "engine/cuda/queue.h"

#include <algorithm>
#include <cassert>
#include <memory>
#include <mutex>
#include <vector>

namespace clary::cuda {
namespace {

constexpr size_t kMaxGraphs = 256;  // about 100 KiB of GPU memory each; calls past them are single launches

// One stream's graph of these kernels: were it shared between streams, one would wait for the other's.
struct Sequence {
  int ordinal;
  Stream stream;
  int count;
  Launch launches[Queue::kMost];
  GraphNode nodes[Queue::kMost] = {};
  GraphExec exec = nullptr;  // null: not to be had
  bool taken = false;        // by a call that is setting its parameters

  bool serves(int gpu, Stream on, int n, const Launch* l) const {
    const auto same = [](const Launch& x, const Launch& y) {
      return x.kernel == y.kernel && x.cluster == y.cluster && x.overlap == y.overlap;
    };
    return stream == on && count == n && ordinal == gpu && std::equal(l, l + n, launches, same);
  }
};

// Never destroyed: the driver may be gone before static destructors run.
struct Kept {
  std::mutex mutex;
  std::vector<std::unique_ptr<Sequence>> all;
};
Kept* kept = new Kept;

KernelNode node_of(const Launch& l, void** parameter) {
  return {nullptr, {l.grid, 1, 1}, {l.block, 1, 1}, l.shared_bytes, parameter, nullptr, l.kernel, nullptr};
}

// Nodes of `s` one after the other in `graph`, with what cuLaunchKernelEx would have taken from the stream.
Result add_nodes(const Driver& d, const Gpu& gpu, Graph graph, const void* const* arguments, Sequence* s) {
  int priority = 0;
  Result r = d.stream_priority(s->stream, &priority);
  for (int i = 0; i < s->count && r == kSuccess; i++) {
    const Launch& l = s->launches[i];
    void* parameter = const_cast<void*>(arguments[i]);
    const KernelNode node = node_of(l, &parameter);
    r = d.graph_add_kernel(&s->nodes[i], graph, nullptr, 0, &node);
    if (r == kSuccess && priority) {
      LaunchAttribute attribute = {};
      attribute.value.flag = priority;
      r = d.graph_set_attribute(s->nodes[i], kPriority, &attribute.value);
    }
    if (r == kSuccess && l.cluster > 1) {
      const LaunchAttribute attribute = cluster_attribute(l.cluster);
      r = d.graph_set_attribute(s->nodes[i], attribute.id, &attribute.value);
    }
    const GraphEdge edge = l.overlap && can_overlap(d, gpu) ? kProgrammaticEdge : kWholeGrid;
    if (r == kSuccess && i > 0) r = d.graph_add_edges(graph, &s->nodes[i - 1], &s->nodes[i], &edge, 1);
  }
  return r;
}

// Leaves s.exec null where the driver refuses, or the stream is of another context (a green one has only some multiprocessors).
void record(const Driver& d, const Gpu& gpu, const void* const* arguments, Sequence* s) {
  Context now = nullptr, of_stream = nullptr;
  if (d.context_current(&now) != kSuccess || d.stream_context(s->stream, &of_stream) != kSuccess || now != of_stream)
    return;
  int32_t mode = kRelaxedCapture;  // another thread's capture is not this one's business
  if (d.capture_mode(&mode) != kSuccess) return;
  Graph graph = nullptr;
  Result r = d.graph_create(&graph, 0);
  if (r == kSuccess) {
    r = add_nodes(d, gpu, graph, arguments, s);
    if (r == kSuccess) r = d.graph_instantiate(&s->exec, graph, 0);
    if (r != kSuccess) {
      s->exec = nullptr;
      d.graph_destroy(graph);  // else kept: its nodes name those of exec
    }
  }
  d.capture_mode(&mode);
}

}  // namespace

void Queue::add(const Launch& launch, const void* arguments) {
  if (!launch.grid) return;
  assert(count_ < kMost);
  launches_[count_] = launch;
  arguments_[count_++] = arguments;
}

Status Queue::send() {
  const Driver* d = nullptr;
  if (Status s = load_driver(&d); !s) return s;
  int capturing = 0;
  Sequence* found = nullptr;
  if (count_ > 1 && d->graphs && d->stream_capturing(stream_, &capturing) == kSuccess && !capturing) {
    const std::lock_guard lock(kept->mutex);
    for (const auto& s : kept->all)
      if (s->serves(gpu_.ordinal, stream_, count_, launches_)) found = s.get();
    if (!found && kept->all.size() < kMaxGraphs) {
      found = kept->all.emplace_back(std::make_unique<Sequence>()).get();
      found->ordinal = gpu_.ordinal;
      found->stream = stream_;
      found->count = count_;
      std::copy(launches_, launches_ + count_, found->launches);
      record(*d, gpu_, arguments_, found);
    }
    if (found && (!found->exec || found->taken)) found = nullptr;
    if (found) found->taken = true;
  }
  if (found) {
    Result r = kSuccess;
    for (int i = 0; i < count_ && r == kSuccess; i++) {
      void* parameter = const_cast<void*>(arguments_[i]);
      const KernelNode node = node_of(launches_[i], &parameter);
      r = d->graph_set_kernel(found->exec, found->nodes[i], &node);
    }
    const bool set = r == kSuccess;
    if (set) r = d->graph_launch(found->exec, stream_);
    {
      const std::lock_guard lock(kept->mutex);
      found->taken = false;
      if (!set) found->exec = nullptr;
    }
    if (set) return driver_status(*d, r, "launching kernels");
  }
  for (int i = 0; i < count_; i++)
    if (Status s = launch(gpu_, stream_, launches_[i], arguments_[i]); !s) return s;
  return {};
}

void reset_queues() {
  delete kept;
  kept = new Kept;
}

}  // namespace clary::cuda
