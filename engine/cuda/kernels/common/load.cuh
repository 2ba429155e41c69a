// Reading a caller's tensor: 16-byte loads where its rows allow them, and one slow way for everything else.
#pragma once
#include "engine/cuda/args.h"
#include "types.cuh"

namespace clary::cuda {

__device__ __forceinline__ const char* head_of(const Source& s, int bh) {
  const int b = bh / s.heads;
  return s.data + b * s.batch + (bh - b * s.heads) * s.head;
}

// Keys that exist for key head bh.
__device__ __forceinline__ int key_count(const QuantiseArgs& a, int bh) {
  int keys = a.k.tokens;
  if (a.kv_lens) {
    const int given = a.kv_lens[bh / a.k.heads];
    keys = given < 0 ? 0 : given < keys ? given : keys;
  }
  return keys;
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

// The slow way, for a warp at a time: `rows` rows of 32 channels through shared memory, a lane per channel, so that even single
// elements are read in whole sectors. row_of(i) is the address of row i's channel 0, null for a row that counts as zero.
// Visible to the warp on return.
constexpr int kSlabRows = 16, kSlabWidth = 32;
template <class T>
struct alignas(16) Slab {
  typename T::Element rows[kSlabRows][kSlabWidth];
};
template <class T, class RowOf>
__device__ __forceinline__ void fill_slab(Slab<T>& slab, int rows, int channel, const Source& s, RowOf row_of) {
  __syncwarp();  // the last readers are done
#pragma unroll 1
  for (int i = 0; i < rows; i++) {
    const char* row = row_of(i);
    const int c = channel + lane();
    typename T::Element x{};
    if (row && c < s.channels) x = load_element<T>(row + c * static_cast<int64_t>(sizeof x), s.access);
    slab.rows[i][lane()] = x;
  }
  __syncwarp();
}

}  // namespace clary::cuda
