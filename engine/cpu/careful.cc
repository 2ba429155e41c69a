// Online softmax in f64, one key at a time.
#include "engine/cpu/careful.h"

#include <cfloat>
#include <cmath>
#include <cstring>

namespace clary::cpu {
namespace {

double load_value(const char* at, int32_t dtype, int64_t index) {
  if (dtype == CLARY_F32) {
    float x;
    std::memcpy(&x, at + index * 4, 4);
    return x;
  }
  uint16_t h;
  std::memcpy(&h, at + index * 2, 2);
  if (dtype == CLARY_BF16) {
    const uint32_t wide = static_cast<uint32_t>(h) << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
  }
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(mantissa, -24)
                                           : std::ldexp(mantissa + 1024, exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

// Round half to even to a format of `digits` significand bits and smallest exponent `low`.
double round_to(double x, int digits, int low) {
  if (x == 0 || !std::isfinite(x)) return x;
  int e = std::ilogb(x);
  if (e < low) e = low;
  const double unit = std::ldexp(1.0, e - digits + 1);
  return std::nearbyint(x / unit) * unit;
}

float clamp_to_float(double x) {
  if (std::isnan(x) || std::isinf(x)) return static_cast<float>(x);
  return static_cast<float>(x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x);
}

}  // namespace

void store_value(char* out, int32_t dtype, int64_t index, double value) {
  if (dtype == CLARY_F32) {
    const float x = clamp_to_float(value);
    std::memcpy(out + index * 4, &x, 4);
    return;
  }
  uint16_t h;
  if (dtype == CLARY_BF16) {
    const float x = static_cast<float>(round_to(value, 8, -126));
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    h = std::isnan(value) ? 0x7fc0 : static_cast<uint16_t>(bits >> 16);
  } else {
    const double r = round_to(value, 11, -14), m = std::fabs(r);
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value))
      h = 0x7e00;
    else if (m >= 65536)
      h = sign | 0x7c00;
    else if (m < 6.103515625e-05)
      h = static_cast<uint16_t>(sign | static_cast<int>(std::ldexp(m, 24)));
    else
      h = static_cast<uint16_t>(sign | ((std::ilogb(m) + 15) << 10) |
                                (static_cast<int>(std::ldexp(m, 10 - std::ilogb(m))) & 1023));
  }
  std::memcpy(out + index * 2, &h, 2);
}

void careful_row(const AttendArgs& args, const Rows& rows, int row) {
  const KvHead& kv = args.kv;
  const int64_t size = kv.dtype == CLARY_F32 ? 4 : 2;
  double q[kMaxHeadDim], o[kMaxHeadDim] = {}, maximum = -INFINITY, sum = 0;
  bool none = true;
  for (int d = 0; d < kv.D; d++) q[d] = load_value(rows.q[row], kv.dtype, d);
  for (int key = rows.low[row]; key < rows.high[row]; key++) {
    double bias = 0;
    if (rows.mask[row]) {
      if (args.mask_dtype == CLARY_BOOL) {
        if (!rows.mask[row][key * args.mask_stride]) continue;
      } else {
        bias = load_value(rows.mask[row], args.mask_dtype, key * args.mask_stride);
        if (bias == -INFINITY) continue;
      }
    }
    const char* k = kv.k + key * kv.k_stride * size;
    const char* v = kv.v + key * kv.v_stride * size;
    double score = 0;
    none = false;
    for (int d = 0; d < kv.D; d++) score += q[d] * load_value(k, kv.dtype, d);
    score = score * static_cast<double>(args.scale) + bias;
    if (score > maximum || std::isnan(score)) {
      const double alpha = maximum == -INFINITY ? 0 : std::exp(maximum - score);
      sum *= alpha;
      for (int d = 0; d < kv.Dv; d++) o[d] *= alpha;
      maximum = score;
    }
    const double p = score == maximum && std::isfinite(score) ? 1 : std::exp(score - maximum);
    sum += p;
    for (int d = 0; d < kv.Dv; d++) o[d] += p * load_value(v, kv.dtype, d);
  }
  for (int d = 0; d < kv.Dv; d++) store_value(rows.out[row], args.out_dtype, d, none ? 0 : o[d] / sum);
  const float lse = none ? -INFINITY : clamp_to_float(maximum + std::log(sum));
  if (rows.lse[row]) std::memcpy(rows.lse[row], &lse, 4);
}

}  // namespace clary::cpu
