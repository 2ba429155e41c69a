// Preprocessing on the GPU: q, k, v of a problem to codes and scales in its workspace, in at most three launches.
//
// plan_quantise() is pure (shapes and strides only), quantise() only adds launches. Layouts: layout.h. Schedule and figures:
// kernels/any/README.md.
#pragma once
#include "engine/cuda/args.h"
#include "engine/cuda/queue.h"
#include "engine/problem.h"

namespace clary::cuda {

struct QuantiseOptions {
  MeanKind mean = kSampledMean;  // what is taken from every key; softmax does not see it
  bool v_per_channel =
      false;            // one V scale per channel over all keys instead of one per kScaleKeys; compute capability 9.0
  int v_group = 128;    // keys side by side in the v codes: 128, or 64 for kernels with 192-key tiles
  bool v_half = false;  // v codes are f16 instead of u8; v_group is 64
  bool shift = false;   // also q . mean of K per row, which an lse needs
  int dim = 0;          // pad q, k and v to this head_dim; 0: q and k, and v, each to its own padded_dim
};

struct QuantisePlan {
  QuantiseArgs args = {};         // output pointers are null until bind()
  QuantiseArgs values_args = {};  // for V in a launch after its maxima: without their items; by bind()
  uint64_t workspace = 0;         // bytes
  uint32_t values_blocks = 0, quantise_blocks = 0;
  const char *values_kernel = nullptr, *quantise_kernel = nullptr;
  // Where each output begins, in bytes from the workspace's first multiple of 256.
  struct Offsets {
    uint64_t q_codes, q_scales, q_shift, k_codes, k_scales, v_codes, v_scales, k_sums, v_maxima, taken;
  } offsets = {};
};

// REQUIRES problem.check(). Fails only past 2^31 rows or work items.
Status plan_quantise(const Problem& problem, const QuantiseOptions& options, QuantisePlan* plan);

// Points the outputs into `workspace`: device memory of plan.workspace bytes, any alignment. Reads nothing.
void bind(QuantisePlan* plan, char* workspace);

// Adds its launches to `queue`, which reads `plan` when it is sent. REQUIRES a bound plan and `gpu` current (CurrentGpu).
Status quantise(const Gpu& gpu, const QuantisePlan& plan, Queue& queue);
// Sends them too. Asynchronous; may be captured.
inline Status quantise(const Gpu& gpu, const QuantisePlan& plan, Stream stream) {
  Queue queue(gpu, stream);
  const Status status = quantise(gpu, plan, queue);
  return status ? queue.send() : status;
}

}  // namespace clary::cuda
