// The judge of the attention kernels. Codes are decoded once a head and rows are swept key by key, so that a few thousand random calls
// are minutes.
#include "attention_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "engine/quant/reference.h"
#include "tests/compare.h"

namespace clary::test {
using cuda::first_row, cuda::rows_offset, cuda::values_offset, cuda::half_values_offset, cuda::kRowPad,
    cuda::kScaleKeys, cuda::kTileKeys;

namespace {

// The workspace of a run by its names.
struct Codes {
  const cuda::QuantiseArgs& args;
  const int8_t *q, *k;
  const uint8_t* v;
  const float *q_scales, *q_shift, *k_scales, *v_scales;
  explicit Codes(const AttentionRun& run) : args(run.quantised.args) {
    const cuda::QuantisePlan::Offsets& o = run.quantised.offsets;
    const auto at = [&](uint64_t offset, auto*& to) {
      to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(run.codes.data() + offset);
    };
    at(o.q_codes, q), at(o.k_codes, k), at(o.v_codes, v);
    at(o.q_scales, q_scales), at(o.q_shift, q_shift), at(o.k_scales, k_scales), at(o.v_scales, v_scales);
  }
};

// One head of one sequence: where it lies in the codes, and the codes in plain order.
struct Head {
  const reference::Sequence& s;
  int64_t head, bh, kv, q_row, k_row, v_block;
  std::vector<int16_t> k;  // [keys][dim]
  std::vector<double> v;   // [keys][Dv]
};

// The scales of V for the channels of key j: of its block, or of the whole sequence.
const float* scales_of(const Codes& c, const Head& h, int64_t j, int dim) {
  const int64_t block = c.args.v_per_channel ? 0 : j / kScaleKeys;
  return c.v_scales + (h.kv * c.args.v_blocks + h.v_block + block) * dim;
}

Head head_of(const Problem& p, const Codes& c, const reference::Sequence& s, int64_t index, int64_t head, int dim) {
  Head h = {s, head, s.b * p.Hq + head, s.b * p.Hkv + head / p.group(), 0, 0, 0, {}, {}};
  if (p.varlen()) {
    h.q_row = first_row(s.q_begin, index, kRowPad);
    h.k_row = first_row(s.k_begin, index, kTileKeys);
    h.v_block = c.args.v_per_channel ? index : first_row(s.k_begin, index, kScaleKeys) / kScaleKeys;
  }
  const int64_t k_base = h.kv * c.args.k_rows * dim;
  for (int64_t j = 0; j < s.keys; j++) {
    for (int d = 0; d < dim; d++) h.k.push_back(c.k[k_base + rows_offset(dim, c.args.k_rows, h.k_row + j, d)]);
    for (int d = 0; d < p.Dv; d++) {
      const float scale = scales_of(c, h, j, dim)[d];
      double code = c.v[k_base + values_offset(dim, c.args.v_group, d, h.k_row + j)] - 128;
      if (c.args.v_half) {
        _Float16 half;
        std::memcpy(&half, c.v + 2 * k_base + half_values_offset(dim, d, h.k_row + j), sizeof half);
        code = static_cast<double>(half);
      }
      h.v.push_back(code * static_cast<double>(scale));
    }
  }
  return h;
}

std::string row_fault(const Problem& p, const Codes& c, const AttentionRun& run, const Head& h, int64_t i) {
  const reference::Sequence& s = h.s;
  const int dim = run.plan.variant->dim, tile = run.plan.variant->keys;
  const size_t at = static_cast<size_t>(h.bh * p.Lq + s.q_begin + i);
  const float* out = run.out.data() + at * p.Dv;
  const auto fail = [&](const char* what, int64_t d, double got, double want, double bound) {
    char text[256];
    std::snprintf(text, sizeof text, "%s at batch %d query %d head %d row %d channel %d: %.9g instead of %.9g +- %.3g",
                  what, static_cast<int>(s.b), static_cast<int>(s.q_begin), static_cast<int>(h.head),
                  static_cast<int>(i), static_cast<int>(d), got, want, bound);
    return std::string(text);
  };
  const auto any_not_finite = [&] { return !std::all_of(out, out + p.Dv, [](float x) { return std::isfinite(x); }); };

  // scores in log2 units
  const bool has_bias = p.mask.present() && p.mask.dtype != CLARY_BOOL;
  const float q_scale = c.q_scales[h.bh * c.args.q_rows + h.q_row + i];
  std::vector<int16_t> q(dim);
  for (int d = 0; d < dim; d++)
    q[d] = c.q[h.bh * c.args.q_rows * dim + rows_offset(dim, c.args.q_rows, h.q_row + i, d)];
  std::vector<double> score(s.keys, -INFINITY), tile_max((s.keys + tile - 1) / tile, -INFINITY);
  double most = -INFINITY, reach = 0;
  bool nan = false, any = false;
  for (int64_t j = 0; j < s.keys; j++) {
    if (!reference::visible(p, s, h.head, i, j)) continue;
    any = true;
    int32_t sum = 0;
    for (int d = 0; d < dim; d++) sum += q[d] * h.k[j * dim + d];
    const float k_scale = c.k_scales[h.kv * (c.args.k_rows / kTileKeys) + (h.k_row + j) / kTileKeys];
    score[j] = static_cast<double>(sum) * q_scale * k_scale;
    reach = std::max(reach, std::abs(score[j]));
    if (has_bias) {
      const double bias =
          1.4426950408889634 *
          reference::widen(p.mask.at(s.b, h.head, i) + j * p.mask.stride[3] * p.mask.size(), p.mask.dtype);
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
      if (out[d] != 0) return fail("no key, out", d, out[d], 0, 0);
    if (!run.lse.empty() && lse != -INFINITY) return fail("no key, lse", 0, lse, -INFINITY, 0);
    return "";
  }
  if (nan) return any_not_finite() ? "" : fail("a value that is not finite vanished", 0, out[0], NAN, 0);
  if (reach > 1e37)  // f32 has no room for such scores: all that is promised is a finite result
    return any_not_finite() ? fail("out", 0, out[0], 0, INFINITY) : "";

  // P is rounded to a byte of its tile's maximum, or to f16; scores to f32
  const double blur = std::ldexp(reach, -22);
  double l = 0, lse_slack = 0, slack_sum = 0;
  std::vector<double> sum(p.Dv, 0), slack_of(p.Dv, 0), scale_max(p.Dv, 0);
  for (int64_t j = 0; j < s.keys; j++) {
    if (score[j] == -INFINITY) continue;
    const double weight = std::exp2(score[j] - most);
    const double rounding =
        c.args.v_half ? weight * 4.9e-4 + 1e-9 : std::exp2(tile_max[j / tile] - most) * (0.53 / 255);
    const double slack = rounding + weight * std::min(2 * blur, 1.0);
    l += weight;
    lse_slack += rounding + weight * std::min(blur, 1.0);
    slack_sum += slack;
    const double* v = h.v.data() + j * p.Dv;
    for (int d = 0; d < p.Dv; d++) {
      sum[d] += weight * v[d];
      slack_of[d] += slack * std::abs(v[d]);
    }
    if (j % kScaleKeys == 0 || score[j - 1] == -INFINITY)  // a block's first key that is seen
      for (int d = 0; d < p.Dv; d++) {
        const float scale = scales_of(c, h, j, dim)[d];
        scale_max[d] = std::max<double>(scale_max[d], std::isnan(scale) ? INFINITY : scale);
      }
  }
  if (!run.lse.empty()) {
    const double shift = c.args.q_shift ? c.q_shift[h.bh * c.args.q_rows + h.q_row + i] : 0;
    const double want = (most + std::log2(l)) * 0.6931471805599453 + shift;
    const double bound = lse_slack / l + 1e-5 + std::ldexp(std::abs(want) + std::abs(shift) + reach, -20);
    if (!(std::abs(lse - want) <= bound) && std::abs(want) < 1e36) return fail("lse", 0, lse, want, bound);
  }
  for (int d = 0; d < p.Dv; d++) {
    const double want = sum[d] / l;
    if (!std::isfinite(want)) {
      if (std::isfinite(out[d])) return fail("a value that is not finite vanished", d, out[d], want, 0);
      continue;
    }
    const double bound = (slack_of[d] + slack_sum * std::abs(want)) / l + scale_max[d] * 1e-3 +
                         std::abs(want) * rounding(p.out.dtype) * 1.01 + 3e-8;
    if (!(std::abs(out[d] - want) <= bound) &&
        !(std::isinf(out[d]) && p.out.dtype == CLARY_F16 && std::abs(want) > 65000))
      return fail("out", d, out[d], want, bound);
  }
  return "";
}

}  // namespace

std::string attention_fault(const Instance& instance, const AttentionRun& run) {
  if (!run.fault.empty()) return run.fault;
  const Problem p = instance.problem();
  const Codes codes(run);
  const std::vector<reference::Sequence> sequences = reference::sequences(p);
  for (size_t n = 0; n < sequences.size(); n++)
    for (int64_t head = 0; head < p.Hq; head++) {
      const Head h = head_of(p, codes, sequences[n], static_cast<int64_t>(n), head, run.plan.variant->dim);
      for (int64_t i = 0; i < h.s.rows; i++)
        if (std::string fault = row_fault(p, codes, run, h, i); !fault.empty()) return fault;
    }
  return "";
}

}  // namespace clary::test
