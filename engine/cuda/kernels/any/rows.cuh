// Work items of Q and K: 128 rows, eight warps of 16. No staging: a thread's codes are whole 16-byte chunks of two rows, and four
// threads fill 64 bytes side by side.
#pragma once
#include "../common/load.cuh"
#include "rotation.cuh"

namespace clary::cuda {

// A warp's 16 rows: where the first lies, and how many there are.
struct Rows16 {
  const char* first;
  int left;
};
__device__ __forceinline__ Rows16 rows_of_warp(const Source& s, int bh, const Span& span, int first) {
  return {head_of(s, bh) + (span.begin + first) * s.token, span.count - first};
}

// How many of a thread's two rows are read, and for K kept rotated, at a time: of 256 channels both are more registers than two blocks have.
template <int D>
constexpr int kRowsAhead = D < 256 ? 2 : 1;

// Row g + 8 r of them in the fragment of rotation.cuh; one that is not there is zero.
template <class T, int D>
__device__ __forceinline__ void load_row(const Source& s, const Rows16& rows, int r, Slab<T>* slabs,
                                         typename T::Pair (&x)[D / 32][4]) {
  const int g = lane() >> 2, t = lane() & 3;
  if (s.access == kChunks) {
    constexpr int kSize = sizeof(typename T::Element);
    const char* p = rows.first + (g + 8 * r) * s.token + 8 * t * kSize;
    if (rows.left >= 16 && s.channels == D) {  // all of the warp's
#pragma unroll
      for (int i = 0; i < D / 32; i++) T::load8(p + 32 * i * kSize, x[i]);
      return;
    }
    const bool there = g + 8 * r < rows.left;
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
      // f32 rows may end inside eight channels; then the missing four are read from the last chunk and dropped
      const int left = s.channels - (32 * i + 8 * t);
      if (there && left >= 8) {
        T::load8(p + 32 * i * kSize, x[i]);
      } else {
#pragma unroll
        for (int j = 0; j < 4; j++) x[i][j] = T::zero();
        if constexpr (kSize == 4)
          if (there && left == 4) T::load4(p + 32 * i * kSize, x[i]);
      }
    }
  } else {
    Slab<T>& slab = slabs[warp()];
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
      fill_slab(slab, 32 * i, s,
                [&](int row) { return 8 * r + row < rows.left ? rows.first + (8 * r + row) * s.token : nullptr; });
      T::read8(&slab.rows[g][8 * t], x[i]);
    }
  }
}

template <int D>
__device__ __forceinline__ float row_max(const Rotated<D>& y) {
  float m = 0;
#pragma unroll
  for (int i = 0; i < D / 32; i++)
#pragma unroll
    for (int j = 0; j < 8; j++) m = max_abs(m, y[i][j / 4][j % 4]);
  return m;
}

// Codes round(y * inverse) of a row. `row` is where the row begins in the first panel, `panel` the bytes of a panel
// (layout.h, rows_offset; the swizzle repeats every eight rows).
template <int D>
__device__ __forceinline__ void store_row(const Rotated<D>& y, float inverse, int8_t* row, int panel) {
  constexpr int kWidth = panel_width(D);
  const int g = lane() >> 2, t = lane() & 3;
#pragma unroll
  for (int s = 0; s < D / 64; s++) {  // positions 64 s + 16 t ..: blocks 4 s .. 4 s + 3
    uint32_t w[4];
#pragma unroll
    for (int b = 0; b < 4; b++) {
      const float (&z)[2][4] = y[2 * s + b / 2];
      const auto code = [&](int n, int j) { return fmaf(z[n][b % 2 * 2 + j], inverse, kMagic); };
      w[b] = pack_bytes(code(0, 0), code(0, 1), code(1, 0), code(1, 1));
    }
    *reinterpret_cast<Word4*>(row + (64 * s / kWidth) * panel + 16 * swizzle(g, (4 * s + t) % (kWidth / 16), kWidth)) =
        Word4{w[0], w[1], w[2], w[3]};
  }
}

