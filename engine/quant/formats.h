// The arithmetic every backend shares: number formats, tile shape, rotation, and the fixed-point exponential. A backend may
// compute these in any order and width as long as it gets the same integers; the oracle (reference.h) is this file written
// out in scalar code.
//
// standard: q, k -> codes in [-127, 127]: q' = rotate(q), k' = rotate(k - mean(k)); scale = max|x'| / 127, per query row
//   and per tile of 128 keys; code = round-half-even(x' * (127 / max|x'|)). S = sum q k, exact in int32.
//   Scores enter the exponential as s = S >> score_shift(D) in int16. P = u8, 255 at the tile's own maximum.
//   v -> codes in [-127, 127], scale per (tile, channel). T = sum P v over the tile, exact in int32.
// high: the same with 12-bit codes (2047), P in [0, 4095], and exp in f32.
// exact: f32 throughout, P in f32.
//
// Every function here is static: per-ISA translation units must not share inline code (HACKING.md).
#pragma once
#include <cstdint>
#include <cstring>

namespace clary {

constexpr int kTileKeys = 128;    // keys that share a K scale, a V scale per channel, and a maximum
constexpr int kBlockRows = 64;    // query rows a work item takes through all tiles
constexpr int kChunkKeys = 1024;  // keys whose sum is one term of the K mean: 8 tiles
constexpr int kF32Chain =
    16;  // f32 dot products add partial sums of 32 channels: a third of the rounding error of one chain
constexpr int kQ8Max = 127, kP8Max = 255;      // standard
constexpr int kQ12Max = 2047, kP12Max = 4095;  // high: 2047 * 2047 * 256 and 4095 * 2047 * 128 stay below 2^31
constexpr float kLog2e = 1.44269504f, kLn2 = 0.69314718f;
constexpr float kMinAmax = 1.20370622e-35f;   // 2^-116: below it codes shrink instead of 2047/max overflowing
constexpr float kMaxFrameLag = 60.0f;         // log2; see attention-inl.h
constexpr float kMeanUnit = 2.32830644e-10f;  // 2^-32: keys are summed in this unit so that no finite sum overflows

static inline int round_up(int x, int to) { return (x + to - 1) / to * to; }

// Bits to drop so that |S| <= 127 * 127 * D fits int16: the noise of dropping them is a tenth of that of the codes.
// -32768 itself never occurs: it marks a masked score.
static inline int score_shift(int D) {
  int shift = 0;
  while ((static_cast<int64_t>(kQ8Max) * kQ8Max * D >> shift) > 32767) shift++;
  return shift;
}

// The rotation: an orthogonal Walsh-Hadamard transform of P = the largest power of two <= D channels, on channels [0, P),
// then, if P < D, once more on [D - P, D). Butterflies in the order h = 1, 2, 4, .. P/2, each (a + b, a - b) in f32, then
// every element times rotation_norm(P).
static inline int rotation_size(int D) {
  int p = 1;
  while (p * 2 <= D) p *= 2;
  return p;
}
static inline float rotation_norm(int P) {  // 1 / sqrt(P), correctly rounded
  float norm = 1.0f;
  for (; P >= 4; P /= 4) norm *= 0.5f;
  return P == 2 ? norm * 0.707106769f : norm;
}

// exp2 in 16-bit fixed point: P = round(255 * 2^-(d * step)) for d = (tile maximum - score) >= 0, step in log2 units.
// ExpStep holds step * 2^23 as m * 2^e, m < 2^16: t = d * step in 1/128 units = mulhi(min(d, limit) * 2^e, m).
struct ExpStep {
  uint16_t m, limit, two_e;
};
static inline ExpStep exp_step(float step) {
  const float full = step * 8388608.0f;
  uint32_t bits;
  std::memcpy(&bits, &full, 4);
  int e = static_cast<int>(bits >> 23) - 127 - 15;
  e = e < 0 ? 0 : e > 15 ? 15 : e;
  const float scaled = full * (1.0f / static_cast<float>(1 << e));
  // round half to even, as cvtps2dq
  const float capped = scaled < 65535.0f ? scaled : 65535.0f;
  uint32_t m = static_cast<uint32_t>(capped);
  const float rest = capped - static_cast<float>(m);
  if (rest > 0.5f || (rest == 0.5f && (m & 1))) m++;
  return {static_cast<uint16_t>(m), static_cast<uint16_t>(65535 >> e), static_cast<uint16_t>(1 << e)};
}
// 2^-f on [0, 1) as c - f * (a - f * b) in units of 1/65536; 65280 = 255 * 256 puts the byte in the high half.
constexpr uint16_t kExpA = 43994, kExpB = 11314, kExpC = 65280;
static inline uint8_t exp_u8(uint16_t d, ExpStep s) {
  const auto mulhi = [](uint32_t x, uint32_t y) { return (x * y) >> 16; };
  const uint32_t t = mulhi((d < s.limit ? d : s.limit) * static_cast<uint32_t>(s.two_e) & 0xffff, s.m);
  const uint32_t f = t << 9 & 0xffff;
  const uint32_t p = kExpC - mulhi(f, kExpA - mulhi(f, kExpB));
  const uint32_t n = t >> 7;
  return static_cast<uint8_t>(((n > 15 ? 0 : p >> n) + 128) >> 8);
}

// exp2 in f32 by a polynomial of degree 5 on [-1/2, 1/2], minimax with 2^0 exact: relative error below 1e-7; NaN stays NaN.
// The coefficients, in Horner order.
constexpr float kExp2Poly[6] = {0.0013254603f, 0.009671999f, 0.055507794f, 0.24022232f, 0.69314694f, 1.0f};
constexpr float kExp2Magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
constexpr float kExp2Low = -127.0f;        // and below: exactly 0 (the exponent field is 0)

}  // namespace clary
