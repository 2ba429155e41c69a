// The launches of attention: which kernel, sizes, places.
#include "engine/cuda/attention.h"

#include <algorithm>
#include <iterator>

namespace clary::cuda {
namespace {

constexpr char kImage[] = "mma/attention", kHopperImage[] = "hopper/attention";
constexpr int kReserved = 1024;  // bytes of shared memory the driver takes per block
constexpr int kCombineThreads = 128;
constexpr int64_t kBandBytes = 32 << 20;  // of codes of K and V that stay in the 50 MB of L2 that a card of 9.0 has
constexpr int kValueBytes_u8 = 1, kValueBytes_f16 = 2;
constexpr bool kMask_plain = false, kMask_mask = true;

constexpr AttentionVariant kVariants[] = {
#define CLARY_HOPPER(values, accuracy, dim, groups, stages, consumer, loader) \
  {kHopperImage,                                                              \
   "attention_" #values "_hopper_" #dim,                                      \
   CLARY_##accuracy,                                                          \
   false,                                                                     \
   dim,                                                                       \
   64 * (groups),                                                             \
   kTileKeys,                                                                 \
   1,                                                                         \
   128 * ((groups) + 1),                                                      \
   hopper_shared_bytes(dim, 64 * (groups), stages),                           \
   1,                                                                         \
   90,                                                                        \
   90,                                                                        \
   true},
#include "engine/cuda/kernels/hopper/variants.def"
#undef CLARY_HOPPER
#define CLARY_ATTENTION(values, accuracy, mask, dim, rows, keys, warps, stages, parked, blocks, from_sm, to_sm) \
  {kImage,                                                                                                      \
   "attention_" #values "_" #mask "_" #dim "_" #rows "x" #keys "x" #stages,                                     \
   CLARY_##accuracy,                                                                                            \
   kMask_##mask,                                                                                                \
   dim,                                                                                                         \
   rows,                                                                                                        \
   keys,                                                                                                        \
   kValueBytes_##values,                                                                                        \
   (warps) * 32,                                                                                                \
   attention_shared_bytes(dim, rows, keys, warps, stages, parked, kValueBytes_##values),                        \
   blocks,                                                                                                      \
   from_sm,                                                                                                     \
   to_sm,                                                                                                       \
   false},
#include "engine/cuda/kernels/mma/variants.def"
#undef CLARY_ATTENTION
};

int blocks_that_fit(const AttentionVariant& v, int shared_per_sm) {
  return std::min(v.blocks_per_sm, shared_per_sm / (v.shared_bytes + kReserved));
}

}  // namespace

const AttentionVariant* attention_variants(int* count) {
  *count = static_cast<int>(std::size(kVariants));
  return kVariants;
}

const AttentionVariant* find_attention(const Problem& p, int32_t accuracy, int sm, int shared_per_block,
                                       int shared_per_sm) {
  const AttentionVariant* best = nullptr;
  for (const AttentionVariant& v : kVariants) {
    if (v.accuracy != accuracy || (p.mask.present() && !v.mask) || v.dim != padded_dim(std::max(p.D, p.Dv)) ||
        sm < v.from_sm || sm > v.to_sm || v.shared_bytes > shared_per_block)
      continue;
    if (blocks_that_fit(v, shared_per_sm) == v.blocks_per_sm) return &v;
    if (!best) best = &v;
  }
  return best;
}

QuantiseOptions AttentionVariant::quantise(const Problem& p) const {
  QuantiseOptions options;
  options.v_group = keys;
  options.v_half = value_bytes == 2;
  options.shift = p.lse.present();
  options.dim = dim;
  options.v_per_channel = persistent && p.Lk > kScaleKeys;  // up to kScaleKeys keys it is the same
  return options;
}

Status plan_attention(const Problem& p, const AttentionVariant& variant, AttentionPlan* plan) {
  *plan = {};
  plan->variant = &variant;
  AttentionArgs& a = plan->args;
  const auto stride = [](const View& v, int i) { return v.shape[i] > 1 ? v.stride[i] * v.size() : 0; };
  a.out = p.out.data;
  a.out_batch = stride(p.out, 0);
  a.out_head = stride(p.out, 1);
  a.out_token = stride(p.out, 2);
  a.out_kind = p.out.dtype == CLARY_F16 ? kOutF16 : p.out.dtype == CLARY_BF16 ? kOutBf16 : kOutF32;
  const auto access = [](const View& v, int64_t bits, int64_t chunk) {
    bits |= reinterpret_cast<int64_t>(v.data);
    return bits % chunk == 0 ? kChunks : bits % v.size() == 0 ? kElements : kBytes;
  };
  const int64_t out_strides = a.out_batch | a.out_head | a.out_token;
  a.out_access = access(p.out, out_strides, 2 * p.out.size());
  a.out_wide = access(p.out, out_strides | p.Dv * p.out.size(), 16) == kChunks;
  if (p.lse.present()) {
    a.lse = reinterpret_cast<float*>(p.lse.data);
    a.lse_batch = stride(p.lse, 0);
    a.lse_head = stride(p.lse, 1);
    a.lse_token = stride(p.lse, 2);
    a.lse_access = access(p.lse, a.lse_batch | a.lse_head | a.lse_token, 4);
  }
  if (p.mask.present()) {
    a.mask = p.mask.data;
    a.mask_batch = stride(p.mask, 0);
    a.mask_head = stride(p.mask, 1);
    a.mask_query = stride(p.mask, 2);
    a.mask_key = stride(p.mask, 3);
    a.mask_access = access(p.mask, a.mask_batch | a.mask_head | a.mask_query | a.mask_key, p.mask.size());
    if (a.mask_access == kChunks &&
        (a.mask_key != p.mask.size() || access(p.mask, a.mask_batch | a.mask_head | a.mask_query, 16) != kChunks))
      a.mask_access = kElements;
    a.mask_kind = p.mask.dtype == CLARY_BOOL   ? kMaskBool
                  : p.mask.dtype == CLARY_F16  ? kMaskF16
                  : p.mask.dtype == CLARY_BF16 ? kMaskBf16
                                               : kMaskF32;
  }
  if (a.mask_access == kBytes)
    return Status::error(CLARY_NOT_SUPPORTED, "Align the mask's elements.", "the mask's elements are not aligned");
  a.kv_lens = p.kv_lens;
  a.cu_q = p.cu_q;
  a.cu_k = p.cu_k;
  a.sequences = static_cast<int32_t>(p.varlen() ? p.num_seqs : p.B);
  a.heads = static_cast<int32_t>(p.Hq);
  a.key_heads = static_cast<int32_t>(p.Hkv);
  a.group = static_cast<int32_t>(p.group());
  a.queries = static_cast<int32_t>(p.Lq);
  a.keys = static_cast<int32_t>(p.Lk);
  a.channels = p.Dv;
  const auto side = [](int64_t window) {
    return static_cast<int32_t>(window < 0 ? kUnlimited : std::min<int64_t>(window, kUnlimited));
  };
  a.left = side(p.window_left);
  a.right = p.causal != CLARY_CAUSAL_NONE ? 0 : side(p.window_right);
  a.lower_right = p.causal == CLARY_CAUSAL_LOWER_RIGHT;

  // Bounds that hold whatever the lengths on the device are.
  const int64_t group = p.group(), rows = p.Lq * group;
  const int64_t most_rows = p.varlen() && p.max_q ? std::min(p.max_q, p.Lq) * group : rows;
  const int64_t most_keys = p.varlen() && p.max_k ? std::min(p.max_k, p.Lk) : p.Lk;
  const int64_t heads = std::max<int64_t>(p.Hkv, 1);
  const int64_t shares = share_count(p.varlen() ? 1 : rows, heads, most_keys);
  const int64_t blocks =
      p.varlen() ? first_row(rows, p.num_seqs, variant.rows) / variant.rows : ceil_div(rows, variant.rows);
  const int64_t all = blocks * p.Hkv * shares * (p.varlen() ? 1 : p.B);
  const int64_t part_rows = shares > 1 ? std::min(most_rows * shares, part_rows_bound(heads)) : 0;
  const int64_t parts = a.sequences * p.Hkv * part_rows;
  if (all > INT32_MAX || parts > INT32_MAX || rows > INT32_MAX)
    return Status::error(CLARY_NOT_SUPPORTED, "Split the batch or the sequence.", "B * H * L is past 2^31 rows");
  a.blocks = static_cast<int32_t>(blocks);
  a.shares = static_cast<int32_t>(shares);
  a.units = static_cast<int32_t>(p.Hkv * shares * (p.varlen() ? 1 : p.B));
  // Where all blocks see the same keys those of a unit follow each other; else those that see the most go first, in as many units as the L2 holds.
  const int64_t units = std::max(a.units, 1), unit_bytes = ceil_div(p.Lk, shares) * 2 * variant.dim;
  const bool alike = a.left == kUnlimited && a.right == kUnlimited;
  const int64_t bands = alike ? units : std::clamp<int64_t>(ceil_div(units * unit_bytes, kBandBytes), 1, units);
  a.band = static_cast<int32_t>(units / bands);
  a.longer_bands = static_cast<int32_t>(units % bands);
  a.whole_blocks = static_cast<int32_t>(p.varlen() ? blocks : rows / variant.rows);
  a.part_rows = static_cast<int32_t>(part_rows);
  a.part_dim = variant.dim;
  plan->blocks = p.empty() ? 0 : static_cast<uint32_t>(all);
  if (shares > 1) {
    plan->combine_blocks = static_cast<uint32_t>(ceil_div(p.B * p.Hq * p.Lq, kCombineThreads / 32));
    plan->part_lse = static_cast<uint64_t>(pad_to(parts * variant.dim * 4, 256));
    plan->workspace = plan->part_lse + static_cast<uint64_t>(parts) * 4 + 255;
  }
  return {};
}

void bind(AttentionPlan* plan, const QuantisePlan& quantised, char* workspace) {
  AttentionArgs& a = plan->args;
  const QuantiseArgs& q = quantised.args;
  a.q_codes = q.q_codes;
  a.q_scales = q.q_scales;
  a.q_shift = q.q_shift;
  a.k_codes = q.k_codes;
  a.k_scales = q.k_scales;
  a.v_codes = q.v_codes;
  a.v_scales = q.v_scales;
  a.taken = q.taken;
  a.q_rows = q.q_rows;
  a.k_rows = q.k_rows;
  a.v_blocks = q.v_blocks;
  char* base = workspace + (-reinterpret_cast<uintptr_t>(workspace) & 255);  // the next multiple of 256
  a.part_out = reinterpret_cast<float*>(base + plan->part_out);
  a.part_lse = reinterpret_cast<float*>(base + plan->part_lse);
}

Status attention(const Gpu& gpu, const AttentionPlan& plan, Queue& queue) {
  if (!plan.blocks) return {};
  Kernel kernel = nullptr, combine = nullptr;
  const auto shared_bytes = static_cast<uint32_t>(plan.variant->shared_bytes);
  if (Status s = find_kernel(gpu, plan.variant->image, plan.variant->kernel, &kernel, shared_bytes); !s) return s;
  if (plan.combine_blocks)
    if (Status s = find_kernel(gpu, kImage, "combine", &combine); !s) return s;
  const auto at_once = static_cast<uint32_t>(gpu.multiprocessors * plan.variant->blocks_per_sm);
  queue.add({kernel, plan.variant->persistent ? std::min(plan.blocks, at_once) : plan.blocks,
             static_cast<uint32_t>(plan.variant->threads), shared_bytes, plan.variant->persistent},
            &plan.args);
  if (combine) queue.add({combine, plan.combine_blocks, kCombineThreads}, &plan.args);
  return {};
}

}  // namespace clary::cuda