// Where row `row` of a head begins in its first panel.
template <int D>
__device__ __forceinline__ int64_t rows_base(int bh, int rows, int row) {
  return static_cast<int64_t>(bh) * rows * D + row * panel_width(D);
}

// Below it codes shrink instead of 127 / max overflowing.
constexpr float kLeastMax = 7.52316385e-37f;  // 2^-120

__device__ __forceinline__ float floor_max(float m) { return m < kLeastMax ? kLeastMax : m; }  // keeps NaN
__device__ __forceinline__ float code_factor(float m) { return 127.0f * reciprocal(m); }

// -kScale times the mean of K through the first stage, in the order of the accumulators: what a block's sum starts from.
// Every thread of the block must call it; visible to all of them on return. Waits for V's codes too, so that who waits for this grid has them.
template <int D>
__device__ __forceinline__ void load_mean(const QuantiseArgs& a, int bh, const Span& span, float (&mean)[D]) {
  const int64_t keys = span.count;
  const int i = static_cast<int>(threadIdx.x);
  await_previous_grid();
  if (a.mean == kNoMean || keys == 0) {
    if (i < D) mean[i] = 0;
  } else {
    if (i < D) {
      const int64_t samples = mean_samples(mean_sampled(a.mean == kSampledMean, keys), keys);
      const int chunks = static_cast<int>(chunk_count(samples));
      const float* sums = a.k_sums + (static_cast<int64_t>(bh) * a.sequences + span.sequence) * a.k_chunks * D + i;
      float sum = 0;
#pragma unroll 1
      for (int first = 0; first < chunks; first += 8) {
        float parts[8];  // in flight at once; for 16 there are no registers
#pragma unroll
        for (int c = 0; c < 8; c++) parts[c] = first + c < chunks ? load_fresh(sums + (first + c) * D) : 0.0f;
#pragma unroll
        for (int c = 0; c < 8; c++) sum += parts[c];
      }
      mean[i] = sum * (-kRotationScale<D> * kSumUnit * reciprocal(static_cast<float>(samples)));
    }
  }
  __syncthreads();
}

template <class T, int D>
__device__ __forceinline__ void quantise_queries(const QuantiseArgs& a, int item, Slab<T>* slabs, float (&mean)[D]) {
  const int bh = item / a.q_tiles, g = lane() >> 2, t = lane() & 3;
  int tile = item - bh * a.q_tiles;
  const Span span = span_of(a.q, a.cu_q, sequence_of_item(a, a.cu_q, kTileKeys, tile), kRowPad);
  const int first = tile * kTileKeys + warp() * 16;
  const Rows16 rows = rows_of_warp(a.q, bh, span, first);
  typename T::Pair x[2][D / 32][4];
#pragma unroll
  for (int r = 0; r < kRowsAhead<D>; r++) load_row<T, D>(a.q, rows, r, slabs, x[r]);
  if (a.q_shift) {
    const int kv = bh / a.q.heads * a.k.heads + bh % a.q.heads / (a.q.heads / a.k.heads);
    load_mean<D>(a, kv, key_span(a, kv, span.sequence), mean);
  }
  if (first >= span.count) return;
  const int row = bh * a.q_rows + span.row + first + g;
  int8_t* codes = a.q_codes + rows_base<D>(bh, a.q_rows, span.row + first + g);
  uint32_t h[2][2];
  rotation_fragment<T, D>(h);
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (r >= kRowsAhead<D>) load_row<T, D>(a.q, rows, r, slabs, x[r]);
    Rotated<D> y;
    rotate_blocks<T, D>(x[r], h, y, [](int, int, int) { return 0.0f; });
    if (a.q_shift) {
      // the mean's share of the score: W is orthogonal, so the dot product can be taken after the first stage
      float dot = 0;
#pragma unroll
      for (int b = 0; b < D / 16; b++)
#pragma unroll
        for (int i = 0; i < 4; i++)
          dot = fmaf(y[b / 2][i / 2][b % 2 * 2 + i % 2], mean[b * 16 + i / 2 * 8 + 2 * t + i % 2], dot);
      dot += __shfl_xor_sync(~0u, dot, 1);
      dot += __shfl_xor_sync(~0u, dot, 2);
      if (t == 0) a.q_shift[row + 8 * r] = dot * a.shift_factor;
    }
    rotate_across<D>(y);
    float m = row_max<D>(y);
    m = max_abs(m, __shfl_xor_sync(~0u, m, 1));
    m = floor_max(max_abs(m, __shfl_xor_sync(~0u, m, 2)));
    if (t == 0) a.q_scales[row + 8 * r] = finite_or_nan(m) * fabsf(a.q_factor);
    // eight rows further on the swizzle is the same
    store_row<D>(y, copysignf(code_factor(m), a.q_factor), codes + 8 * r * panel_width(D), a.q_rows * panel_width(D));
  }
}

