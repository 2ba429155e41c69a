// Writing results: elements of any type at addresses of any alignment, and where a row of out, lse and the shares' results lies.
#pragma once
#include "work.cuh"

namespace clary::cuda {

constexpr float kLn2 = 0.693147181f;

constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);

__device__ __forceinline__ void store_bytes(char* p, uint32_t bits, int size) {
  for (int i = 0; i < size; i++) p[i] = static_cast<char>(bits >> 8 * i);
}
// f32 at an address of any alignment.
__device__ __forceinline__ void store_float(char* p, float x, int access) {
  if (access == kBytes) {
    store_bytes(p, __float_as_uint(x), 4);
  } else {
    *reinterpret_cast<float*>(p) = x;
  }
}
// bf16 nearest even; NaN stays NaN.
__device__ __forceinline__ uint32_t to_bf16(float x) {
  const uint32_t bits = __float_as_uint(x);
  return x != x ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

// Two channels, or one if not `both`, in type `kind`.
__device__ __forceinline__ void store_pair(char* p, float x, float y, bool both, int kind, int access) {
  const int size = kind == kOutF32 ? 4 : 2;
  const uint32_t low = kind == kOutF32   ? __float_as_uint(x)
                       : kind == kOutF16 ? pack_f16(x, y)
                                         : to_bf16(x) | to_bf16(y) << 16;
  const uint32_t high = kind == kOutF32 ? __float_as_uint(y) : low >> 16;
  if (access == kChunks && both) {
    if (size == 2) {
      *reinterpret_cast<uint32_t*>(p) = low;
    } else {
      *reinterpret_cast<uint64_t*>(p) = static_cast<uint64_t>(high) << 32 | low;
    }
  } else {
    for (int i = 0; i < (both ? 2 : 1); i++) {
      const uint32_t bits = i ? high : low;
      if (access == kBytes) {
        store_bytes(p + i * size, bits, size);
      } else if (size == 2) {
        reinterpret_cast<uint16_t*>(p)[i] = static_cast<uint16_t>(bits);
      } else {
        reinterpret_cast<uint32_t*>(p)[i] = bits;
      }
    }
  }
}
// One row of `channels` f32 in shared memory to `to`, by a warp.
__device__ __forceinline__ void store_row(char* to, const float* row, int channels, int kind, int access) {
  const int size = kind == kOutF32 ? 4 : 2;
#pragma unroll 1
  for (int c = lane() * 2; c < channels; c += 64)
    store_pair(to + static_cast<int64_t>(c) * size, row[c], row[c + 1], c + 1 < channels, kind, access);
}

// Row `row` of a key head in the caller's tensors: head and token.
struct Place {
  int64_t batch, head, token;
};
__device__ __forceinline__ Place place_of(const AttentionArgs& a, const Sequence& s, int key_head, int row) {
  const int head = row / s.queries;
  return {a.cu_q ? 0 : s.index, static_cast<int64_t>(key_head) * a.group + head, s.q_begin + row - head * s.queries};
}
__device__ __forceinline__ char* out_row(const AttentionArgs& a, const Place& p) {
  return a.out + p.batch * a.out_batch + p.head * a.out_head + p.token * a.out_token;
}
// lse of a row whose log2 sum of scores is `log2_sum`.
__device__ __forceinline__ void store_lse(const AttentionArgs& a, const Sequence& s, const Place& p, float log2_sum) {
  const int64_t row = (p.batch * a.heads + p.head) * a.q_rows + s.q_row + (p.token - s.q_begin);
  const float shift = a.q_shift && log2_sum != -kInfinity ? a.q_shift[row] : 0.0f;
  store_float(reinterpret_cast<char*>(a.lse) + p.batch * a.lse_batch + p.head * a.lse_head + p.token * a.lse_token,
              fmaf(log2_sum, kLn2, shift), a.lse_access);
}
// Where a share's result of `row` lies among part_out's rows.
__device__ __forceinline__ int64_t part_row(const AttentionArgs& a, const Sequence& s, int key_head, int share,
                                            int rows, int row) {
  return (static_cast<int64_t>(s.index) * a.key_heads + key_head) * a.part_rows + static_cast<int64_t>(share) * rows +
         row;
}

}  // namespace clary::cuda
