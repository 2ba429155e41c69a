#include "attention_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "engine/quant/reference.h"
#include "tests/compare.h"

namespace clary::test {
using cuda::first_row, cuda::rows_offset, cuda::values_offset, cuda::kRowPad, cuda::kScaleKeys;

std::string attention_fault(const Instance& instance, const AttentionRun& run) {
  if (!run.fault.empty()) return run.fault;
  const Problem p = instance.problem();
  const cuda::QuantiseArgs& a = run.quantised.args;
  const cuda::QuantisePlan::Offsets& o = run.quantised.offsets;
  const char* base = run.codes.data();
  const auto* q_codes = reinterpret_cast<const int8_t*>(base + o.q_codes);
  const auto* k_codes = reinterpret_cast<const int8_t*>(base + o.k_codes);
  const auto* v_codes = reinterpret_cast<const uint8_t*>(base + o.v_codes);
  const auto* q_scales = reinterpret_cast<const float*>(base + o.q_scales);
  const auto* q_shift = reinterpret_cast<const float*>(base + o.q_shift);
  const auto* k_scales = reinterpret_cast<const float*>(base + o.k_scales);
  const auto* v_scales = reinterpret_cast<const float*>(base + o.v_scales);
  const int dim = run.plan.variant->dim, tile = run.plan.variant->keys;
  const std::vector<reference::Sequence> sequences = reference::sequences(p);
  const bool has_bias = p.mask.present() && p.mask.dtype != CLARY_BOOL;
  char text[256];

  for (size_t n = 0; n < sequences.size(); n++) {
    const reference::Sequence& s = sequences[n];
    const int64_t index = static_cast<int64_t>(n);
    const int64_t q_row = p.varlen() ? first_row(s.q_begin, index, kRowPad) : 0;
    const int64_t k_row = p.varlen() ? first_row(s.k_begin, index, cuda::kTileKeys) : 0;
    const int64_t v_block = p.varlen() ? first_row(s.k_begin, index, kScaleKeys) / kScaleKeys : 0;
    for (int64_t head = 0; head < p.Hq; head++) {
      const int64_t bh = s.b * p.Hq + head, kv = s.b * p.Hkv + head / p.group();
      for (int64_t i = 0; i < s.rows; i++) {
        const size_t at = static_cast<size_t>((s.b * p.Hq + head) * p.Lq + s.q_begin + i);
        const float q_scale = q_scales[bh * a.q_rows + q_row + i];
        const auto fail = [&](const char* what, int64_t d, double got, double want, double bound) {
          std::snprintf(text, sizeof text, "%s at sequence %zu head %d row %d channel %d: %.9g instead of %.9g +- %.3g",
                        what, n, static_cast<int>(head), static_cast<int>(i), static_cast<int>(d), got, want, bound);
          return std::string(text);
        };
        // scores in log2 units
        std::vector<double> score(s.keys, -INFINITY), tile_max((s.keys + tile - 1) / tile, -INFINITY);
        double most = -INFINITY, reach = 0;
        bool nan = false, any = false;
        for (int64_t j = 0; j < s.keys; j++) {
          if (!reference::visible(p, s, head, i, j)) continue;
          any = true;
          int64_t sum = 0;
          for (int d = 0; d < dim; d++)
            sum += q_codes[bh * a.q_rows * dim + rows_offset(dim, a.q_rows, q_row + i, d)] *
                   k_codes[kv * a.k_rows * dim + rows_offset(dim, a.k_rows, k_row + j, d)];
          const float k_scale = k_scales[kv * (a.k_rows / cuda::kTileKeys) + (k_row + j) / cuda::kTileKeys];
          score[j] = static_cast<double>(sum) * q_scale * k_scale;
          reach = std::max(reach, std::abs(score[j]));
          if (has_bias) {
            const double bias =
                1.4426950408889634 *
                reference::widen(p.mask.at(s.b, head, i) + j * p.mask.stride[3] * p.mask.size(), p.mask.dtype);
            score[j] += bias;
            reach = std::max(reach, std::abs(bias));
          }
          nan = nan || !std::isfinite(score[j]);
          most = std::max(most, score[j]);
          tile_max[j / tile] = std::max(tile_max[j / tile], score[j]);
        }
        const float lse = run.lse.empty() ? 0 : run.lse[at];
        if (!any) {
          for (int64_t d = 0; d < p.Dv; d++)
            if (run.out[at * p.Dv + d] != 0) return fail("no key, out", d, run.out[at * p.Dv + d], 0, 0);
          if (!run.lse.empty() && lse != -INFINITY) return fail("no key, lse", 0, lse, -INFINITY, 0);
          continue;
        }
        if (nan) {
          bool seen = false;
          for (int64_t d = 0; d < p.Dv; d++) seen = seen || !std::isfinite(run.out[at * p.Dv + d]);
          if (!seen) return fail("a value that is not finite vanished", 0, run.out[at * p.Dv], NAN, 0);
          continue;
        }
        if (reach > 1e37) {  // f32 has no room for such scores: all that is promised is a finite result
          for (int64_t d = 0; d < p.Dv; d++)
            if (!std::isfinite(run.out[at * p.Dv + d])) return fail("out", d, run.out[at * p.Dv + d], 0, INFINITY);
          continue;
        }
        // P is rounded to a byte of its tile's maximum; scores to f32
        const double blur = std::ldexp(reach, -22);
        double l = 0, spread = 0;
        for (int64_t j = 0; j < s.keys; j++) {
          if (score[j] == -INFINITY) continue;
          l += std::exp2(score[j] - most);
          spread +=
              std::exp2(tile_max[j / tile] - most) * (0.53 / 255) + std::exp2(score[j] - most) * std::min(blur, 1.0);
        }
        if (!run.lse.empty()) {
          const double shift = run.quantised.args.q_shift ? q_shift[bh * a.q_rows + q_row + i] : 0;
          const double want = (most + std::log2(l)) * 0.6931471805599453 + shift;
          const double bound = spread / l + 1e-5 + std::ldexp(std::abs(want) + std::abs(shift) + reach, -20);
          if (!(std::abs(lse - want) <= bound) && std::abs(want) < 1e36) return fail("lse", 0, lse, want, bound);
        }
        for (int64_t d = 0; d < p.Dv; d++) {
          const float got = run.out[at * p.Dv + d];
          double sum = 0, scale_max = 0;
          const auto value = [&](int64_t j) {
            const float scale =
                v_scales[(kv * a.v_blocks + (a.v_maxima ? (p.varlen() ? index : 0) : v_block + j / kScaleKeys)) * dim +
                         d];
            scale_max = std::max<double>(scale_max, std::isnan(scale) ? INFINITY : scale);
            return (static_cast<int>(
                        v_codes[kv * a.k_rows * dim + values_offset(dim, a.v_group, static_cast<int>(d), k_row + j)]) -
                    128) *
                   static_cast<double>(scale);
          };
          for (int64_t j = 0; j < s.keys; j++)
            if (score[j] != -INFINITY) sum += std::exp2(score[j] - most) * value(j);
          const double want = sum / l;
          if (!std::isfinite(want)) {
            if (std::isfinite(got)) return fail("a value that is not finite vanished", d, got, want, 0);
            continue;
          }
          double bound = 0;
          for (int64_t j = 0; j < s.keys; j++)
            if (score[j] != -INFINITY)
              bound += (std::exp2(tile_max[j / tile] - most) * (0.53 / 255) +
                        std::exp2(score[j] - most) * std::min(2 * blur, 1.0)) *
                       (std::abs(value(j)) + std::abs(want));
          bound = bound / l + scale_max * 1e-3 + std::abs(want) * rounding(p.out.dtype) * 1.01 + 3e-8;
          if (!(std::abs(got - want) <= bound) &&
              !(std::isinf(got) && p.out.dtype == CLARY_F16 && std::abs(want) > 65000))
            return fail("out", d, got, want, bound);
        }
      }
    }
  }
  return "";
}

}  // namespace clary::test
