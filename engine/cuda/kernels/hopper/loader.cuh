// Warpgroup 0: three warps bring tiles of queries and what is known of their rows, one thread of the other brings K and V.
#pragma once
#include "memory.cuh"

namespace clary::cuda {

constexpr int kBringers = 3;  // warps that bring queries

// The next item of the queue, by the warp. REQUIRES await_previous_grid(), which begins it.
__device__ __forceinline__ unsigned take_item(const AttentionArgs& a) {
  unsigned taken = 0;
  if (lane() == 0) taken = atomicAdd(a.taken, 1u);
  return gridDim.x + __shfl_sync(~0u, taken, 0);
}

// Which tile of queries of which unit is item `item`: band after band of units, in a band first what is first in each unit, which under causal and
// windows sees the most keys; at the end the short last tiles of all units.
__device__ __forceinline__ void place_item(const AttentionArgs& a, unsigned item, int& unit, int& tile) {
  // opaque: nothing of the divisions is kept for the next item
  const unsigned whole = opaque(a.whole_blocks), in_bands = whole * opaque(a.units);
  if (item >= in_bands) {
    tile = static_cast<int>(whole);
    unit = static_cast<int>(item - in_bands);
    return;
  }
  const unsigned longer = opaque(a.longer_bands) * (opaque(a.band) + 1);
  unsigned first = 0, units = opaque(a.band) + 1;
  if (item >= longer * whole) first = longer, units--;
  item -= first * whole;
  const unsigned band = item / (units * whole) * units;
  item -= band * whole;
  tile = static_cast<int>(item / units);
  unit = static_cast<int>(first + band + item % units);
}

// Row `row` of the block in the caller's tensors and in q's codes, by the thread that has it.
template <class C>
__device__ __forceinline__ int64_t describe_row(const AttentionArgs& a, Rows<C>& rows, int row) {
  const Work& w = rows.item.work;
  const Sequence& s = w.sequence;
  const int at = w.row + row;
  const bool there = at >= 0 && at < w.rows;
  const int head = there ? head_of_row(a, s, at) : 0;
  const int query = there ? at - head * s.queries : 0;  // of a row that is not there any will do
  const int q_head = (a.cu_q ? 0 : s.index * a.heads) + w.key_head * a.group + head;
  const float scale = a.q_scales[static_cast<int64_t>(q_head) * a.q_rows + s.q_row + query];
  rows.scale[row] = scale > 3e38f ? 3e38f : scale;
  const Keys keys = keys_of(a, s, query);
  rows.seen[row] = {keys.first, there && keys.first < keys.end ? keys.end - keys.first : 0};
  char* to = nullptr;
  if (there)
    to = w.shares > 1
             ? reinterpret_cast<char*>(a.part_out + part_row(a, s, w.key_head, w.share, w.rows, at) * C::kDim)
             : out_row(a, {a.cu_q ? 0 : s.index, static_cast<int64_t>(w.key_head) * a.group + head, s.q_begin + query});
  rows.out[row] = to;
  return static_cast<int64_t>(q_head) * C::kPanels * a.q_rows + s.q_row + query;
}

// Whether rows of eight that lie together in the tile do so in q's codes, swizzled alike.
__device__ __forceinline__ bool in_eights(const Work& w, int count) {
  return w.sequence.queries % 8 == 0 || w.row + count <= w.sequence.queries;
}
// Codes of `count` rows in_eights(), by one thread: a copy for each run of one head's rows in a panel.
template <class C>
__device__ __forceinline__ void copy_runs(const AttentionArgs& a, const Work& w, int count, Shared q, Shared barrier) {
#pragma unroll 1
  for (int row = max(0, -w.row); row < count;) {
    const Sequence& s = w.sequence;
    const int head = (w.row + row) / s.queries, query = w.row + row - head * s.queries;
    const int q_head = (a.cu_q ? 0 : s.index * a.heads) + w.key_head * a.group + head;
    int run = min(s.queries - query, count - row);
    if constexpr (C::kPanels > 1) run = min(run, 64 - row % 64);
    const int size = (run + 7) / 8 * 8 * C::kPanel;
    expect_more_bytes(barrier, size * C::kPanels);
#pragma unroll
    for (int panel = 0; panel < C::kPanels; panel++)
      copy_bulk(
          q + row / 64 * C::kGroupQ + (panel * 64 + row % 64) * C::kPanel,
          a.q_codes + (static_cast<int64_t>(q_head * C::kPanels + panel) * a.q_rows + s.q_row + query) * C::kPanel,
          size, barrier);
    row += run;
  }
}
// Codes of 32 rows from `first` on, 16 bytes a lane; `own`: where this lane's row lies. A row is swizzled by its place in its head: here by its
// place in the tile.
template <class C>
__device__ __forceinline__ void copy_rows(const AttentionArgs& a, int64_t own, int first, Shared q) {
  constexpr int kChunks = C::kPanel / 16, kAtOnce = 32 / kChunks;  // rows of a panel that the warp copies at a time
  const int chunk = lane() % kChunks;
#pragma unroll 1
  for (int i = 0; i < 32; i += kAtOnce) {
    const int row = first + i + lane() / kChunks, in_group = row & 63;
    const int64_t source = __shfl_sync(~0u, own, i + lane() / kChunks);
    const int code = static_cast<int>(source & 7);  // q_rows is a multiple of 8: its place in its head
    const Shared to = q + row / 64 * C::kGroupQ + in_group * C::kPanel + swizzle(in_group, chunk, C::kPanel) * 16;
    const int8_t* from = a.q_codes + source * C::kPanel + swizzle(code, chunk, C::kPanel) * 16;
#pragma unroll
    for (int panel = 0; panel < C::kPanels; panel++)
      copy16(to + panel * 64 * C::kPanel, from + static_cast<int64_t>(panel) * a.q_rows * C::kPanel);
  }
}

// What there is to know of a tile of queries, by the warp; false: there is none.
template <class C>
__device__ __forceinline__ bool describe_item(const AttentionArgs& a, unsigned item, Item& i) {
  {
    Work w;
    int unit, tile;
    place_item(a, item, unit, tile);
    if (!find_work<C::kRows, C::kKeys>(a, tile, unit, w)) return false;
    // Where later rows see more keys it is the first tile that is short, by whole warpgroups: they are the ones whose rows see least
    if (opaque(a.right) != kUnlimited) w.row -= (C::kRows - w.rows % C::kRows) % C::kRows / 64 * 64;
    __syncwarp();
    if (lane() == 0) i.work = w;
  }
  __syncwarp();
  const Work& w = i.work;
  const int last = min(w.row + C::kRows, w.rows) - 1;
  if (lane() <= C::kGroups) {  // a warpgroup's lane each, and one for all
    const bool all = lane() == C::kGroups;
    const int first = all ? max(w.row, 0) : w.row + lane() * 64, end = all ? last : min(first + 63, last);
    Tiles t = tiles_of<C::kKeys>(a, w.sequence, min(first, last), end);
    t.first = max(t.first, w.tile_begin);
    t.end = first >= 0 && first <= last ? min(t.end, w.tile_end) : t.first;
    if (all) {
      i.begin = t.first;
      i.end = t.end;
    } else {
      i.groups[lane()] = t;
    }
  }
  if (lane() == C::kGroups) {  // which says that the item is described
    const int key_head = (a.cu_q ? 0 : w.sequence.index * a.key_heads) + w.key_head;
    i.k_first = key_head * a.k_rows * C::kPanels + w.sequence.k_row;
    i.v_first = key_head * a.k_rows + w.sequence.k_row;
    i.last = false;
    i.v_scale = key_head * a.v_blocks + (a.cu_k ? w.sequence.index : 0);  // one for all keys of the sequence
  }
  __syncwarp();
  return true;
}

// kBringers warps, `own` one of them: tiles of queries, and the word that there are no more.
template <class C>
__device__ __forceinline__ void bring_queries(const AttentionArgs& a, Block<C>& block, int own) {
  auto& barriers = block.barriers;
  // Which of the two slots comes next and in which phase; 4: it is not the first. One register, of which there are few
#pragma unroll 1
  for (unsigned state = 0;; state = 4 | ((state + 1) & 3)) {
    const int slot = state & 1;
    Rows<C>& rows = block.rows[slot];
    if (own == 0) {
      await_bytes(shared_address(&barriers.wanted), slot ^ 1);
      unsigned item = state == 0 ? blockIdx.x : take_item(a);  // the first needs no waiting
      await_bytes(shared_address(&barriers.q_empty[opaque(slot)]), (state >> 1 & 1) ^ 1);
      if (lane() == C::kGroups) rows.item.last = true;
#pragma unroll 1
      while (item < opaque(a.blocks) * opaque(a.units) && !describe_item<C>(a, item, rows.item)) {
        await_previous_grid();
        item = take_item(a);
      }
      if (lane() == C::kGroups) {  // who wrote what is awaited: racecheck orders no other's
        arrive(shared_address(&barriers.described[slot]));
      }
    }
    await_threads<32 * kBringers>(1 + C::kGroups);
    const Shared full = shared_address(&barriers.q_full[slot]);
    if (rows.item.last) {
      arrive(full);
      return;
    }
    await_previous_grid();  // nothing before has read what the quantiser writes
    const Work& w = rows.item.work;
    const int count = min(C::kRows, w.rows - w.row);
    const bool bulk = in_eights(w, count);
    const Shared q = shared_address(block.q[slot]);
    if (own == 0 && lane() == 0 && bulk) copy_runs<C>(a, w, count, q, full);
#pragma unroll 1
    for (int first = 32 * own; first < C::kRows; first += 32 * kBringers) {
      const int64_t source = describe_row<C>(a, rows, first + lane());
      const float steepest = max_of_warp(rows.scale[first + lane()]);
      if (lane() == 0) rows.item.steepest[first / 32] = steepest;
      if (!bulk) copy_rows<C>(a, source, first, q);
    }
    if (!bulk) {
      commit_copies();
      await_copies();
      show_to_products();
    }
    arrive(full);
  }
}

// One thread: tiles of keys and their values, for whatever queries there are.
template <class C>
__device__ __forceinline__ void bring_keys(const AttentionArgs& a, Block<C>& block) {
  auto& barriers = block.barriers;
  int stage = 0, phase = 1;
  await_previous_grid();
  for (int count = 0;; count++) {
    const int slot = count & 1;
    await_bytes(shared_address(&barriers.described[slot]), count >> 1 & 1);
    const Item& item = block.rows[slot].item;
    if (item.last) return;
    const int k_first = item.k_first, v_first = item.v_first, begin = item.begin, end = item.end;
#pragma unroll 1
    for (int tile = begin;; tile++) {
      if (tile == max(begin, end - 8)) arrive(shared_address(&barriers.wanted));
      if (tile >= end) break;
      const int row = v_first + tile * C::kKeys;
      const float scale = a.k_scales[row / kTileKeys], ahead = a.k_scales[row / kTileKeys + (tile + 1 < end)];
      const Shared k_full = shared_address(&barriers.k_full[stage]), v_full = shared_address(&barriers.v_full[stage]);
      await_bytes(shared_address(&barriers.k_empty[stage]), phase);
      block.k_scale[stage][0] = scale;
      block.k_scale[stage][1] = ahead;
      expect_bytes(k_full, C::kK);
#pragma unroll
      for (int panel = 0; panel < C::kPanels; panel++)
        copy_bulk(shared_address(block.k[stage]) + panel * C::kKeys * C::kPanel,
                  a.k_codes + static_cast<int64_t>(k_first + panel * a.k_rows + tile * C::kKeys) * C::kPanel,
                  C::kKeys * C::kPanel, k_full);
      await_bytes(shared_address(&barriers.v_empty[stage]), phase);
      expect_bytes(v_full, C::kV);
      copy_bulk(shared_address(block.v[stage]), a.v_codes + static_cast<int64_t>(row) * C::kDim, C::kV, v_full);
      if (++stage == C::kStages) stage = 0, phase ^= 1;
    }
  }
}

}  // namespace clary::cuda
