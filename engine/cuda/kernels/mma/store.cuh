// The end of a block: O over its sums, through shared memory so that rows leave as whole sectors whatever their type and address.
//
// The code is run once a block, so what counts is how much of it there is: what most calls take is written out, the rest are loops.
#pragma once
#include "../common/store.cuh"
#include "mainloop.cuh"

namespace clary::cuda {

// Channels that are staged at a time as f32.
template <class C>
__host__ __device__ constexpr int slice_width() {
  int width = C::kDim < 128 ? C::kDim : 128;
  while (C::kWarps * 16 * (width + 8) * 4 > Memory<C>::kTiles) width /= 2;
  return width;
}

// The first `bytes` of each of a warp's first `count` rows of 16, 16 bytes a lane: from shared memory, in rows of kBytes + kPad, to `to`
// and every `stride` bytes from there.
template <int kBytes, int kPad>
__device__ __forceinline__ void store_chunks(const uint8_t* rows, int count, int bytes, char* to, int64_t stride) {
  constexpr int kChunks = kBytes / 16, kStep = 32 / kChunks;
  static_assert(32 % kChunks == 0);
  const int row = lane() / kChunks, at = lane() % kChunks * 16;
  const uint8_t* from = rows + row * (kBytes + kPad) + at;
  to += row * stride + at;
#pragma unroll
  for (int i = 0; i < 16; i += kStep, to += kStep * stride)
    if (i + row < count && at < bytes)
      *reinterpret_cast<Word4*>(to) = *reinterpret_cast<const Word4*>(from + i * (kBytes + kPad));
}

// put(block of 8 channels, 8 r, x, y): the thread's two channels of row g + 8 r of O's 16-row block m, as they leave.
template <class C, class Put>
__device__ __forceinline__ void each_pair(const Memory<C>& memory, Accumulators<C>& o, int m, int slice, int width,
                                          const float (&excess)[2], const float (&inverse)[2], Put put) {
  const float* units = memory.unit() + (lane() & 3) * 2;
#pragma unroll
  for (int i = slice / 8; i < (slice + width) / 8; i++)
    with_out<C>(memory, o, m, i, [&](const float (&out)[4]) {
      const float x = units[i * 8], y = units[i * 8 + 1];
#pragma unroll
      for (int r = 0; r < 2; r++)
        put(i - slice / 8, r, fmaf(out[2 * r], inverse[r], -excess[r]) * x,
            fmaf(out[2 * r + 1], inverse[r], -excess[r]) * y);
    });
}

// REQUIRES every thread of the block to be past its last tile: the memory of K and V is used.
template <class C>
__device__ __forceinline__ void store_rows(const AttentionArgs& a, const Memory<C>& memory, Accumulators<C>& o) {
  const Work& w = memory.facts().work;
  const Sequence& seq = w.sequence;
  constexpr int kWarpRows = C::kRows / C::kWarps, kWidth = slice_width<C>();
  constexpr int kPad16 = 16, kRow16 = C::kDim * 2 + kPad16;  // bytes of a staged row of 16-bit elements
  constexpr int kPad32 = 32, kRow32 = kWidth * 4 + kPad32;   // and of a slice of f32
  // of a warp, whichever way its rows leave
  constexpr int kStaged = 16 * kRow32 > kWarpRows * kRow16 ? 16 * kRow32 : kWarpRows * kRow16;
  static_assert(C::kWarps * kStaged <= Memory<C>::kTiles && kStaged % 16 == 0);
  const bool parts = w.shares > 1;
  // anew, where they would be kept over the loop and spill
  const int own_lane = kHasBlackwellMma ? Memory<C>::thread() & 31 : lane(), g = own_lane >> 2, t = own_lane & 3;
  const int own_warp = kHasBlackwellMma ? Memory<C>::thread() >> 5 : warp();
#pragma unroll
  for (int m = 0; m < C::kMmas; m++) {
    const int first = w.row + own_warp * kWarpRows + 16 * m, count = min(w.rows - first, 16);
    if (count <= 0) continue;
    float all[2], excess[2], inverse[2];  // out = (o * inverse - excess) * unit
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float sum = sum_of_row(o.sum[m][r]);
      all[r] = sum + memory.total()[Memory<C>::row(m, r)];
      inverse[r] = reciprocal(all[r]);
      excess[r] = C::kHalf ? 0.0f : sum * 128.0f * inverse[r];
    }
    if (const int r = t; (parts || a.lse) && r < 2 && g + 8 * r < count) {
      // a sum counts codes, 255 to one, in units of 2^(frame + kFrameLead - 149); or f16 in units of 2^(frame - kHalfLead)
      constexpr float kOne = C::kHalf ? -kHalfLead : 149.0f - kFrameLead - 7.99435344f;
      const int row = first + g + 8 * r;
      const float sum = r ? all[1] : all[0];
      const float log2_sum = sum == 0 ? -kInfinity : memory.frame()[row - w.row] + (log2_fast(sum) + kOne);
      if (parts) {
        a.part_lse[part_row(a, seq, w.key_head, w.share, w.rows, row)] = log2_sum;
      } else {
        store_lse(a, seq, place_of(a, seq, w.key_head, row), log2_sum);
      }
    }
    // rows side by side: of one head
    const bool even = parts || head_of_row(a, seq, first) == head_of_row(a, seq, first + count - 1);
    const bool wide = even && (parts || a.out_wide);
    if (wide && !parts && a.out_kind != kOutF32) {
      uint8_t* rows = memory.base + own_warp * kStaged + 16 * m * kRow16;
      uint8_t* own = rows + g * kRow16 + t * 4;
      const auto stage = [&](auto pack) {
        each_pair<C>(memory, o, m, 0, C::kDim, excess, inverse, [&](int i, int r, float x, float y) {
          *reinterpret_cast<uint32_t*>(own + 8 * r * kRow16 + i * 16) = all[r] == 0 ? 0u : pack(x, y);
        });
      };
      if (m != 0) __syncwarp();  // as below
      if (a.out_kind == kOutF16) {
        stage([](float x, float y) { return pack_f16(x, y); });
      } else {
        stage([](float x, float y) { return pack_bf16(x, y); });
      }
      __syncwarp();
      store_chunks<C::kDim * 2, kPad16>(rows, count, a.channels * 2, out_row(a, place_of(a, seq, w.key_head, first)),
                                        a.out_token);
      continue;
    }
    float* rows = reinterpret_cast<float*>(memory.base + own_warp * kStaged);
    float* own = rows + g * (kRow32 / 4) + t * 2;
#pragma unroll
    for (int slice = 0; slice < C::kDim; slice += kWidth) {
      __syncwarp();  // the last slice, or block of rows, has left
      each_pair<C>(memory, o, m, slice, kWidth, excess, inverse, [&](int i, int r, float x, float y) {
        own[8 * r * (kRow32 / 4) + i * 8] = all[r] == 0 ? 0.0f : x;
        own[8 * r * (kRow32 / 4) + i * 8 + 1] = all[r] == 0 ? 0.0f : y;
      });
      __syncwarp();
      if (wide) {
        char* to =
            parts ? reinterpret_cast<char*>(a.part_out + part_row(a, seq, w.key_head, w.share, w.rows, first) * C::kDim)
                  : out_row(a, place_of(a, seq, w.key_head, first));
        store_chunks<kWidth * 4, kPad32>(reinterpret_cast<const uint8_t*>(rows), count,
                                         ((parts ? C::kDim : a.channels) - slice) * 4, to + slice * 4,
                                         parts ? C::kDim * 4 : a.out_token);
      } else {
#pragma unroll 1
        for (int i = 0; i < count; i++)
          store_row(out_row(a, place_of(a, seq, w.key_head, first + i)) + slice * (a.out_kind == kOutF32 ? 4 : 2),
                    rows + i * (kRow32 / 4), min(a.channels - slice, kWidth), a.out_kind, a.out_access);
      }
    }
  }
}

}  // namespace clary::cuda
