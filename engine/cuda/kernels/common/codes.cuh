// Codes of P and the frames they are summed in: what the families of attention share. mma/mainloop.cuh has the arithmetic.
#pragma once
#include "ptx.cuh"

namespace clary::cuda {

constexpr float kOffset = 7.99435344f - 24.0f;  // log2(255) - 24
constexpr float kFrameLead = 96.0f;   // O is in units of 2^(frame - kFrameLead - 149): f32 has room for 2^31 more
constexpr float kFrameReach = 31.0f;  // and a maximum further above its frame becomes the frame
constexpr float kNoFrame = -3e38f;
constexpr float kFlatScale = 0.0625f;  // scores per unit of S up to which the exponent is one FMA on S itself
constexpr float kLeastScale = 1e-37f;
constexpr float kMostScale = 1.2676506e30f;   // 2^100: larger ones are taken for it, so that nothing overflows
constexpr float kUnitStep = 8.67361738e-19f;  // 2^-60: V's unit falls by no more at a time

// Sum over the four threads of a row.
__device__ __forceinline__ float sum_of_row(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// What is added to unit x S's bits for a code's exponent: kOffset less the largest, `most` in S's bits. Rounded down twice: no code exceeds 255.
__device__ __forceinline__ float magic_offset(int most, float unit) {
  return fma_down(-kMagic, unit, fma_down(kMagic - __int_as_float(most), unit, kOffset));
}

// Four scores' codes to the bytes of an A fragment; `codes` gets two 16-bit sums.
__device__ __forceinline__ uint32_t pack_codes(float p0, float p1, float p2, float p3, uint32_t& codes) {
  const uint32_t x = pack_f16(p0, p1), y = pack_f16(p2, p3);
  codes += x + y;
  return prmt(x, y, 0x6420);
}

}  // namespace clary::cuda
