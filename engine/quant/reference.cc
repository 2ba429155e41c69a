// The oracle. Read it next to formats.h: one function per step, in the order of the text there.
#include "engine/quant/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/quant/formats.h"

namespace clary::reference {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

float element(const View& t, int64_t b, int64_t h, int64_t l, int64_t d) {
  return widen(t.at(b, h, l) + d * t.stride[3] * t.size(), t.dtype);
}

// Rows first .. first + rows of head h, widened, [rows][shape[3]].
std::vector<float> load(const View& t, int64_t b, int64_t h, int64_t first, int64_t rows) {
  const int64_t D = t.shape[3];
  std::vector<float> x(static_cast<size_t>(rows * D));
  for (int64_t i = 0; i < rows; i++)
    for (int64_t d = 0; d < D; d++) x[i * D + d] = element(t, b, h, first + i, d);
  return x;
}

bool has_bias(const Problem& p) { return p.mask.present() && p.mask.dtype != CLARY_BOOL; }

float bias(const Problem& p, const Sequence& s, int64_t head, int64_t row, int64_t key) {
  return has_bias(p) ? element(p.mask, s.b, head, row, key) : 0.0f;
}

size_t row_index(const Problem& p, const Sequence& s, int64_t head, int64_t row) {
  return static_cast<size_t>((s.b * p.Hq + head) * p.Lq + s.q_begin + row);
}

bool all_finite(const float* x, int64_t n) {
  return std::all_of(x, x + n, [](float value) { return std::isfinite(value); });
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

}  // namespace

// ---- what is asked ---------------------------------------------------------------------------------------------------------

std::vector<Sequence> sequences(const Problem& p) {
  std::vector<Sequence> all;
  for (int64_t s = 0; s < p.num_seqs; s++)
    if (p.varlen())
      all.push_back({0, p.cu_q[s], p.cu_q[s + 1] - p.cu_q[s], p.cu_k[s], p.cu_k[s + 1] - p.cu_k[s]});
    else
      all.push_back({s, 0, p.Lq, 0, p.kv_lens ? p.kv_lens[s] : p.Lk});
  return all;
}

bool visible(const Problem& p, const Sequence& s, int64_t head, int64_t row, int64_t key) {
  const int64_t position = p.causal == CLARY_CAUSAL_LOWER_RIGHT ? row + s.keys - s.rows : row;
  if (key >= s.keys) return false;
  if (p.causal != CLARY_CAUSAL_NONE && key > position) return false;
  if (p.window_left >= 0 && position - key > p.window_left) return false;
  if (p.window_right >= 0 && key - position > p.window_right) return false;
  if (!p.mask.present()) return true;
  if (p.mask.dtype == CLARY_BOOL) return p.mask.at(s.b, head, row)[key * p.mask.stride[3]] != 0;
  return bias(p, s, head, row, key) != -kInf;
}

float widen(const void* element, int32_t dtype) {
  if (dtype == CLARY_F32) {
    float x;
    std::memcpy(&x, element, 4);
    return x;
  }
  uint16_t bits;
  std::memcpy(&bits, element, 2);
  if (dtype == CLARY_BF16) return float_of(static_cast<uint32_t>(bits) << 16);
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float size = exponent == 31  ? (mantissa ? kNan : kInf)
                     : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                     : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return bits >> 15 ? -size : size;
}

void narrow(float value, int32_t dtype, void* element) {
  if (dtype == CLARY_F32) {
    std::memcpy(element, &value, 4);
    return;
  }
  uint32_t bits = bits_of(value);
  uint16_t half = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (dtype == CLARY_BF16) {
    if (std::isnan(value))
      bits |= 0x400000;
    else
      bits += 0x7fff + (bits >> 16 & 1);
    half = static_cast<uint16_t>(bits >> 16);
  } else if (std::isnan(value)) {
    half |= 0x7e00;
  } else {
    // Round in units of the last place of the result: 2^-24 below the smallest normal.
    int exponent = 0;
    std::frexp(value, &exponent);
    const int unit = std::max(exponent - 11, -24);
    const double rounded = std::ldexp(std::nearbyint(std::ldexp(std::fabs(static_cast<double>(value)), -unit)), unit);
    if (!(rounded < 65520.0))
      half |= 0x7c00;
    else if (rounded < std::ldexp(1.0, -14))
      half |= static_cast<uint16_t>(std::ldexp(rounded, 24));
    else {
      int top = 0;
      const double fraction = std::frexp(rounded, &top);  // [1/2, 1)
      half |= static_cast<uint16_t>((top + 14) << 10 | (static_cast<int>(std::ldexp(fraction, 11)) & 1023));
    }
  }
  std::memcpy(element, &half, 2);
}

// ---- exact -------------------------------------------------------------------------------------------------------------------

Exact exact(const Problem& p) {
  const size_t rows = static_cast<size_t>(p.B * p.Hq * p.Lq);
  Exact result{std::vector<double>(rows * p.Dv), std::vector<double>(rows, -INFINITY), std::vector<double>(rows),
               std::vector<double>(rows), std::vector<char>(rows, 1)};
  for (const Sequence& s : sequences(p))
    for (int64_t head = 0; head < p.Hq; head++) {
      const std::vector<float> q = load(p.q, s.b, head, s.q_begin, s.rows);
      const std::vector<float> k = load(p.k, s.b, head / p.group(), s.k_begin, s.keys);
      const std::vector<float> v = load(p.v, s.b, head / p.group(), s.k_begin, s.keys);
      std::vector<double> score(s.keys);
      std::vector<char> seen(s.keys);
      for (int64_t i = 0; i < s.rows; i++) {
        const size_t row = row_index(p, s, head, i);
        double max = -INFINITY;
        bool any = false, nan = false, finite = true;
        for (int64_t j = 0; j < s.keys; j++) {
          seen[j] = visible(p, s, head, i, j);
          if (!seen[j]) continue;
          const double b = bias(p, s, head, i, j);
          double sum = 0, size = 0;
          for (int64_t d = 0; d < p.D; d++) {
            const double product = static_cast<double>(q[i * p.D + d]) * k[j * p.D + d];
            sum += product;
            size += std::fabs(product);
          }
          score[j] = p.scale * sum + b;
          finite = finite && std::isfinite(size + b) && all_finite(&v[j * p.Dv], p.Dv);
          result.reach[row] = std::max(result.reach[row], std::fabs(p.scale) * size + std::fabs(b));
          nan = nan || std::isnan(score[j]);
          max = std::max(max, score[j]);
          any = true;
        }
        result.finite[row] = finite;
        if (!any) continue;
        double l = 0;
        double* out = &result.out[row * p.Dv];
        for (int64_t j = 0; j < s.keys; j++) {
          if (!seen[j]) continue;
          const double weight = nan ? NAN : std::exp(score[j] - max);
          l += weight;
          for (int64_t d = 0; d < p.Dv; d++) {
            out[d] += weight * v[j * p.Dv + d];
            result.v_size[row] = std::max<double>(result.v_size[row], std::fabs(v[j * p.Dv + d]));
          }
        }
        for (int64_t d = 0; d < p.Dv; d++) out[d] /= l;
        result.lse[row] = max + std::log(l);
      }
    }
  return result;
}

// ---- quantised: codes ----------------------------------------------------------------------------------------------------------

void rotate(float* x, int D) {
  const int P = rotation_size(D);
  const auto transform = [P](float* y) {
    for (int h = 1; h < P; h *= 2)
      for (int i = 0; i < P; i += 2 * h)
        for (int j = i; j < i + h; j++) {
          const float a = y[j], b = y[j + h];
          y[j] = a + b;
          y[j + h] = a - b;
        }
    for (int i = 0; i < P; i++) y[i] *= rotation_norm(P);
  };
  transform(x);
  if (P < D) transform(x + D - P);
}

float encode(const float* x, int64_t count, int64_t stride, int max, int16_t* codes, int64_t code_stride) {
  float amax = kMinAmax;
  bool finite = true;
  for (int64_t i = 0; i < count; i++) {
    finite = finite && std::isfinite(x[i * stride]);
    amax = std::max(amax, std::fabs(x[i * stride]));
  }
  for (int64_t i = 0; i < count; i++) codes[i * code_stride] = 0;
  if (!finite) return kNan;
  const float inverse = static_cast<float>(max) / amax;
  for (int64_t i = 0; i < count; i++)
    codes[i * code_stride] = static_cast<int16_t>(std::nearbyint(x[i * stride] * inverse));
  return amax / static_cast<float>(max);
}

std::vector<float> key_mean(const float* k, int64_t keys, int D) {
  std::vector<float> mean(D);
  const float per_key = 4294967296.0f / static_cast<float>(keys);
  for (int d = 0; d < D; d++) {
    float sum = 0;
    for (int64_t first = 0; first < keys; first += kChunkKeys) {
      float chunk = 0;
      for (int64_t j = first; j < std::min(keys, first + kChunkKeys); j++)
        chunk = std::fma(k[j * D + d], kMeanUnit, chunk);
      sum += chunk;
    }
    mean[d] = sum * per_key;
  }
  return mean;
}

float exp2_poly(float y) {
  if (y < kExp2Low) y = kExp2Low;
  const float z = y + kExp2Magic;
  const float f = y - (z - kExp2Magic);
  float poly = kExp2Poly[0];
  for (int i = 1; i < 6; i++) poly = std::fma(poly, f, kExp2Poly[i]);
  return poly * float_of((bits_of(z) << 23) + (127u << 23));
}

// ---- quantised: a head -----------------------------------------------------------------------------------------------------------

namespace {

struct Ranges {
  int code, p;
  float log2_p;
};
constexpr Ranges kInt8Ranges{kQ8Max, kP8Max, 7.99435344f}, kInt16Ranges{kQ12Max, kP12Max, 11.9996477f};

Head encode_head(const Problem& p, const Sequence& s, int64_t head, int max) {
  Head h;
  h.sequence = s;
  h.head = head;
  const int D = p.D, Dv = p.Dv;
  std::vector<float> q = load(p.q, s.b, head, s.q_begin, s.rows);
  h.q.resize(q.size());
  for (int64_t i = 0; i < s.rows; i++) {
    rotate(&q[i * D], D);
    h.q_scale.push_back(encode(&q[i * D], D, 1, max, &h.q[i * D], 1));
    for (int d = 0; p.scale < 0 && d < D; d++) h.q[i * D + d] = static_cast<int16_t>(-h.q[i * D + d]);
  }
  std::vector<float> k = load(p.k, s.b, head / p.group(), s.k_begin, s.keys);
  h.k.resize(k.size());
  h.mean = key_mean(k.data(), s.keys, D);
  for (int64_t j = 0; j < s.keys; j++) {
    for (int d = 0; d < D; d++) k[j * D + d] -= h.mean[d];
    rotate(&k[j * D], D);
  }
  const std::vector<float> v = load(p.v, s.b, head / p.group(), s.k_begin, s.keys);
  h.v.resize(v.size());
  for (int64_t first = 0; first < s.keys; first += kTileKeys) {
    const int64_t keys = std::min<int64_t>(kTileKeys, s.keys - first);
    h.k_scale.push_back(encode(&k[first * D], keys * D, 1, max, &h.k[first * D], 1));
    for (int d = 0; d < Dv; d++)
      h.v_scale.push_back(encode(&v[first * Dv + d], keys, Dv, max, &h.v[first * Dv + d], Dv));
  }
  return h;
}

// O, its frame and its sum: softmax so far = o / l, in units of 2^frame.
struct Accumulator {
  std::vector<float> o;
  float frame = -kInf, l = 0;
  explicit Accumulator(int Dv) : o(Dv) {}
  void reframe(float to) {
    const float alpha = frame == -kInf ? 0.0f : exp2_poly(frame - to);
    for (float& x : o) x *= alpha;
    l *= alpha;
    frame = to;
  }
};

// The integers of row i against a tile: s, p, t of it. Returns the row's maximum m in log2 units, or -inf if no key is visible.
float tile_row(const Problem& p, const Head& h, Arithmetic a, const Ranges& range, int64_t first, int64_t i,
               Tile* tile) {
  const Sequence& s = h.sequence;
  const int64_t keys = tile->keys;
  int32_t* S = &tile->s[i * keys];
  int32_t* P = &tile->p[i * keys];
  std::vector<char> seen(keys);
  bool any = false;
  for (int64_t j = 0; j < keys; j++) {
    seen[j] = visible(p, s, h.head, i, first + j);
    any = any || seen[j];
    for (int d = 0; seen[j] && d < p.D; d++) S[j] += h.q[i * p.D + d] * h.k[(first + j) * p.D + d];
  }
  if (!any) return -kInf;

  const float c = h.q_scale[i] * std::fabs(p.scale * kLog2e) * h.k_scale[first / kTileKeys];
  float m;
  if (a == Arithmetic::kInt8 && !has_bias(p)) {
    const int shift = score_shift(round_up(p.D, 4));
    const float step = c * static_cast<float>(1 << shift);
    int32_t max = -32768;
    for (int64_t j = 0; j < keys; j++)
      if (seen[j]) max = std::max(max, S[j] >> shift);
    const ExpStep exp = exp_step(step);
    for (int64_t j = 0; j < keys; j++)
      if (seen[j]) P[j] = exp_u8(static_cast<uint16_t>(max - (S[j] >> shift)), exp);
    m = step * static_cast<float>(max);
  } else {
    std::vector<float> x(keys, -kInf);
    m = -kInf;
    for (int64_t j = 0; j < keys; j++) {
      if (!seen[j]) continue;
      const float score = static_cast<float>(S[j]);
      x[j] = has_bias(p) ? std::fma(score, c, bias(p, s, h.head, i, first + j) * kLog2e) : score * c;
      m = std::isnan(x[j]) ? x[j] : std::max(m, x[j]);
    }
    for (int64_t j = 0; j < keys; j++) {
      const float value = seen[j] ? exp2_poly((x[j] - m) + range.log2_p) : 0.0f;
      P[j] = std::isfinite(value) ? static_cast<int32_t>(std::nearbyint(value)) : 0;
    }
  }
  for (int64_t j = 0; j < keys; j++)
    for (int d = 0; d < p.Dv; d++) tile->t[i * p.Dv + d] += P[j] * h.v[(first + j) * p.Dv + d];
  return m;
}

void accumulate(const Problem& p, const Head& h, const Tile& tile, int64_t index, int64_t i, float m,
                Accumulator* acc) {
  if (m == -kInf) return;
  if (m - acc->frame > kMaxFrameLag) acc->reframe(m);
  const float beta = exp2_poly(m - acc->frame);
  int32_t sum = 0;
  for (int64_t j = 0; j < tile.keys; j++) sum += tile.p[i * tile.keys + j];
  acc->l = std::fma(static_cast<float>(sum), beta, acc->l);
  for (int d = 0; d < p.Dv; d++)
    acc->o[d] = std::fma(static_cast<float>(tile.t[i * p.Dv + d]), h.v_scale[index * p.Dv + d] * beta, acc->o[d]);
}

// The shares of a split row: their frames brought to the largest, then one division.
void combine(const std::vector<Accumulator>& shares, float log2_p, Accumulator* sum) {
  const auto frame = [&](const Accumulator& share) { return share.l == 0 ? -kInf : share.frame - log2_p; };
  for (const Accumulator& share : shares) sum->frame = std::max(sum->frame, frame(share));
  for (const Accumulator& share : shares) {
    if (share.l == 0) continue;
    const float weight = std::exp2(frame(share) - sum->frame);
    sum->l += share.l * weight;
    for (size_t d = 0; d < sum->o.size(); d++) sum->o[d] += share.o[d] * weight;
  }
}

// Row i of the head's sequence from its accumulators, one for each share of the keys.
void finish(const Problem& p, const Head& h, const Ranges& range, int64_t i, const std::vector<Accumulator>& shares,
            const Exact& truth, Quantised* result) {
  const size_t row = row_index(p, h.sequence, h.head, i);
  float* out = &result->out[row * p.Dv];
  Accumulator sum(p.Dv);
  if (shares.size() > 1) {
    combine(shares, range.log2_p, &sum);
    for (int d = 0; d < p.Dv; d++) out[d] = sum.l == 0 ? 0.0f : sum.o[d] / sum.l;
  } else {
    sum = shares[0];
    sum.frame -= range.log2_p;
    const float inverse = sum.l == 0 ? 0.0f : 1.0f / sum.l;
    for (int d = 0; d < p.Dv; d++) out[d] = sum.o[d] * inverse;
  }
  double smoothed = 0, size = 0;  // the keys' mean, which the codes lack, adds the same to every score of the row
  for (int d = 0; d < p.D; d++) {
    const double product =
        static_cast<double>(element(p.q, h.sequence.b, h.head, h.sequence.q_begin + i, d)) * h.mean[d];
    smoothed += product;
    size += std::fabs(product);
  }
  if (sum.l != 0) {
    result->lse[row] = (sum.frame + std::log2(sum.l)) * std::log(2.0) + p.scale * smoothed;
    result->lse_reach[row] = std::fabs(sum.frame) + 32 + std::fabs(p.scale) * size;
  }
  const bool lost = sum.l == 0 && truth.lse[row] != -INFINITY;  // every visible score is -inf in f32
  if (all_finite(out, p.Dv) && !std::isnan(sum.l) && !lost) return;
  result->recomputed[row] = 1;
  for (int d = 0; d < p.Dv; d++) out[d] = static_cast<float>(truth.out[row * p.Dv + d]);
  result->lse[row] = truth.lse[row];
}

}  // namespace

Quantised quantised(const Problem& p, Arithmetic a, const Exact& truth, bool keep,
                    const std::vector<int64_t>& split_keys) {
  const Ranges& range = a == Arithmetic::kInt8 ? kInt8Ranges : kInt16Ranges;
  const size_t rows = static_cast<size_t>(p.B * p.Hq * p.Lq);
  Quantised result{std::vector<float>(rows * p.Dv),
                   std::vector<double>(rows, -INFINITY),
                   std::vector<double>(rows),
                   std::vector<char>(rows),
                   {}};
  const std::vector<Sequence> all = sequences(p);
  for (size_t n = 0; n < all.size(); n++)
    for (int64_t head = 0; head < p.Hq; head++) {
      const Sequence& s = all[n];
      const int64_t share_keys = split_keys.empty() ? 0 : split_keys[n];
      const int64_t shares = share_keys ? (s.keys + share_keys - 1) / share_keys : 1;
      Head h = encode_head(p, s, head, range.code);
      std::vector<std::vector<Accumulator>> acc(s.rows, std::vector<Accumulator>(shares, Accumulator(p.Dv)));
      for (int64_t first = 0; first < s.keys; first += kTileKeys) {
        Tile tile;
        tile.keys = static_cast<int32_t>(std::min<int64_t>(kTileKeys, s.keys - first));
        tile.s.resize(s.rows * tile.keys);
        tile.p.resize(s.rows * tile.keys);
        tile.t.resize(s.rows * p.Dv);
        for (int64_t i = 0; i < s.rows; i++)
          accumulate(p, h, tile, first / kTileKeys, i, tile_row(p, h, a, range, first, i, &tile),
                     &acc[i][share_keys ? first / share_keys : 0]);
        if (keep) h.tiles.push_back(std::move(tile));
      }
      for (int64_t i = 0; i < s.rows; i++) finish(p, h, range, i, acc[i], truth, &result);
      if (keep) result.heads.push_back(std::move(h));
    }
  return result;
}

}  // namespace clary::reference
