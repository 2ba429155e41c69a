// Reading a caller's tensor: 16-byte loads where its rows allow them, and one slow way for everything else.
#pragma once
#include "engine/cuda/args.h"
#include "types.cuh"

namespace clary::cuda {

__device__ __forceinline__ const char* head_of(const Source& s, int bh) {
  const int b = bh / s.heads;
  return s.data + b * s.batch + (bh - b * s.heads) * s.head;
}

// The last s of `count` sequences with start(s) <= at. REQUIRES start(0) <= at and start to rise.
template <class Start>
__device__ __forceinline__ int last_sequence(int count, int64_t at, Start start) {
  int low = 0, high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (start(middle) <= at ? low : high) = middle;
  }
  return low;
}

// The tokens of one sequence of a head: `count` from `begin` on in the caller's tensor, from `row` on in the codes.
struct Span {
  int sequence, begin, count, row;
};
// Sequence s of heads bh of `source`; cu is null if there is one a batch entry.
__device__ __forceinline__ Span span_of(const Source& source, const int32_t* cu, int s, int pad) {
  if (!cu) return {0, 0, source.tokens, 0};
  return {s, cu[s], cu[s + 1] - cu[s], static_cast<int>(first_row(cu[s], s, pad))};
}
__device__ __forceinline__ Span key_span(const QuantiseArgs& a, int bh, int s) {
  Span span = span_of(a.k, a.cu_k, s, kTileKeys);
  if (a.kv_lens) span.count = max(0, min(a.kv_lens[bh / a.k.heads], span.count));
  return span;
}
// Which sequence has work item `item` of a head, when each has so many as its tokens take of `pad`; item becomes the sequence's own.
__device__ __forceinline__ int sequence_of_item(const QuantiseArgs& a, const int32_t* cu, int pad, int& item) {
  if (!cu) return 0;
  const auto start = [&](int i) { return first_row(cu[i], i, pad) / pad; };
  const int s = last_sequence(a.sequences, item, start);
  item -= static_cast<int>(start(s));
  return s;
}

// One element at an address of any alignment.
template <class T>
__device__ __forceinline__ typename T::Element load_element(const char* p, int access) {
  typename T::Element x;
  if (access != kBytes) {
    x = *reinterpret_cast<const typename T::Element*>(p);
  } else {
    uint32_t bits = 0;
#pragma unroll 1
    for (int i = 0; i < static_cast<int>(sizeof x); i++)
      bits |= static_cast<uint32_t>(static_cast<uint8_t>(p[i])) << 8 * i;
    if constexpr (sizeof x == 4) {
      x = __uint_as_float(bits);
    } else {
      x = static_cast<typename T::Element>(bits);
    }
  }
  return x;
}

// The slow way, for a warp at a time: eight rows of 32 channels through shared memory, a lane per channel, so that even single
// elements are read in whole sectors. row_of(i) is the address of row i's channel 0, null for a row that counts as zero.
// Visible to the warp on return.
constexpr int kSlabRows = 8, kSlabWidth = 32;
template <class T>
struct alignas(16) Slab {
  typename T::Element rows[kSlabRows][kSlabWidth];
};
template <class T, class RowOf>
__device__ __forceinline__ void fill_slab(Slab<T>& slab, int channel, const Source& s, RowOf row_of) {
  __syncwarp();  // the last readers are done
#pragma unroll 1
  for (int i = 0; i < kSlabRows; i++) {
    const char* row = row_of(i);
    const int c = channel + lane();
    typename T::Element x{};
    if (row && c < s.channels) x = load_element<T>(row + c * static_cast<int64_t>(sizeof x), s.access);
    slab.rows[i][lane()] = x;
  }
  __syncwarp();
}

}  // namespace clary::cuda
