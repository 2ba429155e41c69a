// The end of a block: O over its sums, through shared memory so that rows leave as whole sectors whatever their type and address.
#pragma once
#include "../common/store.cuh"
#include "mainloop.cuh"

namespace clary::cuda {

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
