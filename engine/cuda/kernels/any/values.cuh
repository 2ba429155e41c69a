// Work items of V: 512 keys x 32 channels, the transpose done in registers by the packing itself.
//
// Thread (t = lane % 4, h = lane / 4 % 2, kg = lane / 8) holds channels 8 t .. + 7 of the eight keys 16 kg + 4 h + {0..3, 8..11} of
// its warp's 64: one half of a 16-byte chunk of each of its channels (layout.h, key_slot). A warp's 8-byte stores fill 64 bytes of
// a channel side by side.
//
// Where a sequence has one scale per channel, the blocks that have it are a cluster and tell each other their largest sizes; if it is too
// long for that, statistics.cuh has found them.
#pragma once
#include "../common/load.cuh"
#include "rows.cuh"

namespace clary::cuda {

// Key i of a thread's eight, within its 16.
__device__ __forceinline__ int value_key(int half, int i) { return 4 * half + (i & 3) + 8 * (i >> 2); }

template <class T>
__device__ __forceinline__ void load_values(const Source& s, int bh, const Span& span, int first, int channel,
                                            Slab<T>* slabs, typename T::Pair (&x)[8][4]) {
  const int t = lane() & 3, half = lane() >> 2 & 1, own = first + (lane() >> 3) * 16, end = span.count;
  const char* base = head_of(s, bh) + span.begin * s.token;
  if (s.access == kChunks) {
    const int c = channel + 8 * t, left = s.channels - c;
    const char* p = base + (own + value_key(half, 0)) * s.token + c * static_cast<int>(sizeof(typename T::Element));
    if (first + 64 <= end && s.channels - channel >= kItemChannels) {  // all of the warp's
#pragma unroll
      for (int i = 0; i < 8; i++) {
        T::load8(p, x[i]);
        p += (i == 3 ? 5 : 1) * s.token;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const bool there = own + value_key(half, i) < end;
      if (there && left >= 8) {
        T::load8(p, x[i]);
      } else {
#pragma unroll
        for (int j = 0; j < 4; j++) x[i][j] = T::zero();
        if constexpr (sizeof(typename T::Element) == 4)
          if (there && left == 4) T::load4(p, x[i]);
      }
      p += (i == 3 ? 5 : 1) * s.token;
    }
  } else {
    Slab<T>& slab = slabs[warp()];
#pragma unroll
    for (int i = 0; i < 8; i++) {  // row r of the slab is key i of threads 4 r .. 4 r + 3
      fill_slab(slab, channel, s, [&](int r) {
        const int key = first + (r >> 1) * 16 + value_key(r & 1, i);
        return key < end ? base + key * s.token : nullptr;
      });
      T::read8(&slab.rows[lane() >> 2][8 * t], x[i]);
    }
  }
}

// Codes + 128 of one channel's eight keys: two words, keys 0 1 8 9 and 2 3 10 11 of the half.
template <class T>
__device__ __forceinline__ void store_values(const typename T::Pair (&x)[8][4], int j, bool high, float inverse,
                                             uint8_t* chunk) {
  constexpr float kOffset = kMagic + 128.0f;
  uint32_t w[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const auto code = [&](int key) { return fmaf(high ? T::high(x[key][j]) : T::low(x[key][j]), inverse, kOffset); };
    w[i] = pack_bytes(code(2 * i), code(2 * i + 1), code(2 * i + 4), code(2 * i + 5));
  }
  *reinterpret_cast<uint64_t*>(chunk) = static_cast<uint64_t>(w[1]) << 32 | w[0];
}

// The same in f16, as a share of the largest: keys 4 half .. of each eight, in order.
template <class T>
__device__ __forceinline__ void store_halves(const typename T::Pair (&x)[8][4], int j, bool high, float inverse,
                                             uint8_t* first, uint8_t* second) {
  const auto pair = [&](int key) {
    const auto value = [&](int k) { return (high ? T::high(x[k][j]) : T::low(x[k][j])) * inverse; };
    return pack_f16(value(key), value(key + 1));
  };
  *reinterpret_cast<uint64_t*>(first) = static_cast<uint64_t>(pair(2)) << 32 | pair(0);
  *reinterpret_cast<uint64_t*>(second) = static_cast<uint64_t>(pair(6)) << 32 | pair(4);
}

// Largest sizes of a block's 32 channels: pair j of those thread t has is 4 t + j.
template <class T>
struct ValueMaxima {
  typename T::Max warps[8][16];               // [warp], or so many groups of chunks
  typename T::Max blocks[kClusterBound][16];  // of the cluster
  alignas(16) float factors[kItemChannels];   // value to code
};

// Sizes of a sequence's chunks (statistics.cuh) to those of eight groups of them.
template <class T>
__device__ __forceinline__ void load_maxima(const QuantiseArgs& a, int bh, const Span& span, int channel,
                                            typename T::Max (&groups)[8][16]) {
  await_previous_grid();
  const int chunks = static_cast<int>(chunk_count(span.count)), pair = lane() & 15;
  const float* maxima =
      a.v_maxima + (static_cast<int64_t>(bh) * a.sequences + span.sequence) * a.v_chunks * a.dvp + channel + 2 * pair;
  float low = 0, high = 0;
  for (int i = warp(); i < chunks; i += 8) {
    low = max_abs(low, load_fresh(maxima + i * a.dvp));
    high = max_abs(high, load_fresh(maxima + i * a.dvp + 1));
  }
  groups[warp()][pair] = T::pair(low, high);
}

template <class T>
__device__ __forceinline__ void quantise_values(const QuantiseArgs& a, int item, Slab<T>* slabs,
                                                ValueMaxima<T>& shared) {
  const int bh = item / a.v_tiles, in_head = item - bh * a.v_tiles;
  // powers of two
  const int cluster = kHasClusters ? __ffs(a.v_cluster) - 1 : 0, slices = __ffs(a.dvp / kItemChannels) - 1;
  const int set = in_head >> cluster, rank = in_head - (set << cluster);
  const int unit = set >> slices, channel = (set - (unit << slices)) * kItemChannels;  // keys that share scales
  int own = unit;                                                                      // of the sequence's
  const Span span = key_span(a, bh, sequence_of_item(a, a.cu_k, a.v_keys, own));
  const int keys = span.count, t = lane() & 3, block = (own << cluster) + rank;
  if (block * kScaleKeys >= keys) {         // what has exited counts as arrived
    if (a.v_maxima) await_previous_grid();  // as all do, so that who waits for this grid has Q and K
    return;
  }
  const int sharers = min(1 << cluster, (keys - 1) / kScaleKeys + 1 - (own << cluster));
  if (sharers > 1) show_in_cluster();
  const int first = block * kScaleKeys + warp() * 64;
  typename T::Pair x[8][4];
  load_values<T>(a.v, bh, span, first, channel, slabs, x);

  typename T::Max m[4];
  if (kHasClusters && a.v_maxima) {
    load_maxima<T>(a, bh, span, channel, shared.warps);
  } else {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      m[j] = T::max_abs2(typename T::Max{}, x[0][j]);
#pragma unroll
      for (int i = 1; i < 8; i++) m[j] = T::max_abs2(m[j], x[i][j]);
#pragma unroll
      for (int lanes = 4; lanes <= 16; lanes *= 2) m[j] = T::max_abs2(m[j], shuffle_xor(m[j], lanes));
      if (lane() < 4) shared.warps[warp()][4 * t + j] = m[j];
    }
  }
  __syncthreads();
  if (sharers > 1) {
    await_cluster();  // all of them run: there is memory to write to
    const int to = static_cast<int>(threadIdx.x) >> 2;
    if (to < sharers)  // four threads for each
#pragma unroll
      for (int j = 0; j < 4; j++) {
        m[j] = shared.warps[0][4 * t + j];
#pragma unroll
        for (int w = 1; w < 8; w++) m[j] = T::max_abs2(m[j], shared.warps[w][4 * t + j]);
        put_in_cluster(shared_address(&shared.blocks[rank][4 * t + j]), to, m[j]);
      }
    __syncwarp();
    arrive_in_cluster();
    await_cluster();
  }

  if (threadIdx.x < 16) {  // a pair of channels each
    const typename T::Max(*sizes)[16] = sharers > 1 ? shared.blocks : shared.warps;
    const int count = sharers > 1 ? sharers : 8, pair = static_cast<int>(threadIdx.x);
    m[0] = sizes[0][pair];
#pragma unroll
    for (int i = 1; i < kClusterBound; i++)
      if (i < count) m[0] = T::max_abs2(m[0], sizes[i][pair]);
    float* scales = a.v_scales +
                    (static_cast<int64_t>(bh) * a.v_blocks + (a.v_per_channel ? span.sequence : unit)) * a.dvp +
                    channel + 2 * pair;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float most = floor_max(i ? T::high(m[0]) : T::low(m[0]));
      shared.factors[2 * pair + i] = a.v_half ? reciprocal(most) : code_factor(most);
      if (a.v_per_channel ? block == 0 : rank == 0) scales[i] = finite_or_nan(most) * (a.v_half ? 1.0f : 1.0f / 127.0f);
    }
  }
  __syncthreads();
  const int group_key = first + (lane() >> 3) * 16;  // v codes end at a multiple of a tile
  if (group_key >= (a.cu_k ? pad_to(keys, kTileKeys) : a.k_rows)) return;
  const int bytes = a.v_half ? 2 : 1, in_group = a.v_half || a.v_group == 64 ? 6 : 7;  // 2^in_group keys
  const int group = 1 << in_group, key = span.row + group_key, chunk = (key & (group - 1)) * bytes / 16;
  uint8_t* codes =
      a.v_codes + ((static_cast<int64_t>(bh) * a.k_rows + (key & -group)) * a.dvp + (channel + 8 * t) * group) * bytes +
      (lane() >> 2 & 1) * 8;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const float factor = shared.factors[8 * t + j];
    uint8_t* to = codes + j * group * bytes;
    if (a.v_half) {
      store_halves<T>(x, j / 2, j % 2, factor, to + swizzle(j, chunk, 128) * 16, to + swizzle(j, chunk + 1, 128) * 16);
    } else {
      store_values<T>(x, j / 2, j % 2, factor, to + swizzle(j, chunk, group) * 16);
    }
  }
}

}  // namespace clary::cuda
