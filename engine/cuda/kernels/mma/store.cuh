// The end of a block: O over its sums, through shared memory so that rows leave as whole sectors whatever their type and address.
#pragma once
#include "mainloop.cuh"

namespace clary::cuda {

constexpr float kLn2 = 0.693147181f;

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

// One row of `channels` f32 in shared memory to `to`, by a warp.
__device__ __forceinline__ void store_row(char* to, const float* row, int channels, int kind, int access) {
  const int size = kind == kOutF32 ? 4 : 2;
#pragma unroll 1
  for (int c = lane() * 2; c < channels; c += 64) {
    const float x = row[c], y = row[c + 1];
    const uint32_t low = kind == kOutF32   ? __float_as_uint(x)
                         : kind == kOutF16 ? pack_f16(x, y)
                                           : to_bf16(x) | to_bf16(y) << 16;
    const uint32_t high = kind == kOutF32 ? __float_as_uint(y) : low >> 16;
    char* p = to + static_cast<int64_t>(c) * size;
    const bool both = c + 1 < channels;
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

// REQUIRES every thread of the block to be past its last tile: the memory of K and V is used.
template <class C>
__device__ __forceinline__ void store_rows(const AttentionArgs& a, const Memory<C>& memory, const Accumulators<C>& o) {
  const Work& w = memory.facts().work;
  constexpr int kPitch = C::kDim + 8, kWarpRows = C::kRows / C::kWarps;
  static_assert(C::kWarps * 16 * kPitch * 4 <= C::kQ + 2 * (C::kK + C::kV));
  const int g = lane() >> 2, t = lane() & 3;
  float* rows = reinterpret_cast<float*>(memory.base) + warp() * 16 * kPitch;
#pragma unroll
  for (int m = 0; m < C::kMmas; m++) {
    const int first = w.row + warp() * kWarpRows + 16 * m;
    __syncwarp();
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float sum = sum_of_row(o.sum[m][r]);
      const float all = sum + memory.total()[Memory<C>::row(m, r)];
      const float inverse = 1.0f / all;
#pragma unroll
      for (int i = 0; i < C::kDim / 8; i++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const int c = i * 8 + 2 * t + e;
          const float x = fmaf(sum, -128.0f, o.out[m][i][2 * r + e]) * inverse * memory.unit()[c];
          rows[(g + 8 * r) * kPitch + c] = all == 0 ? 0.0f : x;
        }
      const int row = first + g + 8 * r;
      if (t != 0 || row >= w.rows) continue;
      // a sum counts codes, 255 to one, in units of 2^(frame + kFrameLead - 149)
      const float log2_sum =
          all == 0 ? -kInfinity
                   : memory.frame()[Memory<C>::row(m, r)] + (log2_fast(all) + (149.0f - kFrameLead - 7.99435344f));
      if (w.shares > 1) {
        a.part_lse[part_row(a, w.sequence, w.key_head, w.share, w.rows, row)] = log2_sum;
      } else if (a.lse) {
        store_lse(a, w.sequence, place_of(a, w.sequence, w.key_head, row), log2_sum);
      }
    }
    __syncwarp();
    if (first >= w.rows) continue;
    Place place = place_of(a, w.sequence, w.key_head, first);
    const int end_of_head = w.sequence.q_begin + w.sequence.queries;
#pragma unroll 1
    for (int i = 0; i < 16 && first + i < w.rows; i++) {
      if (w.shares > 1) {
        float* part = a.part_out + part_row(a, w.sequence, w.key_head, w.share, w.rows, first + i) * C::kDim;
        store_row(reinterpret_cast<char*>(part), rows + i * kPitch, C::kDim, kOutF32, kChunks);
      } else {
        store_row(out_row(a, place), rows + i * kPitch, a.channels, a.out_kind, a.out_access);
      }
      if (++place.token == end_of_head) place.head++, place.token = w.sequence.q_begin;
    }
  }
}

}  // namespace clary::cuda
