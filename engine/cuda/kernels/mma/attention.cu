// Attention with mma.sync: entries from the table. A block takes kRows rows through the tiles of keys they see.
#include "combine.cuh"
#include "mainloop.cuh"
#include "store.cuh"

namespace clary::cuda {

// Copies `bytes` contiguous bytes, 16 a thread.
template <int kThreads, int kBytes>
__device__ __forceinline__ void copy_block(Shared to, const void* from) {
  static_assert(kBytes % (16 * kThreads) == 0);
  const uint8_t* source = static_cast<const uint8_t*>(from) + threadIdx.x * 16;
#pragma unroll
  for (int i = 0; i < kBytes; i += 16 * kThreads) copy16(to + threadIdx.x * 16 + i, source + i);
}

// f(channel) for every channel, spread over the block.
template <class C, class F>
__device__ __forceinline__ void each_channel(F f) {
#pragma unroll
  for (int first = 0; first < C::kDim; first += C::kThreads) {
    const int c = first + static_cast<int>(threadIdx.x);
    if (C::kDim % C::kThreads == 0 || c < C::kDim) f(c);
  }
}

template <class C>
__device__ __forceinline__ void attention(const AttentionArgs& a) {
  Work w;
  if (!find_work<C::kRows, C::kKeys>(a, w)) return;
  const Sequence& seq = w.sequence;
  const int thread = static_cast<int>(threadIdx.x), own = lane();
  const int key_head = (a.cu_q ? 0 : seq.index * a.key_heads) + w.key_head;
  const int query_head = ((a.cu_q ? 0 : seq.index * a.heads) + w.key_head * a.group);

  uint8_t* memory = dynamic_shared();
  const Shared shared_q = shared_address(memory), shared_k = shared_q + C::kQ, shared_v = shared_k + 2 * C::kK;
  float* unit = reinterpret_cast<float*>(memory + C::kQ + 2 * (C::kK + C::kV));
  float* ratio = unit + C::kDim;

  // Tiles of the block, and of the warp those that need no mask.
  const int last = min(w.row + C::kRows, w.rows) - 1, warp_row = w.row + warp() * (C::kRows / C::kWarps);
  Tiles tiles = tiles_of<C::kKeys>(a, seq, w.row, last);
  const int begin = max(tiles.first, w.tile_begin), end = min(tiles.end, w.tile_end);

  // A row's codes are swizzled by its place in its head: here by its place in the tile.
  constexpr int kChunks = C::kDim / 16, kPanelChunks = C::kPanel / 16;
#pragma unroll 1
  for (int i = thread; i < C::kRows * kChunks; i += C::kThreads) {
    const int row = i / kChunks, chunk = i % kPanelChunks, panel = i % kChunks / kPanelChunks;
    const int at = min(w.row + row, w.rows - 1), head = at / seq.queries, query = seq.q_row + at - head * seq.queries;
    const int64_t source = (static_cast<int64_t>(query_head + head) * (C::kDim / C::kPanel) + panel) * a.q_rows + query;
    copy16(shared_q + (panel * C::kRows + row) * C::kPanel + swizzle(row, chunk, C::kPanel) * 16,
           a.q_codes + source * C::kPanel + swizzle(query, chunk, C::kPanel) * 16);
  }
  Accumulators<C> o;
#pragma unroll
  for (int m = 0; m < C::kMmas; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int at = min(warp_row + 16 * m + own / 4 + 8 * r, w.rows - 1), head = at / seq.queries;
      const float scale =
          a.q_scales[static_cast<int64_t>(query_head + head) * a.q_rows + seq.q_row + at - head * seq.queries];
      o.scale[m][r] = scale > 3e38f ? 3e38f : scale;
      o.frame[m][r] = kNoFrame;
      o.sum[m][r] = 0;
#pragma unroll
      for (int i = 0; i < C::kDim / 8; i++) o.out[m][i][2 * r] = o.out[m][i][2 * r + 1] = 0;
    }
  o.total = 0;

  // The warp's own bounds are tighter; a warp of no rows takes the last one's.
  tiles = tiles_of<C::kKeys>(a, seq, min(warp_row, last), min(warp_row + C::kRows / C::kWarps - 1, last));
  const int plain = tiles.plain, plain_count = max(tiles.plain_end - plain, 0);
  constexpr int kBlockTiles = kScaleKeys / C::kKeys;  // tiles of one V scale
  constexpr int kPanels = C::kDim / C::kPanel;
  // Row of a head's first panel, and of a head, among those of all heads; the same of blocks of V scales.
  const int k_first = key_head * a.k_rows * kPanels + seq.k_row, v_first = key_head * a.k_rows + seq.k_row;
  const int v_block = key_head * a.v_blocks + seq.v_block;
  const auto scale_of = [&](int tile) { return a.k_scales[(v_first + tile * C::kKeys) / kTileKeys]; };
  const auto fetch_units = [&](int tile) {
    const float* from = a.v_scales + static_cast<int64_t>(v_block + tile / kBlockTiles) * C::kDim;
    each_channel<C>([&](int c) { copy4(shared_address(ratio + c), from + c); });
  };
  // V's scales come in a tile before they are due, so that who needs them finds them.
  const auto fetch = [&](int tile) {
    const Shared stage = tile & 1;
#pragma unroll
    for (int panel = 0; panel < kPanels; panel++)
      copy_block<C::kThreads, C::kK / kPanels>(
          shared_k + stage * C::kK + panel * C::kKeys * C::kPanel,
          a.k_codes + static_cast<int64_t>(k_first + panel * a.k_rows + tile * C::kKeys) * C::kPanel);
    copy_block<C::kThreads, C::kV>(shared_v + stage * C::kV,
                                   a.v_codes + static_cast<int64_t>(v_first + tile * C::kKeys) * C::kDim);
    if ((tile + 1) % kBlockTiles == 0 && tile + 1 < end) fetch_units(tile + 1);
    commit_copies();
  };

  // ldmatrix: which row of its 16 or 8 a lane names, and which chunk.
  const Shared q_row = shared_q + warp() * (C::kRows / C::kWarps) * C::kPanel + (own & 15) * C::kPanel +
                       swizzle(own & 15, own >> 4, C::kPanel) * 16;
  const int k_lane = (own & 7) + (own >> 4) * 8;
  const Shared k_row = shared_k + k_lane * C::kPanel + swizzle(k_lane, own >> 3 & 1, C::kPanel) * 16;
  const Shared v_row = shared_v + (own & 7) * C::kGroup + swizzle(own & 7, own >> 3, C::kGroup) * 16;

  float next_scale = 0;
  if (begin < end) {
    each_channel<C>([&](int c) {
      unit[c] = a.v_scales[static_cast<int64_t>(v_block + begin / kBlockTiles) * C::kDim + c];
      if (begin % kBlockTiles == 0) ratio[c] = unit[c];
    });
    fetch(begin);
    next_scale = scale_of(begin);
  }
#pragma unroll 1
  for (int tile = begin; tile < end; tile++) {
    const bool edge = tile % kBlockTiles == 0;
    await_copies();
    if (edge)
      each_channel<C>([&](int c) {
        const float before = unit[c], given = ratio[c];
        const float now = given < before * kUnitStep ? before * kUnitStep : given;
        ratio[c] = before / now;
        unit[c] = now;
      });
    __syncthreads();
    const float scale = next_scale;
    if (tile + 1 < end) {
      next_scale = scale_of(tile + 1);
      fetch(tile + 1);
    }
    if (edge) close_block<C>(o, ratio);
    const int stage = tile & 1;
    const bool whole = static_cast<unsigned>(tile - plain) < static_cast<unsigned>(plain_count);
    uint32_t p[C::kMmas][C::kBlocks / 4][4];
    float factor[C::kMmas][2];
#pragma unroll
    for (int m = 0; m < C::kMmas; m++) {
      int s[C::kBlocks][4];
      multiply_scores<C>(s, q_row + m * 16 * C::kPanel, k_row + stage * C::kK);
      float most[2], maxima[2];
      uint32_t codes[2] = {0, 0};
#pragma unroll
      for (int r = 0; r < 2; r++) {
        most[r] = o.scale[m][r] * scale;
        most[r] = most[r] > kMostScale ? kMostScale : most[r];
      }
      const bool flat = most[0] <= kFlatScale && most[1] <= kFlatScale;
      
#ifdef NOMASK
if (true) {
#else
if (whole && __all_sync(~0u, flat)) {
#endif

        exponentials<C>(s, most, p[m], codes, maxima);
      } else {
        masked_exponentials<C>(a, tile, warp() * (C::kRows / C::kWarps) + 16 * m + lane() / 4, s, most, p[m], codes, maxima);
      }
      enter_frame<C>(o, m, codes, maxima, factor[m]);
    }
    add_values<C>(o, p, factor, v_row + stage * C::kV);
  }
  __syncthreads();
  find_work<C::kRows, C::kKeys>(a, w);

#ifdef NOSTORE
 if (o.total==3.25f) { for(int m=0;m<C::kMmas;m++) for(int i=0;i<C::kDim/8;i++) for(int e=0;e<4;e++) unit[(m*C::kDim/8+i)*4+e]=o.out[m][i][e]+o.sum[m][0]*o.sum[m][1]*o.frame[m][0]*o.frame[m][1]; return; }
#else
  store_rows<C>(a, w, o, unit, memory);
#endif
}

}  // namespace clary::cuda

#define CLARY_ATTENTION(values, accuracy, dim, rows, keys, warps, blocks, from_sm, to_sm)         \
  extern "C" __global__ void __launch_bounds__((warps) * 32, blocks)                              \
      attention_##values##_##dim##_##rows##x##keys(const __grid_constant__ clary::cuda::AttentionArgs a) { \
    clary::cuda::attention<clary::cuda::Tile<dim, rows, keys, warps>>(a);                         \
  }
#include "variants.def"

extern "C" __global__ void __launch_bounds__(128) combine(const __grid_constant__ clary::cuda::AttentionArgs a) {
  clary::cuda::combine(a);
}
