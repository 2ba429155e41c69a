// The Walsh-Hadamard rotation of 16 rows by one warp, in registers, almost free.
//
// The matrix of size D = 16 * (D / 16) is a Kronecker product. Its factor of 16 is one k16 step of mma.sync, on the input as it
// lies in memory: no unpacking, no shuffle, and the mean of K enters as the accumulator's start value. The other log2(D / 16)
// stages are additions between accumulators of one thread.
//
// Thread (g = lane / 4, t = lane % 4) holds rows g and g + 8; of each, the 16-byte chunks of channels 32 i + 8 t .. + 7 as four
// pairs. Such a chunk is an A fragment as it stands, if the MMA's rows g and g + 8 are taken for two blocks of one row: pairs 0 and
// 2 for block 2 i, pairs 1 and 3 for block 2 i + 1. So block b multiplies channels 32 (b / 2) + 8 t + 4 e + 2 (b % 2) + j at
// k = 2 t + 8 e + j, and accumulator y[r][i][n][2 c + j] is the element of row g + 8 r with index 2 t + 8 n + j in block 2 i + c.
// The sum over k is a transform over the bits of (e, t, j); with the stages over b the whole is one over the bits of the channel
// (layout.h, rotated_channel).
#pragma once
#include "../common/types.cuh"

namespace clary::cuda {

// Entries of the matrix are +-kScale: results stay finite for any finite input, even with the mean taken off.
template <int D>
constexpr float kRotationScale = 0.5f / D;

// Sums of K are kept in this unit, so that no finite sum overflows.
constexpr float kSumUnit = 4294967296.0f;  // 2^32

// Channel at k of block b.
__device__ __forceinline__ int rotation_input(int b, int k) {
  return 32 * (b >> 1) + 8 * (k >> 1 & 3) + 4 * (k >> 3) + 2 * (b & 1) + (k & 1);
}
__device__ __forceinline__ bool rotation_sign(int k, int n) { return __popc(k & n) & 1; }

// The 16 x 8 fragment of the matrix for outputs 8 n .. 8 n + 7, as two entries of a 16-bit type.
template <class T, int D>
__device__ __forceinline__ void rotation_fragment(uint32_t (&h)[2][2]) {
  // kScale in both halves; bf16 has eight exponent bits above seven of fraction, f16 five above ten
  constexpr int kLog = D == 64 ? 6 : D == 128 ? 7 : 8;
  constexpr bool kHalf = sizeof(typename T::Element) == 2 && T::kIsHalf;
  constexpr uint32_t kOne =
      kHalf ? static_cast<uint32_t>(15 - kLog - 1) << 10 : static_cast<uint32_t>(127 - kLog - 1) << 7;
  const int own = lane(), g = own >> 2, t = own & 3;
#pragma unroll
  for (int n = 0; n < 2; n++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      const int k = 2 * t + 8 * e, column = g + 8 * n;
      h[n][e] = kOne * 0x10001u ^ (rotation_sign(k, column) ? 0x8000u : 0u) ^
                (rotation_sign(k + 1, column) ? 0x80000000u : 0u);
    }
}

// A row's part.
template <int D>
using Rotated = float[D / 32][2][4];

// First stage: y = start + sum over k. start(b, n, j) gives the start values.
template <class T, int D, class Start>
__device__ __forceinline__ void rotate_blocks(const typename T::Pair (&x)[D / 32][4], const uint32_t (&h)[2][2],
                                              Rotated<D>& y, Start start) {
  if constexpr (kHasAmpereMma || T::kIsHalf) {
#pragma unroll
    for (int i = 0; i < D / 32; i++)
#pragma unroll
      for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int m = 0; m < 4; m++) y[i][n][m] = start(2 * i + m / 2, n, m % 2);
        T::multiply(y[i][n], x[i], h[n]);
      }
  } else {  // no such MMA: two stages in the thread, two across the four threads that share the rows
    constexpr float kScale = kRotationScale<D>;
    const int t = lane() & 3;
#pragma unroll
    for (int i = 0; i < D / 32; i++)
#pragma unroll
      for (int c = 0; c < 2; c++) {
        const typename T::Pair p = x[i][c], q = x[i][c + 2];
        const float p0 = T::low(p) * kScale, p1 = T::high(p) * kScale, q0 = T::low(q) * kScale,
                    q1 = T::high(q) * kScale;
        float z[2][2] = {{(p0 + p1) + (q0 + q1), (p0 - p1) + (q0 - q1)},
                         {(p0 + p1) - (q0 + q1), (p0 - p1) - (q0 - q1)}};
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
          for (int j = 0; j < 2; j++) {
#pragma unroll
            for (int m = 1; m <= 2; m *= 2) {
              const float other = __shfl_xor_sync(~0u, z[n][j], m);
              z[n][j] = t & m ? other - z[n][j] : z[n][j] + other;
            }
            y[i][n][2 * c + j] = z[n][j] + start(2 * i + c, n, j);
          }
      }
  }
}

// The stages between blocks.
template <int D>
__device__ __forceinline__ void rotate_across(Rotated<D>& y) {
  const auto butterfly = [](float& u, float& v) {
    const float sum = u + v;
    v = u - v;
    u = sum;
  };
#pragma unroll
  for (int n = 0; n < 2; n++) {
#pragma unroll
    for (int i = 0; i < D / 32; i++)
#pragma unroll
      for (int j = 0; j < 2; j++) butterfly(y[i][n][j], y[i][n][2 + j]);
#pragma unroll
    for (int s = 1; s < D / 32; s *= 2)
#pragma unroll
      for (int i = 0; i < D / 32; i++)
        if (!(i & s))
#pragma unroll
          for (int m = 0; m < 4; m++) butterfly(y[i][n][m], y[i + s][n][m]);
  }
}

}  // namespace clary::cuda
