// Attention on the GPU over quantised q, k, v: one launch, or two where the keys are shared out.
//
// As with the quantiser: plan_attention() is pure, bind() makes pointers, attention() only adds launches. A call is
//   choose a variant; plan_quantise() with its options; plan_attention(); bind() both; quantise() and attention() into one queue; send().
// Kernels: kernels/mma/README.md, kernels/hopper/README.md.
#pragma once
#include "engine/cuda/args.h"
#include "engine/cuda/quantise.h"
#include "engine/problem.h"

namespace clary::cuda {

// A compiled kernel: a row of kernels/hopper/variants.def or kernels/mma/variants.def.
struct AttentionVariant {
  const char* image;   // "mma/attention"
  const char* kernel;  // "attention_u8_plain_128_128x64"
  int32_t accuracy;    // clary_accuracy it computes: CLARY_STANDARD (u8 P, u8 V) or CLARY_HIGH (16-bit P and V)
  bool mask;           // takes a mask tensor
  int dim;             // padded head_dim of q, k and v: 64, 128 or 256
  int rows, keys;      // tile
  int value_bytes;     // of a code of V
  int threads;
  int shared_bytes;                                        // dynamic, of a block
  int blocks_per_sm;                                       // what it was tuned for; fewer work too
  int from_sm, to_sm;                                      // compute capabilities it is compiled for, 75 .. 999
  bool persistent;                                         // launched with no more blocks than run at a time
  QuantiseOptions quantise(const Problem& problem) const;  // what it needs of the quantiser
};
// All rows, better ones first within the same (accuracy, dim).
const AttentionVariant* attention_variants(int* count);

// The first row that serves (accuracy, max(D, Dv)) on a card of compute capability `sm` with `shared_per_block` bytes, preferring rows of which
// blocks_per_sm fit into `shared_per_sm`. Null: none.
const AttentionVariant* find_attention(const Problem& problem, int32_t accuracy, int sm, int shared_per_block,
                                       int shared_per_sm);

struct AttentionPlan {
  AttentionArgs args = {};
  const AttentionVariant* variant = nullptr;
  uint64_t workspace = 0;  // bytes, besides the quantiser's
  uint32_t blocks = 0, combine_blocks = 0;
  uint64_t part_out = 0, part_lse = 0;  // offsets from the workspace's first multiple of 256
};

// REQUIRES problem.check(). How the keys are shared out depends on each sequence's own shape only (share_keys, layout.h).
Status plan_attention(const Problem& problem, const AttentionVariant& variant, AttentionPlan* plan);

// Points inputs at a bound QuantisePlan's outputs. `workspace`: device memory of plan->workspace bytes, any alignment.
void bind(AttentionPlan* plan, const QuantisePlan& quantised, char* workspace);

// Adds its launches to `queue`, which reads `plan` when it is sent. REQUIRES a bound plan and `gpu` current (CurrentGpu).
Status attention(const Gpu& gpu, const AttentionPlan& plan, Queue& queue);
// Sends them too. Asynchronous; may be captured.
inline Status attention(const Gpu& gpu, const AttentionPlan& plan, Stream stream) {
  Queue queue(gpu, stream);
  const Status status = attention(gpu, plan, queue);
  return status ? queue.send() : status;
}

}  // namespace clary::cuda
