#include "quantise_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/quant/reference.h"
#include "tests/bounds.h"

namespace clary::test {
namespace {

using namespace cuda;

struct Tally {
  Difference d;
  int64_t codes = 0, differ = 0;

  void wrong(const char* what, int64_t head, int64_t row, int64_t column) {
    if (d.damage.empty())
      d.damage = std::string(what) + " at head " + std::to_string(head) + ", " + std::to_string(row) + ", " +
                 std::to_string(column);
  }
  void code(int got, double exact) {
    const int want = static_cast<int>(std::nearbyint(exact));
    d.excess = std::max(d.excess, std::abs(got - exact) - 0.5);
    codes++;
    differ += got != want;
    d.worst_code = std::max(d.worst_code, std::abs(got - want));
  }
  // `reach` is the size of what `want` is the difference of: its rounding error scales with it.
  void scale(float got, double want, int64_t head, int64_t row, int64_t column, double reach = 0) {
    if (!std::isfinite(want)) {
      if (!std::isnan(got)) wrong("scale is not NaN", head, row, column);
    } else if (std::isfinite(got)) {
      d.worst_scale = std::max(d.worst_scale, std::abs(got - want) / (want + reach));
    } else {
      wrong("scale is not finite", head, row, column);
    }
  }
  Difference done() {
    d.differing = codes ? static_cast<double>(differ) / static_cast<double>(codes) : 0;
    return d;
  }
};

double element(const View& t, int64_t bh, int64_t l, int64_t c) {
  return reference::widen(t.at(bh / t.shape[1], bh % t.shape[1], l) + c * t.size(), t.dtype);
}
int64_t key_count(const Problem& p, int64_t bh) {
  return p.kv_lens ? std::clamp<int64_t>(p.kv_lens[bh / p.Hkv], 0, p.Lk) : p.Lk;
}

// W x / sqrt(n), n the length of x: a transform in natural order.
void rotate(std::vector<double>& x) {
  for (size_t h = 1; h < x.size(); h *= 2)
    for (size_t i = 0; i < x.size(); i++)
      if (!(i & h)) {
        const double a = x[i], b = x[i + h];
        x[i] = a + b;
        x[i + h] = a - b;
      }
  for (double& v : x) v /= std::sqrt(static_cast<double>(x.size()));
}
std::vector<double> row_of(const View& t, int64_t bh, int64_t l, int dp) {
  std::vector<double> x(static_cast<size_t>(dp), 0.0);
  for (int64_t c = 0; c < t.shape[3]; c++) x[c] = element(t, bh, l, c);
  return x;
}
double largest(const std::vector<double>& x) {  // NaN if one is not finite
  double m = 0;
  for (const double v : x) m = std::isfinite(v) && !std::isnan(m) ? std::max(m, std::abs(v)) : std::nan("");
  return m;
}

std::vector<double> mean_of_keys(const Problem& p, const QuantisePlan& plan, int64_t bh, int dp) {
  std::vector<double> mean(static_cast<size_t>(dp), 0.0);
  const int64_t keys = key_count(p, bh);
  if (plan.args.mean == kNoMean || keys == 0) return mean;
  const bool sampled = mean_sampled(plan.args.mean == kSampledMean, keys);
  const int64_t n = mean_samples(sampled, keys);
  for (int64_t i = 0; i < n; i++)
    for (int64_t c = 0; c < p.D; c++) mean[c] += element(p.k, bh, mean_key(sampled, i), c) / static_cast<double>(n);
  return mean;
}

template <class T>
const T* at(const char* workspace, uint64_t offset) {
  return reinterpret_cast<const T*>(workspace + offset);
}

}  // namespace

Difference check_queries(const Problem& p, const QuantisePlan& plan, const char* workspace) {
  Tally t;
  const int dp = padded_dim(p.D);
  const int64_t rows = plan.args.q_rows;
  const int8_t* codes = at<int8_t>(workspace, plan.offsets.q_codes);
  const float* scales = at<float>(workspace, plan.offsets.q_scales);
  const float* shifts = at<float>(workspace, plan.offsets.q_shift);
  for (int64_t bh = 0; bh < p.B * p.Hq; bh++) {
    const int64_t kv = bh / p.Hq * p.Hkv + bh % p.Hq / p.group();
    std::vector<double> mean;
    if (plan.args.q_shift) mean = mean_of_keys(p, plan, kv, dp);
    for (int64_t l = 0; l < rows; l++) {
      const int64_t at_row = bh * rows + l;
      if (l >= p.Lq) {
        for (int i = 0; i < dp; i++)
          if (codes[bh * rows * dp + rows_offset(dp, rows, l, i)]) t.wrong("q padding is not 0", bh, l, i);
        continue;
      }
      std::vector<double> x = row_of(p.q, bh, l, dp);
      if (plan.args.q_shift) {
        double dot = 0, xx = 1e-300, mm = 1e-300;
        for (int i = 0; i < dp; i++) dot += x[i] * mean[i], xx += x[i] * x[i], mm += mean[i] * mean[i];
        const double reach = std::sqrt(xx * mm) * p.scale;
        const double off = std::abs(shifts[at_row] - dot * p.scale) / std::max(reach, 1e-30);
        if (std::isfinite(reach)) t.d.worst_shift = std::max(t.d.worst_shift, std::isfinite(off) ? off : 1e9);
      }
      rotate(x);
      const double m = largest(x);
      t.scale(scales[at_row], std::max(m, 1e-35) / 127 * p.scale * 1.4426950408889634, bh, l, 0);
      for (int i = 0; i < dp && std::isfinite(m); i++)
        t.code(codes[bh * rows * dp + rows_offset(dp, rows, l, i)], m > 1e-34 ? x[rotated_channel(i)] * 127 / m : 0);
    }
  }
  return t.done();
}

Difference check_keys(const Problem& p, const QuantisePlan& plan, const char* workspace) {
  Tally t;
  const int dp = padded_dim(p.D);
  const int64_t rows = plan.args.k_rows;
  const int8_t* codes = at<int8_t>(workspace, plan.offsets.k_codes);
  const float* scales = at<float>(workspace, plan.offsets.k_scales);
  for (int64_t bh = 0; bh < p.B * p.Hkv; bh++) {
    const int64_t keys = key_count(p, bh);
    const std::vector<double> mean = mean_of_keys(p, plan, bh, dp);
    double mean_size = 0;
    for (const double x : mean) mean_size += x * x;
    mean_size = std::sqrt(mean_size);
    for (int64_t tile = 0; tile < rows / kTileKeys; tile++) {
      std::vector<std::vector<double>> y;
      double m = 0;
      for (int64_t l = tile * kTileKeys; l < std::min(keys, (tile + 1) * kTileKeys); l++) {
        std::vector<double> x = row_of(p.k, bh, l, dp);
        for (int i = 0; i < dp; i++) x[i] -= mean[i];
        rotate(x);
        const double own = largest(x);
        m = std::isnan(own) || std::isnan(m) ? std::nan("") : std::max(m, own);
        y.push_back(x);
      }
      if (!y.empty())
        t.scale(scales[bh * (rows / kTileKeys) + tile], std::max(m, 1e-35) / 127, bh, tile, 0, mean_size / 127);
      const bool noise = m < 1e-4 * mean_size;  // as for a single key: nothing but the rounding of key - mean
      for (int64_t l = 0; l < kTileKeys; l++)
        for (int i = 0; i < dp; i++) {
          const int got = codes[bh * rows * dp + rows_offset(dp, rows, tile * kTileKeys + l, i)];
          if (y.empty()) {
            if (got != kUnwritten) t.wrong("k past its length is written", bh, tile * kTileKeys + l, i);
          } else if (l >= static_cast<int64_t>(y.size())) {
            if (std::isfinite(m) && got != 0) t.wrong("k padding is not 0", bh, tile * kTileKeys + l, i);
          } else if (std::isfinite(m) && !noise) {
            t.code(got, m > 1e-34 ? y[l][rotated_channel(i)] * 127 / m : 0);
          }
        }
    }
  }
  return t.done();
}

Difference check_values(const Problem& p, const QuantisePlan& plan, const char* workspace) {
  Tally t;
  const int dvp = plan.args.dvp;
  const int64_t rows = plan.args.k_rows;
  const bool per_channel = plan.args.v_per_channel;
  const int64_t blocks = ceil_div(p.Lk, kScaleKeys), stored = per_channel ? 1 : blocks;
  const uint8_t* codes = at<uint8_t>(workspace, plan.offsets.v_codes);
  const float* scales = at<float>(workspace, plan.offsets.v_scales);
  for (int64_t bh = 0; bh < p.B * p.Hkv; bh++) {
    const int64_t keys = key_count(p, bh);
    for (int c = 0; c < dvp; c++) {
      const auto maximum = [&](int64_t from, int64_t to) {
        std::vector<double> x{0};
        for (int64_t l = from; l < std::min(to, keys) && c < p.Dv; l++) x.push_back(element(p.v, bh, l, c));
        return largest(x);
      };
      const double all = per_channel ? maximum(0, keys) : 0;
      for (int64_t block = 0; block < blocks; block++) {
        const int64_t from = block * kScaleKeys, to = std::min(rows, from + kScaleKeys);
        const double m = per_channel ? all : maximum(from, to);
        if (from < keys && (!per_channel || block == 0))
          t.scale(scales[(bh * stored + block) * dvp + c],
                  std::max(m, std::ldexp(1.0, -120)) / (plan.args.v_half ? 1 : 127), bh, block, c);
        for (int64_t l = from; l < to; l++) {
          if (plan.args.v_half) {
            uint16_t bits;
            std::memcpy(&bits, codes + bh * rows * dvp * 2 + half_values_offset(dvp, c, l), sizeof bits);
            const float got = reference::widen(reinterpret_cast<const char*>(&bits), CLARY_F16);
            if (from >= keys) {
              if (bits != (kUnwritten & 0xff) * 0x101) t.wrong("v past its length is written", bh, l, c);
            } else if (l >= keys || c >= p.Dv) {
              if (std::isfinite(m) && got != 0) t.wrong("v padding is not 0", bh, l, c);
            } else if (std::isfinite(m) && m > 1e-34) {
              const double want = element(p.v, bh, l, c) / m;
              if (!(std::abs(got - want) <= 1.01 * kRounding_f16 * std::abs(want) + kFloor_f16))
                t.wrong("v is not its share of the largest", bh, l, c);
            }
            continue;
          }
          const int got = codes[bh * rows * dvp + values_offset(dvp, plan.args.v_group, c, l)];
          if (from >= keys) {
            if (got != kUnwritten) t.wrong("v past its length is written", bh, l, c);
          } else if (l >= keys || c >= p.Dv) {
            if (std::isfinite(m) && got != 128) t.wrong("v padding is not 128", bh, l, c);
          } else if (std::isfinite(m)) {
            t.code(got, 128 + (m > 0 ? element(p.v, bh, l, c) * 127 / m : 0));
          }
        }
      }
    }
  }
  return t.done();
}

}  // namespace clary::test