template <class T, int D>
__device__ __forceinline__ void quantise_keys(const QuantiseArgs& a, int item, Slab<T>* slabs, float (&mean)[D],
                                              float (&maxima)[8]) {
  const int bh = item / a.k_tiles, g = lane() >> 2, t = lane() & 3;
  int tile = item - bh * a.k_tiles;
  const Span span = key_span(a, bh, sequence_of_item(a, a.cu_k, kTileKeys, tile));
  if (tile * kTileKeys >= span.count) return;
  // what is kept of the span until the end: the tile's first row in the codes, and the warp's keys
  const int row = span.row + tile * kTileKeys;
  const Rows16 rows = rows_of_warp(a.k, bh, span, tile * kTileKeys + warp() * 16);
  typename T::Pair x[2][D / 32][4];
  constexpr int kKept = kRowsAhead<D>;
  Rotated<D> y[kKept];
  uint32_t h[2][2];
  const auto rotate = [&](int first) {  // kKept rows, into y
#pragma unroll
    for (int r = 0; r < kKept; r++)
      rotate_blocks<T, D>(x[first + r], h, y[r], [&](int b, int n, int j) { return mean[b * 16 + n * 8 + 2 * t + j]; });
#pragma unroll
    for (int r = 0; r < kKept; r++) rotate_across<D>(y[r]);
  };
#pragma unroll
  for (int r = 0; r < kKept; r++) load_row<T, D>(a.k, rows, r, slabs, x[r]);
  load_mean<D>(a, bh, span, mean);
  rotation_fragment<T, D>(h);
  const bool there[2] = {g < rows.left, g + 8 < rows.left};
  float own = 0;
#pragma unroll
  for (int first = 0; first < 2; first += kKept) {
    if (first) load_row<T, D>(a.k, rows, first, slabs, x[first]);
    rotate(first);
#pragma unroll
    for (int r = 0; r < kKept; r++) own = max_abs(own, there[first + r] ? row_max<D>(y[r]) : 0.0f);
  }
  own = max_of_warp(own);
  if (lane() == 0) maxima[warp()] = own;
  __syncthreads();
  float m = maxima[0];
#pragma unroll
  for (int w = 1; w < 8; w++) m = max_abs(m, maxima[w]);
  m = floor_max(m);
  const float inverse = code_factor(m);
  int8_t* codes = a.k_codes + rows_base<D>(bh, a.k_rows, row + warp() * 16 + g);
#pragma unroll
  for (int first = 2 - kKept; first >= 0; first -= kKept) {  // what is in y comes first
    if (first + kKept < 2) rotate(first);
#pragma unroll
    for (int r = 0; r < kKept; r++)
      store_row<D>(y[r], there[first + r] ? inverse : 0.0f, codes + 8 * (first + r) * panel_width(D),
                   a.k_rows * panel_width(D));
  }
  if (threadIdx.x == 0)
    a.k_scales[static_cast<int64_t>(bh) * (a.k_rows / kTileKeys) + row / kTileKeys] = finite_or_nan(m) * a.k_factor;
}

}  // namespace clary::cuda
