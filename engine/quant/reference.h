// The oracle: attention written out in plain scalar code, slow on purpose. Two levels:
//   exact()      softmax attention in f64 of the inputs as they are: the contract of clary.h, nothing else;
//   quantised()  formats.h written out: the integers and the f32 steps in between that every backend reproduces.
// For tests and benches only; nothing here ships.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/plan.h"
#include "engine/problem.h"

namespace clary::reference {

// A batch entry, or a varlen sequence: queries q_begin.. and keys k_begin.. of batch entry b.
struct Sequence {
  int64_t b, q_begin, rows, k_begin, keys;
};
// REQUIRES: problem.check(false) and problem.check_lengths() hold, as everywhere below.
std::vector<Sequence> sequences(const Problem& problem);

// Whether query `row` of the sequence sees key `key` of it: lengths, causal, window, mask. A float mask of -inf hides.
bool visible(const Problem& problem, const Sequence& sequence, int64_t head, int64_t row, int64_t key);

// One element as float; f16, bf16 and f32 round half to even on the way back.
float widen(const void* element, int32_t dtype);
void narrow(float value, int32_t dtype, void* element);

struct Exact {
  std::vector<double> out;  // [B, Hq, Lq, Dv]
  std::vector<double> lse;  // [B, Hq, Lq]
  std::vector<double>
      reach;  // [B, Hq, Lq] largest sum |scale q k| + |bias| of a visible key: a score's rounding error scales with it
  std::vector<double> v_size;  // [B, Hq, Lq] largest |v| of a visible key
  std::vector<char> finite;    // [B, Hq, Lq] every visible input of this row is finite
};
// A row with no visible key gives 0 and -inf. Visible NaN and infinity propagate as f64 arithmetic has it.
Exact exact(const Problem& problem);

// The integers of one tile of kTileKeys keys (fewer at the end), row-major.
struct Tile {
  int32_t keys;
  std::vector<int32_t> s;  // [rows][keys] sum q k of codes; 0 where not visible
  std::vector<int32_t> p;  // [rows][keys]
  std::vector<int32_t> t;  // [rows][Dv] sum p v
};
// One (sequence, query head).
struct Head {
  Sequence sequence;
  int64_t head;
  std::vector<int16_t> q, k, v;  // [rows][D], [keys][D], [keys][Dv]
  std::vector<float> q_scale;    // [rows]
  std::vector<float> mean;       // [D] of the keys
  std::vector<float> k_scale;    // [tiles]
  std::vector<float> v_scale;    // [tiles][Dv]
  std::vector<Tile> tiles;
};
struct Quantised {
  std::vector<float> out;         // [B, Hq, Lq, Dv] before rounding to out's dtype
  std::vector<double> lse;        // [B, Hq, Lq]
  std::vector<double> lse_reach;  // [B, Hq, Lq] sum of the sizes of what lse is summed from, for its rounding error
  std::vector<char> recomputed;   // [B, Hq, Lq] came out not finite, so it is exact()'s row
  std::vector<Head> heads;        // in order of (sequence, head); empty unless `keep`
};
// arithmetic: kInt8 or kInt16. truth: exact(problem), for the rows that come out not finite. split_keys: for each sequence
// the keys of a share, whose results are combined at the end; 0 or an empty vector: not split.
Quantised quantised(const Problem& problem, Arithmetic arithmetic, const Exact& truth, bool keep = false,
                    const std::vector<int64_t>& split_keys = {});

// Steps of quantised(), for tests of their own.
void rotate(float* x, int D);
float exp2_poly(float y);  // y <= 126
// codes[i * code_stride] = round(x[i * stride] * (max / amax)); returns amax / max, NaN if some x is not finite.
float encode(const float* x, int64_t count, int64_t stride, int max, int16_t* codes, int64_t code_stride);
std::vector<float> key_mean(const float* k, int64_t keys, int D);  // k [keys][D]

}  // namespace clary::reference
