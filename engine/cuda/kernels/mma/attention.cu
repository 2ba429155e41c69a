// Attention with mma.sync: entries from the table. A block takes kRows rows through the tiles of keys they see.
#include "combine.cuh"
#include "mainloop.cuh"
#include "store.cuh"

namespace clary::cuda {

constexpr bool kMask_plain = false, kMask_mask = true;  // of the table
constexpr int kValueBytes_u8 = 1, kValueBytes_f16 = 2;

// Copies kBytes contiguous bytes, each warp a part of them, 512 at a time: all of up to 4096 are within reach of one address.
template <int kAt, int kEnd>
__device__ __forceinline__ void copy_steps(Shared to, const uint8_t* from) {
  if constexpr (kAt < kEnd) {
    copy16<kAt>(to, from);
    copy_steps<kAt + 512, kEnd>(to, from);
  }
}
template <int kThreads, int kBytes>
__device__ __forceinline__ void copy_block(Shared to, const void* from) {
  constexpr int kPart = kBytes / (kThreads / 32), kReach = kPart < 4096 ? kPart : 4096;
  static_assert(kPart % kReach == 0 && kReach % 1024 == 0);
  const auto thread = static_cast<unsigned>(threadIdx.x);
  const unsigned first = thread / 32 * kPart + thread % 32 * 16 + kReach / 2;
#pragma unroll
  for (int i = 0; i < kPart; i += kReach)
    copy_steps<-kReach / 2, kReach / 2>(to + first + i, static_cast<const uint8_t*>(from) + first + i);
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
constexpr int kBlockTiles = kScaleKeys / C::kKeys;  // tiles that share V's scales

// Starts the copies of one tile of K and V; scales: and those of its block of kScaleKeys keys.
template <class C>
__device__ __forceinline__ void fetch_tile(const AttentionArgs& a, const Memory<C>& memory, const Origin& from,
                                           int tile, bool scales) {
  constexpr int kPanels = C::kDim / C::kPanel;
  Facts& f = memory.facts();
  // anew, where what follows from it would be kept over the loop and spill
  const int stage = C::stage(tile), thread = kHasBulkCopy ? Memory<C>::thread() : static_cast<int>(threadIdx.x);
  const auto k_from = [&](int panel) {
    return a.k_codes + static_cast<int64_t>(from.k_first + panel * a.k_rows + tile * C::kKeys) * C::kPanel;
  };
  const uint8_t* v_from = a.v_codes + static_cast<int64_t>(from.v_first + tile * C::kKeys) * (C::kV / C::kKeys);
  if constexpr (kHasBulkCopy) {
    if (thread == 0) {
      const Shared full = shared_address(&f.full[stage]);
      expect_bytes(full, C::kK + C::kV);
#pragma unroll
      for (int panel = 0; panel < kPanels; panel++)
        copy_bulk(memory.k(stage) + panel * C::kKeys * C::kPanel, k_from(panel), C::kK / kPanels, full);
      copy_bulk(memory.v(stage), v_from, C::kV, full);
    }
  } else {
#pragma unroll
    for (int panel = 0; panel < kPanels; panel++)
      copy_block<C::kThreads, C::kK / kPanels>(memory.k(stage) + panel * C::kKeys * C::kPanel, k_from(panel));
    copy_block<C::kThreads, C::kV>(memory.v(stage), v_from);
  }
  if (scales) {
    const int block = tile / kBlockTiles<C>, first = block * kScaleTiles;  // tiles of a K scale
    const float* values = a.v_scales + static_cast<int64_t>(from.v_block + block) * C::kDim;
    each_channel<C>([&](int c) { copy4(shared_address(memory.ratio() + c), values + c); });
    if (thread < kScaleTiles && (first + thread) * kTileKeys < from.end * C::kKeys)
      copy4(shared_address(f.k_scale + (first + thread) % (2 * kScaleTiles)),
            a.k_scales + from.v_first / kTileKeys + first + thread);
  }
  commit_copies();
}

// The first tile, Q and its scales, V's first unit, and the facts: what comes from far is asked for first. A row's codes are swizzled by
// its place in its head: here by its place in the tile.
template <class C>
__device__ __forceinline__ void begin_block(const AttentionArgs& a, const Memory<C>& memory, const Work& w) {
  const Sequence& seq = w.sequence;
  const int thread = static_cast<int>(threadIdx.x), last = min(w.row + C::kRows, w.rows) - 1;
  const int key_head = (a.cu_q ? 0 : seq.index * a.key_heads) + w.key_head;
  const int first_head = (a.cu_q ? 0 : seq.index * a.heads) + w.key_head * a.group;
  const Tiles tiles = tiles_of<C::kKeys>(a, seq, w.row, last);
  constexpr int kPanels = C::kDim / C::kPanel, kWarpRows = C::kRows / C::kWarps;
  Origin from;
  from.k_first = key_head * a.k_rows * kPanels + seq.k_row;
  from.v_first = key_head * a.k_rows + seq.k_row;
  from.v_block = key_head * a.v_blocks + seq.v_block;
  from.begin = max(tiles.first, w.tile_begin);
  from.end = min(tiles.end, w.tile_end);
  Facts& f = memory.facts();
  if (thread == 0) {
    f.work = w;
    f.from = from;
#pragma unroll
    for (int stage = 0; stage < C::kStages; stage++) make_barrier(shared_address(&f.full[stage]));
  }
  float scale = 0;
  if (thread < C::kRows) {
    const int row = min(w.row + thread, w.rows - 1), head = head_of_row(a, seq, row);
    scale = a.q_scales[static_cast<int64_t>(first_head + head) * a.q_rows + seq.q_row + row - head * seq.queries];
  }
  if (from.begin < from.end) {
    if constexpr (C::kStages > 1) fetch_tile<C>(a, memory, from, from.begin, true);
    constexpr int kChunks = C::kDim / 16, kPanelChunks = C::kPanel / 16, kStep = C::kThreads / kChunks;
    const int panel = thread % kChunks / kPanelChunks, chunk = thread % kPanelChunks;
    int row = thread / kChunks, head = head_of_row(a, seq, w.row + row), query = w.row + row - head * seq.queries;
#pragma unroll 2
    for (; row < C::kRows; row += kStep) {
      if (w.row + row >= w.rows) query = 0, head = 0;  // no such row: any will do
      const int code = seq.q_row + query;
      const int64_t source = (static_cast<int64_t>(first_head + head) * kPanels + panel) * a.q_rows + code;
      copy16(memory.q() + (panel * C::kRows + row) * C::kPanel + swizzle(row, chunk, C::kPanel) * 16,
             a.q_codes + source * C::kPanel + swizzle(code, chunk, C::kPanel) * 16);
      for (query += kStep; query >= seq.queries; query -= seq.queries) head++;
    }
    const float* values = a.v_scales + static_cast<int64_t>(from.v_block + from.begin / kBlockTiles<C>) * C::kDim;
    each_channel<C>([&](int c) { copy4(shared_address(memory.unit() + c), values + c); });
    commit_copies();
  }
  if (thread < C::kWarps) {  // a warp's own bounds are tighter; one of no rows takes the last one's
    const int row = w.row + thread * kWarpRows;
    const Tiles own = tiles_of<C::kKeys>(a, seq, min(row, last), min(row + kWarpRows - 1, last));
    f.plain[thread] = own.plain;
    f.plain_end[thread] = own.plain_end;
  }
  if (thread < C::kRows) {
    memory.scale()[thread] = scale > 3e38f ? 3e38f : scale;
    memory.frame()[thread] = kNoFrame;
    memory.total()[thread] = 0;
  }
  __syncthreads();
}

template <class C>
__device__ __forceinline__ void attention(const AttentionArgs& a) {
  constexpr int kWarpRows = C::kRows / C::kWarps;
  const Memory<C> memory = {dynamic_shared()};
  {
    Work w;
    const int item = opaque(static_cast<int>(blockIdx.x));
    if (!find_work<C::kRows, C::kKeys>(a, item % a.blocks, item / a.blocks, w)) return;
    begin_block<C>(a, memory, w);
  }
  const Facts& f = memory.facts();
  Accumulators<C> o;
#pragma unroll
  for (int m = 0; m < C::kMmas; m++) {
#pragma unroll
    for (int r = 0; r < 2; r++) o.sum[m][r] = 0;
#pragma unroll
    for (int i = 0; i < C::kDim / 8; i++)
      with_out<C>(memory, o, m, i, [](float (&out)[4]) { out[0] = out[1] = out[2] = out[3] = 0; });
  }

  // ldmatrix: which row of its 16 or 8 a lane names, and which chunk.
  const int own = lane(), k_lane = (own & 7) + (own >> 4) * 8;
  const Shared q = memory.q() + warp() * kWarpRows * C::kPanel + (own & 15) * C::kPanel +
                   swizzle(own & 15, own >> 4, C::kPanel) * 16;
  const Shared k = memory.k(0) + k_lane * C::kPanel + swizzle(k_lane, own >> 3 & 1, C::kPanel) * 16;
  bool more = f.from.begin < f.from.end;
#pragma unroll 1
  for (int tile = f.from.begin; kHasBulkCopy ? tile < f.from.end : more; tile++) {  // the two ways spill least
    const bool edge = tile % kBlockTiles<C> == 0;
    // What does not come with the tile is read before it is waited for. With a lane a row: whether all rows of the warp see all keys.
    const Origin from = f.from;
    const auto lane_row = static_cast<unsigned>(Memory<C>::thread()), in_warp = lane_row / 32;
    const bool inside = tile >= f.plain[in_warp] && tile < f.plain_end[in_warp];
    const float row_scale = memory.scale()[in_warp * kWarpRows + lane_row % kWarpRows];
    const float q_scale[2] = {memory.scale()[Memory<C>::row(0, 0)], memory.scale()[Memory<C>::row(0, 1)]};
    Glance seen;
    if constexpr (C::kMask) seen = glance<C>(a, f.work, tile);
    more = tile + 1 < from.end;
    if constexpr (C::kStages == 1) {
      __syncthreads();  // all are past the last tile
      fetch_tile<C>(a, memory, from, tile, edge || tile == from.begin);
    }
    await_copies();
    if (edge)
      each_channel<C>([&](int c) {
        float &unit = memory.unit()[c], &ratio = memory.ratio()[c];
        const float now = ratio < unit * kUnitStep ? unit * kUnitStep : ratio;
        ratio = divide(unit, now);
        unit = now;
      });
    __syncthreads();
    const int stage = C::stage(tile);
    const float k_scale = f.k_scale[static_cast<unsigned>(tile) / (kTileKeys / C::kKeys) % (2 * kScaleTiles)];
    if (C::kStages > 1 && more) fetch_tile<C>(a, memory, from, tile + 1, (tile + 1) % kBlockTiles<C> == 0);
    await_bytes(shared_address(&f.full[stage]), (tile - from.begin) / C::kStages & 1);
    if (edge) close_block<C>(memory, o);
    // and with scores that exponentials() can take
    bool plain = __all_sync(~0u, inside && row_scale * k_scale <= kFlatScale);
    uint32_t bits = ~0u;
    if constexpr (C::kMask) {
      const Sight sight = look<C>(a, f.work, tile, seen);
      if (sight.hidden) continue;
      plain = plain && sight.open;
      bits = sight.bits;
    }
    uint32_t p[C::kMmas][C::kFragments][4];
    float factor[C::kMmas][2];
    // q: anew each tile, or its chunks' addresses are kept and spill; kept, where that is what spills
    if (plain) {
      take_scores<C, false>(a, memory, tile, inside, bits, k_scale, q_scale, o,
                            kHasBulkCopy && C::kDim == 256 ? q : opaque(q), k + stage * C::kK, p, factor);
    } else {
      take_scores<C, true>(a, memory, tile, inside, bits, k_scale, q_scale, o,
                           kHasBulkCopy && C::kDim == 256 ? q : opaque(q), k + stage * C::kK, p, factor);
    }
    recall_codes<C>(memory, p);
    const int v_lane = Memory<C>::thread() & 31;
    const Shared v = memory.v(stage) + (v_lane & 7) * C::kGroup + swizzle(v_lane & 7, v_lane >> 3, C::kGroup) * 16;
    if constexpr (C::kHalf) {
      add_half_values<C>(memory, o, p, v);
    } else {
      add_values<C>(memory, o, p, factor, v);
    }
  }
  commit_copies();  // of Q, where there was no tile: rows leave through its memory
  await_copies();
  __syncthreads();
  store_rows<C>(a, memory, o);
}

}  // namespace clary::cuda

#define CLARY_ATTENTION(values, accuracy, mask, dim, rows, keys, warps, stages, parked, blocks, from_sm, to_sm)   \
  extern "C" __global__ void __launch_bounds__((warps) * 32, blocks)                                              \
      attention_##values##_##mask##_##dim##_##rows##x##keys##x##stages(                                           \
          const __grid_constant__ clary::cuda::AttentionArgs a) {                                                 \
    if constexpr (clary::cuda::kArch / 10 >= (from_sm) && clary::cuda::kArch / 10 <= (to_sm))                     \
      clary::cuda::attention<clary::cuda::Tile<dim, rows, keys, warps, stages, parked,                            \
                                               clary::cuda::kValueBytes_##values, clary::cuda::kMask_##mask>>(a); \
  }
#include "variants.def"

extern "C" __global__ void __launch_bounds__(128) combine(const __grid_constant__ clary::cuda::AttentionArgs a) {
  clary::cuda::combine(a);
}
