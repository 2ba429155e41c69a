// The one validator. Every sentence names the tensor, what it has and what it should have.
#include "problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>

namespace clary {
namespace {

constexpr int64_t kMaxLength = int64_t{1} << 30;  // tokens of a tensor; positions are int32 in kernels

View view_of(const clary_tensor& t) {
  View v;
  v.data = static_cast<char*>(t.data);
  std::memcpy(v.shape, t.shape, sizeof v.shape);
  std::memcpy(v.stride, t.stride, sizeof v.stride);
  v.dtype = t.dtype;
  return v;
}

bool is_float(int32_t dtype) { return dtype == CLARY_F16 || dtype == CLARY_BF16 || dtype == CLARY_F32; }

Status check_shape(const char* name, const View& v, int64_t b, int64_t h, int64_t l, int64_t d) {
  const int64_t want[4] = {b, h, l, d};
  if (std::memcmp(v.shape, want, sizeof want) == 0) return {};
  return Status::error(
      CLARY_INVALID_SHAPE, "Shapes are [B, H, L, D] in this order whatever the memory layout; strides say the rest.",
      "%s has shape [%lld, %lld, %lld, %lld]; it should be [%lld, %lld, %lld, %lld]", name,
      static_cast<long long>(v.shape[0]), static_cast<long long>(v.shape[1]), static_cast<long long>(v.shape[2]),
      static_cast<long long>(v.shape[3]), static_cast<long long>(b), static_cast<long long>(h),
      static_cast<long long>(l), static_cast<long long>(d));
}

// An output's elements must be apart: some order of the dimensions in which each stride steps over all smaller ones.
bool overlaps_itself(const View& v) {
  using Wide = __int128;  // any stride times any size
  const auto step = [&](int i) { return v.stride[i] < 0 ? -Wide{v.stride[i]} : Wide{v.stride[i]}; };
  int order[4] = {0, 1, 2, 3};
  std::sort(order, order + 4, [&](int i, int j) { return step(i) < step(j); });
  if (std::find(v.shape, v.shape + 4, 0) != v.shape + 4) return false;  // no elements
  Wide reach = 0;                                                       // largest offset within the smaller dimensions
  for (const int i : order) {
    if (v.shape[i] == 1) continue;
    if (step(i) <= reach) return true;
    reach += step(i) * (v.shape[i] - 1);
  }
  return false;
}

Status check_data(const char* name, const View& v, bool planning) {
  if (v.data || planning) return {};
  for (int64_t n : v.shape)
    if (n == 0) return {};
  return Status::error(CLARY_INVALID_ARGUMENT, "Pass the address of the tensor's first element.", "%s.data is null",
                       name);
}

Status check_output(const char* name, const View& v) {
  if (!overlaps_itself(v)) return {};
  return Status::error(CLARY_INVALID_STRIDE, "Give the output memory of its own; broadcast strides are for inputs.",
                       "%s has overlapping elements", name);
}

}  // namespace

const char* dtype_name(int32_t dtype) {
  static const char* const kNames[] = {"?", "f16", "bf16", "f32", "bool"};
  return kNames[dtype >= CLARY_F16 && dtype <= CLARY_BOOL ? dtype : 0];
}
const char* accuracy_name(int32_t accuracy) {
  static const char* const kNames[] = {"standard", "exact", "high", "fast"};
  return accuracy >= 0 && accuracy <= CLARY_FAST ? kNames[accuracy] : "?";
}

const char* device_type_name(int32_t type) { return type == CLARY_CUDA ? "a GPU" : "the CPU"; }

Status Problem::from(const clary_attention_args* args, Problem* p) {
  constexpr uint64_t kFirstVersion = sizeof(clary_attention_args);
  if (!args) return Status::error(CLARY_INVALID_ARGUMENT, "Pass a clary_attention_args.", "args is null");
  if (args->size < kFirstVersion)
    return Status::error(CLARY_INVALID_ARGUMENT, "Zero the struct and set args.size = sizeof(clary_attention_args).",
                         "args.size is %llu; the smallest known struct has %llu bytes",
                         static_cast<unsigned long long>(args->size), static_cast<unsigned long long>(kFirstVersion));
  const clary_attention_args& a = *args;
  p->q = view_of(a.q);
  p->k = view_of(a.k);
  p->v = view_of(a.v);
  p->out = view_of(a.out);
  p->lse = view_of(a.lse);
  p->mask = view_of(a.mask);
  p->B = a.q.shape[0];
  p->Hq = a.q.shape[1];
  p->Lq = a.q.shape[2];
  p->Hkv = a.k.shape[1];
  p->Lk = a.k.shape[2];
  // Head dimensions are bounded by check(); until then they only have to survive the conversion.
  p->D = a.q.shape[3] > INT32_MAX || a.q.shape[3] < 0 ? INT32_MAX : static_cast<int>(a.q.shape[3]);
  p->Dv = a.v.shape[3] > INT32_MAX || a.v.shape[3] < 0 ? INT32_MAX : static_cast<int>(a.v.shape[3]);
  p->accuracy = a.accuracy;
  p->causal = a.causal;
  if (a.flags & CLARY_HAS_WINDOW) {
    p->window_left = std::min(a.window_left, kMaxLength);  // no further than any token
    p->window_right = std::min(a.window_right, kMaxLength);
  }
  p->scale = a.flags & CLARY_HAS_SCALE ? a.scale : p->D > 0 ? 1.0f / std::sqrt(static_cast<float>(p->D)) : 1.0f;
  p->kv_lens = a.kv_lens;
  p->cu_q = a.cu_seqlens_q;
  p->cu_k = a.cu_seqlens_k;
  p->num_seqs = a.cu_seqlens_q ? a.num_seqs : p->B;
  p->max_q = a.max_seqlen_q;
  p->max_k = a.max_seqlen_k;
  p->device_type = a.device_type;
  p->device_id = a.device_id;
  p->not_slower = a.flags & CLARY_NOT_SLOWER;
  p->stream = a.stream;
  p->workspace = static_cast<char*>(a.workspace);
  p->workspace_size = a.workspace_size;
  p->full_workspace = a.flags & CLARY_FULL_WORKSPACE;
  p->executor = a.executor;
  return {};
}

Status Problem::check(bool planning) const {
  struct Named {
    const char* name;
    const View& view;
  };
  for (const Named& n : {Named{"q", q}, Named{"k", k}, Named{"v", v}, Named{"out", out}}) {
    if (!is_float(n.view.dtype))
      return Status::error(CLARY_INVALID_DTYPE, "Convert it to f16, bf16 or f32.",
                           "%s.dtype is %d, not f16, bf16 or f32", n.name, n.view.dtype);
    for (int64_t size : n.view.shape)
      if (size < 0 || size > kMaxLength)
        return Status::error(CLARY_INVALID_SHAPE, "Sizes are 0 to 2^30.", "%s has a dimension of size %lld", n.name,
                             static_cast<long long>(size));
    if (n.view.shape[3] > 1 && n.view.stride[3] != 1)
      return Status::error(CLARY_INVALID_STRIDE, "Make the last dimension contiguous.",
                           "%s has last stride %lld, not 1", n.name, static_cast<long long>(n.view.stride[3]));
  }
  if (k.dtype != q.dtype || v.dtype != q.dtype)
    return Status::error(CLARY_INVALID_DTYPE, "Convert k and v to q's dtype.",
                         "q, k, v have dtypes %s, %s, %s; they must be equal", dtype_name(q.dtype), dtype_name(k.dtype),
                         dtype_name(v.dtype));
  if (D < 1 || Dv < 1)
    return Status::error(CLARY_INVALID_SHAPE, "D and Dv are at least 1.", "head dimensions are D = %d and Dv = %d", D,
                         Dv);
  if (Hkv < 1 || Hq < 1 || Hq % Hkv != 0)
    return Status::error(CLARY_INVALID_SHAPE,
                         "The number of query heads must be a multiple of the number of key heads.",
                         "q has %lld heads and k has %lld", static_cast<long long>(Hq), static_cast<long long>(Hkv));
  if (Status s = check_shape("k", k, B, Hkv, Lk, D); !s) return s;
  if (Status s = check_shape("v", v, B, Hkv, Lk, Dv); !s) return s;
  if (Status s = check_shape("out", out, B, Hq, Lq, Dv); !s) return s;
  if (Status s = check_output("out", out); !s) return s;
  for (const Named& n : {Named{"q", q}, Named{"k", k}, Named{"v", v}, Named{"out", out}})
    if (Status s = check_data(n.name, n.view, planning); !s) return s;
  if (out.data && (out.data == q.data || out.data == k.data || out.data == v.data) && !empty())
    return Status::error(CLARY_INVALID_ARGUMENT, "Give the output memory of its own.", "out aliases an input");
  if (lse.present()) {
    if (lse.dtype != CLARY_F32)
      return Status::error(CLARY_INVALID_DTYPE, "Allocate lse as f32.", "lse.dtype is %s, not f32",
                           dtype_name(lse.dtype));
    if (Status s = check_shape("lse", lse, B, Hq, Lq, 1); !s) return s;
    if (Status s = check_output("lse", lse); !s) return s;
    if (Status s = check_data("lse", lse, planning); !s) return s;
  }
  if (mask.present()) {
    if (!is_float(mask.dtype) && mask.dtype != CLARY_BOOL)
      return Status::error(CLARY_INVALID_DTYPE,
                           "A mask is bool (true = attend) or f16, bf16, f32 (added to the scores).",
                           "mask.dtype is %d", mask.dtype);
    if (Status s = check_shape("mask", mask, B, Hq, Lq, Lk); !s) return s;
    if (Status s = check_data("mask", mask, planning); !s) return s;
  }
  if (accuracy < CLARY_STANDARD || accuracy > CLARY_FAST)
    return Status::error(CLARY_INVALID_ARGUMENT, "Use CLARY_STANDARD, CLARY_EXACT, CLARY_HIGH or CLARY_FAST.",
                         "accuracy is %d", accuracy);
  if (causal < CLARY_CAUSAL_NONE || causal > CLARY_CAUSAL_LOWER_RIGHT)
    return Status::error(CLARY_INVALID_ARGUMENT, "Use CLARY_CAUSAL_NONE, _UPPER_LEFT or _LOWER_RIGHT.", "causal is %d",
                         causal);
  if (window_left < -1 || window_right < -1)
    return Status::error(CLARY_INVALID_ARGUMENT, "A window side is -1 (unlimited) or a number of tokens.",
                         "window is (%lld, %lld)", static_cast<long long>(window_left),
                         static_cast<long long>(window_right));
  if (!std::isfinite(scale))
    return Status::error(CLARY_INVALID_ARGUMENT, "Leave CLARY_HAS_SCALE unset for 1/sqrt(D).", "scale is not finite");
  if (!!cu_q != !!cu_k)
    return Status::error(CLARY_INVALID_ARGUMENT, "Pass both or neither.",
                         "only one of cu_seqlens_q and cu_seqlens_k is given");
  if (varlen()) {
    if (B != 1)
      return Status::error(CLARY_INVALID_SHAPE, "Pack the sequences: q is [1, Hq, total_q, D].",
                           "variable length with batch %lld", static_cast<long long>(B));
    if (num_seqs < 0 || num_seqs > kMaxLength)
      return Status::error(CLARY_INVALID_ARGUMENT, "Set num_seqs to the length of cu_seqlens_q minus 1.",
                           "num_seqs is %lld", static_cast<long long>(num_seqs));
    if (mask.present() || kv_lens)
      return Status::error(CLARY_INVALID_ARGUMENT, "Use cu_seqlens_k for lengths; pad the batch to use a mask.",
                           "variable length does not combine with %s", mask.present() ? "mask" : "kv_lens");
  }
  if (device_type != CLARY_CPU && device_type != CLARY_CUDA)
    return Status::error(CLARY_INVALID_ARGUMENT, "Use CLARY_CPU or CLARY_CUDA.", "device_type is %d", device_type);
  if (executor && (executor->size < sizeof(clary_executor) || !executor->concurrency || !executor->parallel))
    return Status::error(CLARY_INVALID_ARGUMENT, "Set executor.size, .concurrency and .parallel.",
                         "executor is incomplete");
  if (D > kMaxHeadDim || Dv > kMaxHeadDim)
    return Status::error(CLARY_NOT_SUPPORTED, "Use torch's scaled_dot_product_attention for this head dimension.",
                         "head dimensions D = %d, Dv = %d are beyond the largest served, %d", D, Dv, kMaxHeadDim);
  return {};
}

Status Problem::check_lengths() const {
  for (int64_t b = 0; kv_lens && b < B; b++)
    if (kv_lens[b] < 0 || kv_lens[b] > Lk)
      return Status::error(CLARY_INVALID_ARGUMENT, "Lengths are 0 to Lk.", "kv_lens[%lld] is %d with Lk = %lld",
                           static_cast<long long>(b), kv_lens[b], static_cast<long long>(Lk));
  if (!varlen()) return {};
  struct Cumulative {
    const char* name;
    const int32_t* cu;
    int64_t total;
  };
  for (const Cumulative& c : {Cumulative{"cu_seqlens_q", cu_q, Lq}, Cumulative{"cu_seqlens_k", cu_k, Lk}}) {
    if (c.cu[0] != 0 || c.cu[num_seqs] != c.total)
      return Status::error(CLARY_INVALID_ARGUMENT, "It starts at 0 and ends at the number of packed tokens.",
                           "%s runs from %d to %d; the tensor has %lld tokens", c.name, c.cu[0], c.cu[num_seqs],
                           static_cast<long long>(c.total));
    for (int64_t s = 0; s < num_seqs; s++)
      if (c.cu[s + 1] < c.cu[s])
        return Status::error(CLARY_INVALID_ARGUMENT, "It never decreases.", "%s[%lld] = %d is below %s[%lld] = %d",
                             c.name, static_cast<long long>(s + 1), c.cu[s + 1], c.name, static_cast<long long>(s),
                             c.cu[s]);
  }
  return {};
}

}  // namespace clary
