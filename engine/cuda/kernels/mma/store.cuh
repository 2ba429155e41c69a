// The end of a block: O over its sums, through shared memory so that rows leave as whole sectors whatever their type and address.
#pragma once
#include "../common/store.cuh"
#include "mainloop.cuh"

namespace clary::cuda {

// Channels that are staged at a time.
template <class C>
__host__ __device__ constexpr int slice_width() {
  int width = C::kDim;
  while (C::kWarps * 16 * (width + 8) * 4 > Memory<C>::kTiles) width /= 2;
  return width;
}

// kWidth channels of a warp's first `count` rows of 16 from shared memory to `to(row)`, kWidth + 8 floats each, 16 bytes a lane.
template <int kWidth, int kSize, class To>
__device__ __forceinline__ void store_chunks(const float* rows, int count, int channels, int kind, To to) {
  constexpr int kChunks = kWidth * kSize / 16, kFloats = 16 / kSize;
#pragma unroll 4
  for (int i = lane(); i < 16 * kChunks; i += 32) {
    const int row = i / kChunks, c = i % kChunks * kFloats;
    if (row >= count || c >= channels) continue;
    const float* x = rows + row * (kWidth + 8) + c;
    Word4 word;
    if constexpr (kSize == 4) {
      word = *reinterpret_cast<const Word4*>(x);
    } else {
      const auto pair = [&](int n) {
        return kind == kOutF16 ? pack_f16(x[n], x[n + 1]) : to_bf16(x[n]) | to_bf16(x[n + 1]) << 16;
      };
      word = {pair(0), pair(2), pair(4), pair(6)};
    }
    *reinterpret_cast<Word4*>(to(row) + c * kSize) = word;
  }
}

// REQUIRES every thread of the block to be past its last tile: the memory of K and V is used.
template <class C>
__device__ __forceinline__ void store_rows(const AttentionArgs& a, const Memory<C>& memory, Accumulators<C>& o) {
  const Work& w = memory.facts().work;
  constexpr int kWidth = slice_width<C>(), kWarpRows = C::kRows / C::kWarps;
  const int g = lane() >> 2, t = lane() & 3, size = a.out_kind == kOutF32 ? 4 : 2;
  float* rows = reinterpret_cast<float*>(memory.base) + warp() * 16 * (kWidth + 8);
#pragma unroll
  for (int m = 0; m < C::kMmas; m++) {
    const int first = w.row + warp() * kWarpRows + 16 * m, count = w.rows - first;
    float excess[2], inverse[2];  // out = (o - excess) * inverse * unit
    bool none[2];                 // no key
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float sum = sum_of_row(o.sum[m][r]), all = sum + memory.total()[Memory<C>::row(m, r)];
      excess[r] = C::kHalf ? 0.0f : sum * 128.0f;
      inverse[r] = 1.0f / all;
      none[r] = all == 0;
      const int row = first + g + 8 * r;
      if (t != 0 || row >= w.rows) continue;
      // a sum counts codes, 255 to one, in units of 2^(frame + kFrameLead - 149); or f16 in units of 2^(frame - kHalfLead)
      constexpr float kOne = C::kHalf ? -kHalfLead : 149.0f - kFrameLead - 7.99435344f;
      const float log2_sum = none[r] ? -kInfinity : memory.frame()[Memory<C>::row(m, r)] + (log2_fast(all) + kOne);
      if (w.shares > 1) {
        a.part_lse[part_row(a, w.sequence, w.key_head, w.share, w.rows, row)] = log2_sum;
      } else if (a.lse) {
        store_lse(a, w.sequence, place_of(a, w.sequence, w.key_head, row), log2_sum);
      }
    }
#pragma unroll
    for (int slice = 0; slice < C::kDim; slice += kWidth) {
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kWidth / 8; i++)
        with_out<C>(memory, o, m, slice / 8 + i, [&](const float (&out)[4]) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const int r = e / 2, c = i * 8 + 2 * t + e % 2;
            const float x = (out[e] - excess[r]) * inverse[r] * memory.unit()[slice + c];
            rows[(g + 8 * r) * (kWidth + 8) + c] = none[r] ? 0.0f : x;
          }
        });
      __syncwarp();
      if (count <= 0) continue;
      const int channels = a.channels - slice;
      if (w.shares > 1) {
        float* part = a.part_out + part_row(a, w.sequence, w.key_head, w.share, w.rows, first) * C::kDim + slice;
        store_chunks<kWidth, 4>(rows, count, kWidth, kOutF32,
                                [&](int row) { return reinterpret_cast<char*>(part + row * C::kDim); });
        continue;
      }
      const auto to = [&](int row) {
        return out_row(a, place_of(a, w.sequence, w.key_head, first + row)) + slice * size;
      };
      if (!a.out_wide) {
#pragma unroll 1
        for (int i = 0; i < 16 && i < count; i++)
          store_row(to(i), rows + i * (kWidth + 8), min(channels, kWidth), a.out_kind, a.out_access);
      } else if (size == 4) {
        store_chunks<kWidth, 4>(rows, count, channels, kOutF32, to);
      } else {
        store_chunks<kWidth, 2>(rows, count, channels, a.out_kind, to);
      }
    }
  }
}

}  // namespace clary::cuda
