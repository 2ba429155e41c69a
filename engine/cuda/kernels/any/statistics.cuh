// What the codes of K and V depend on besides themselves: sums of K per channel and, for V scales per channel, largest |v|.
// A block takes one chunk of one head; who needs the whole adds the at most kMeanChunks chunks in order, so nothing is atomic and
// the result depends on the sequence alone.
#pragma once
#include "../common/load.cuh"
#include "rows.cuh"

namespace clary::cuda {

// Sums (kMaxima: largest sizes) over rows of one chunk, to shared.columns[0..dp). Eight channels a thread, eight rows in flight.
template <class T, bool kMaxima>
__device__ __forceinline__ void reduce_rows(const Source& s, int bh, const Span& span, bool sampled, int begin, int end,
                                            int dp, float* shared) {
  using Element = typename T::Element;
  constexpr int kInFlight = sizeof(Element) == 4 ? 4 : 8;
  const int wide = dp / 8, column = static_cast<int>(threadIdx.x) % wide, row = static_cast<int>(threadIdx.x) / wide;
  const int step = static_cast<int>(blockDim.x) / wide;
  const char* base = head_of(s, bh) + span.begin * s.token + column * 8 * static_cast<int>(sizeof(Element));
  float sum[8] = {};
  const auto add = [&](int j, float v) { sum[j] = kMaxima ? max_abs(sum[j], v) : fmaf(v, 1.0f / kSumUnit, sum[j]); };
  const int left = s.channels - column * 8;
  if (s.access == kChunks && left >= 8) {
    for (int i = begin + row; i < end; i += kInFlight * step) {
      typename T::Pair x[kInFlight][4];
#pragma unroll
      for (int u = 0; u < kInFlight; u++) {
        const int at = i + u * step;
        if (at < end) {
          T::load8(base + mean_key(sampled, at) * s.token, x[u]);
        } else {
          for (auto& pair : x[u]) pair = T::zero();
        }
      }
#pragma unroll
      for (int u = 0; u < kInFlight; u++)
#pragma unroll
        for (int j = 0; j < 8; j++) add(j, j & 1 ? T::high(x[u][j / 2]) : T::low(x[u][j / 2]));
    }
  } else {
#pragma unroll 1
    for (int i = begin + row; i < end; i += step)
#pragma unroll
      for (int j = 0; j < 8; j++)
        if (j < left)
          add(j, T::widen(load_element<T>(base + mean_key(sampled, i) * s.token + j * static_cast<int>(sizeof(Element)),
                                          s.access)));
  }
#pragma unroll
  for (int j = 0; j < 8; j++) shared[row * dp + column * 8 + j] = sum[j];
  __syncthreads();
  float total = 0;
  const int c = static_cast<int>(threadIdx.x);
  if (c < dp)
    for (int r = 0; r < step; r++) {
      const float v = shared[r * dp + c];
      total = kMaxima ? max_abs(total, v) : total + v;
    }
  __syncthreads();
  if (c < dp) shared[c] = total;
  __syncthreads();
}

// Item `item`: chunks of K, then of V; there may be fewer.
template <class T>
__device__ __forceinline__ void statistics(const QuantiseArgs& a, int item, float* shared) {
  const int heads = a.k_items / a.k_tiles * a.sequences, k_blocks = a.mean == kNoMean ? 0 : heads * a.k_chunks;
  const bool of_k = item < k_blocks;
  if (!of_k) item -= k_blocks;
  if (!of_k && item >= heads * a.v_chunks) return;
  const int chunks = of_k ? a.k_chunks : a.v_chunks, owner = item / chunks, chunk = item - owner * chunks;
  const int bh = owner / a.sequences;
  const Span span = key_span(a, bh, owner - bh * a.sequences);
  const int keys = span.count;
  const bool sampled = of_k && mean_sampled(a.mean == kSampledMean, keys);
  const int rows = static_cast<int>(mean_samples(sampled, keys)), per = static_cast<int>(chunk_rows(rows)),
            begin = chunk * per;
  if (begin >= rows) return;
  const int end = min(begin + per, rows);
  const int i = static_cast<int>(threadIdx.x);
  if (of_k) {
    const int dp = a.dp;
    reduce_rows<T, false>(a.k, bh, span, sampled, begin, end, dp, shared);
    if (i < dp) {  // element i % 16 of block i / 16 after the first stage of the rotation
      float sum = 0;
#pragma unroll
      for (int k = 0; k < 16; k++) {
        const float v = shared[rotation_input(i / 16, k)];
        sum += rotation_sign(k, i % 16) ? -v : v;
      }
      a.k_sums[(static_cast<int64_t>(owner) * chunks + chunk) * dp + i] = sum;
    }
  } else if constexpr (kHasClusters) {  // only there
    reduce_rows<T, true>(a.v, bh, span, false, begin, end, a.dvp, shared);
    if (i < a.dvp) a.v_maxima[(static_cast<int64_t>(owner) * chunks + chunk) * a.dvp + i] = shared[i];
  }
}

}  // namespace clary::cuda
