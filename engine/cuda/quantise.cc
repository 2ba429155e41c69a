// The launches of preprocessing: sizes, places and constants.
#include "engine/cuda/quantise.h"

#include <algorithm>
#include <cmath>

#include "engine/quant/formats.h"

namespace clary::cuda {
namespace {

constexpr int kThreads = 256;
constexpr char kImage[] = "any/quantise";

Source source_of(const View& v) {
  const int64_t size = v.size();
  Source s = {};
  s.data = v.data;
  const auto stride = [&](int i) { return v.shape[i] > 1 ? v.stride[i] * size : 0; };
  s.batch = stride(0);
  s.head = stride(1);
  s.token = stride(2);
  s.heads = static_cast<int32_t>(v.shape[1]);
  s.tokens = static_cast<int32_t>(v.shape[2]);
  s.channels = static_cast<int32_t>(v.shape[3]);
  const int64_t all = reinterpret_cast<int64_t>(v.data) | s.batch | s.head | s.token;
  s.access = (all | s.channels * size) % 16 == 0 ? kChunks : all % size == 0 ? kElements : kBytes;
  return s;
}

// Hands out places one after the other, each at a multiple of 256 bytes.
struct Layout {
  uint64_t end = 0;
  uint64_t take(int64_t bytes) {
    const uint64_t at = end;
    end = static_cast<uint64_t>(pad_to(static_cast<int64_t>(end) + bytes, 256));
    return at;
  }
};

constexpr int32_t kDtype_f16 = CLARY_F16, kDtype_bf16 = CLARY_BF16, kDtype_f32 = CLARY_F32;
constexpr struct {
  int32_t dtype;
  int dim;  // 0: values
  const char* name;
} kKernels[] = {
#define CLARY_VALUES(dtype, type, blocks) {kDtype_##dtype, 0, "values_" #dtype},
#define CLARY_QUANTISE(dtype, type, dim, blocks) {kDtype_##dtype, dim, "quantise_" #dtype "_" #dim},
#include "engine/cuda/kernels/any/variants.def"
#undef CLARY_VALUES
#undef CLARY_QUANTISE
};

// REQUIRES a dtype of a tensor and a padded head_dim, or 0.
const char* kernel_name(int32_t dtype, int dim) {
  const auto* k = kKernels;
  while (k->dtype != dtype || k->dim != dim) k++;
  return k->name;
}

}  // namespace

Status plan_quantise(const Problem& p, const QuantiseOptions& options, QuantisePlan* plan) {
  *plan = {};
  QuantiseArgs& a = plan->args;
  const int dp = options.dim ? options.dim : padded_dim(p.D);
  const int64_t q_heads = p.B * p.Hq, k_heads = p.B * p.Hkv;
  // What a head takes of rows, work items or blocks of `pad` tokens.
  const auto padded = [&](int64_t tokens, int64_t pad) {
    return p.varlen() ? first_row(tokens, p.num_seqs, pad) : pad_to(tokens, pad);
  };
  const int64_t q_rows = padded(p.Lq, kRowPad), k_rows = padded(p.Lk, kTileKeys);
  a.dp = dp;
  a.dvp = options.dim ? options.dim : padded_dim(p.Dv);
  a.v_group = options.v_group;
  a.v_half = options.v_half;
  a.mean = options.mean;

  // Scales of a whole sequence: the blocks of a cluster find them together if one is enough for the longest, and most blocks have keys; else V is
  // read twice. How does not show in the result.
  const int64_t longest = p.varlen() && p.max_k ? std::min(p.max_k, p.Lk) : p.Lk;
  int64_t cluster = 1;
  while (options.v_per_channel && cluster < kClusterBound && cluster * kScaleKeys < longest) cluster *= 2;
  const bool in_cluster =
      cluster * kScaleKeys >= longest && padded(p.Lk, cluster * kScaleKeys) <= 2 * padded(p.Lk, kScaleKeys);
  if (!in_cluster) cluster = 1;
  const int64_t v_keys = cluster * kScaleKeys;
  const int64_t q_tiles = padded(p.Lq, kTileKeys) / kTileKeys, k_tiles = k_rows / kTileKeys,
                v_blocks = padded(p.Lk, v_keys) / v_keys;
  const int64_t v_tiles = v_blocks * cluster * (a.dvp / kItemChannels);
  const int64_t items = q_heads * q_tiles + k_heads * (k_tiles + v_tiles);
  // Rows are counted, and rows times channels of one head addressed, in 32 bits.
  constexpr int64_t kMost = INT32_MAX;
  if (q_heads * q_rows > kMost || k_heads * k_rows > kMost || q_rows * kPanelMax > kMost ||
      k_rows * kPanelMax > kMost || items > kMost)
    return Status::error(CLARY_NOT_SUPPORTED, "Split the batch or the sequence.", "B * H * L is past 2^31 rows");

  a.q = source_of(p.q);
  a.k = source_of(p.k);
  a.v = source_of(p.v);
  a.kv_lens = p.kv_lens;
  a.cu_q = p.cu_q;
  a.cu_k = p.cu_k;
  a.sequences = static_cast<int32_t>(p.varlen() ? p.num_seqs : 1);
  a.q_tiles = static_cast<int32_t>(q_tiles);
  a.k_tiles = static_cast<int32_t>(k_tiles);
  a.v_tiles = static_cast<int32_t>(v_tiles);
  a.q_items = static_cast<int32_t>(q_heads * q_tiles);
  a.k_items = static_cast<int32_t>(k_heads * k_tiles);
  a.v_items = static_cast<int32_t>(k_heads * v_tiles);
  a.q_rows = static_cast<int32_t>(q_rows);
  a.k_rows = static_cast<int32_t>(k_rows);
  a.v_keys = static_cast<int32_t>(v_keys);
  a.v_cluster = static_cast<int32_t>(cluster);
  a.v_per_channel = options.v_per_channel;
  a.v_blocks = static_cast<int32_t>(options.v_per_channel ? a.sequences : v_blocks);

  // Codes hold W x / (2 Dp) up to their factor (kernels/any/rotation.cuh): back to W x / sqrt(Dp), over 127.
  const double unit = 2.0 * std::sqrt(static_cast<double>(dp)) / kQ8Max;
  a.q_factor = static_cast<float>(unit * p.scale * 1.4426950408889634);
  a.k_factor = static_cast<float>(unit);
  a.shift_factor = static_cast<float>(-0.25 * dp * dp * p.scale);

  // Sampling begins at kSampleFrom keys, so shorter sequences of a batch may take more rows than the longest.
  const bool sampled = mean_sampled(options.mean == kSampledMean, p.Lk);
  const int64_t k_sampled =
      sampled ? std::max<int64_t>(p.Lk / kMeanStep, std::min<int64_t>(p.Lk, kSampleFrom - 1)) : p.Lk;
  a.k_chunks = options.mean == kNoMean ? 0 : static_cast<int32_t>(chunk_bound(k_sampled));
  a.v_chunks = options.v_per_channel && !in_cluster ? static_cast<int32_t>(chunk_bound(p.Lk)) : 0;
  a.s_items = static_cast<int32_t>(pad_to(k_heads * a.sequences * (a.k_chunks + a.v_chunks), cluster));
  plan->values_blocks = static_cast<uint32_t>(a.s_items + a.v_items);
  plan->quantise_blocks = static_cast<uint32_t>(a.q_items + a.k_items);

  Layout layout;
  plan->offsets.q_codes = layout.take(q_heads * q_rows * dp);
  plan->offsets.q_scales = layout.take(q_heads * q_rows * 4);
  plan->offsets.q_shift = layout.take(options.shift ? q_heads * q_rows * 4 : 0);
  plan->offsets.k_codes = layout.take(k_heads * k_rows * dp);
  plan->offsets.k_scales = layout.take(k_heads * k_tiles * 4);
  plan->offsets.v_codes = layout.take(k_heads * k_rows * a.dvp * (options.v_half ? 2 : 1));
  plan->offsets.v_scales =
      layout.take(std::max<int64_t>(k_heads * a.v_blocks, 1) * a.dvp * 4);  // read without keys too
  plan->offsets.k_sums = layout.take(k_heads * a.sequences * a.k_chunks * dp * 4);
  plan->offsets.v_maxima = layout.take(k_heads * a.sequences * a.v_chunks * a.dvp * 4);
  plan->offsets.taken = layout.take(sizeof(uint32_t));
  plan->workspace = layout.end + 255;

  plan->values_kernel = kernel_name(p.q.dtype, 0);
  plan->quantise_kernel = kernel_name(p.q.dtype, dp);
  // Marks, until bind() makes pointers of them.
  a.q_shift = options.shift ? reinterpret_cast<float*>(1) : nullptr;
  a.v_maxima = a.v_chunks ? reinterpret_cast<float*>(1) : nullptr;
  return {};
}

void bind(QuantisePlan* plan, char* workspace) {
  QuantiseArgs& a = plan->args;
  const QuantisePlan::Offsets& o = plan->offsets;
  char* base = workspace + (-reinterpret_cast<uintptr_t>(workspace) & 255);  // the next multiple of 256
  a.q_codes = reinterpret_cast<int8_t*>(base + o.q_codes);
  a.q_scales = reinterpret_cast<float*>(base + o.q_scales);
  a.q_shift = a.q_shift ? reinterpret_cast<float*>(base + o.q_shift) : nullptr;
  a.k_codes = reinterpret_cast<int8_t*>(base + o.k_codes);
  a.k_scales = reinterpret_cast<float*>(base + o.k_scales);
  a.v_codes = reinterpret_cast<uint8_t*>(base + o.v_codes);
  a.v_scales = reinterpret_cast<float*>(base + o.v_scales);
  a.k_sums = reinterpret_cast<float*>(base + o.k_sums);
  a.v_maxima = a.v_maxima ? reinterpret_cast<float*>(base + o.v_maxima) : nullptr;
  a.taken = reinterpret_cast<uint32_t*>(base + o.taken);
  plan->values_args = a;
  plan->values_args.s_items = 0;
}

Status quantise(const Gpu& gpu, const QuantisePlan& plan, Queue& queue) {
  Kernel values = nullptr, rows = nullptr;
  if (Status s = find_kernel(gpu, kImage, plan.quantise_kernel, &rows); !s) return s;
  if (plan.values_blocks)
    if (Status s = find_kernel(gpu, kImage, plan.values_kernel, &values, 0, kClusterBound); !s) return s;
  // Where V waits for its maxima, it comes last: Q needs no waiting.
  const QuantiseArgs& a = plan.args;
  const auto maxima = static_cast<uint32_t>(a.s_items), cluster = static_cast<uint32_t>(a.v_cluster);
  const uint32_t first = a.v_maxima ? maxima : plan.values_blocks;
  queue.add({values, first, kThreads, 0, false, cluster}, &a);
  queue.add({rows, plan.quantise_blocks, kThreads, 0, first != 0}, &a);
  queue.add({values, plan.values_blocks - first, kThreads, 0, true}, &plan.values_args);
  return {};
}

}  // namespace clary::cuda
