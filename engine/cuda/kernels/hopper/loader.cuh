// Warpgroup 0: one warp brings tiles of queries and what is known of their rows, one thread of another brings K and V.
#pragma once
#include "memory.cuh"

namespace clary::cuda {

// The tile of queries that a round of all blocks gives this one: there and back, so that none always gets the longest. At or past `items`:
// none.
__device__ __forceinline__ unsigned item_of_round(unsigned round) {
  const unsigned blocks = opaque(gridDim.x), own = blockIdx.x;
  return round * blocks + (round & 1 ? blocks - 1 - own : own);
}

// Row `row` of the block in the caller's tensors and in q's codes, by the thread that has it.
template <class C>
__device__ __forceinline__ int64_t describe_row(const AttentionArgs& a, Rows<C>& rows, int row) {
  const Work& w = rows.item.work;
  const Sequence& s = w.sequence;
  const int at = w.row + row, head = at < w.rows ? at / s.queries : 0;
  const int query = at < w.rows ? at - head * s.queries : 0;  // of a row that is not there any will do
  const int q_head = (a.cu_q ? 0 : s.index * a.heads) + w.key_head * a.group + head;
  const float scale = a.q_scales[static_cast<int64_t>(q_head) * a.q_rows + s.q_row + query];
  rows.scale[row] = scale > 3e38f ? 3e38f : scale;
  const Keys keys = keys_of(a, s, query);
  rows.seen[row] = {keys.first, at < w.rows && keys.first < keys.end ? keys.end - keys.first : 0};
  char* to = nullptr;
  if (at < w.rows)
    to = w.shares > 1 ? reinterpret_cast<char*>(a.part_out + part_row(a, s, w.key_head, w.share, w.rows, at) * C::kDim)
                      : out_row(a, place_of(a, s, w.key_head, at));
  rows.out[row] = to;
  return static_cast<int64_t>(q_head) * C::kPanels * a.q_rows + s.q_row + query;
}

// Codes of all rows, 16 bytes a lane. A row's codes are swizzled by its place in its head: here by its place in the tile.
template <class C>
__device__ __forceinline__ void load_queries(const AttentionArgs& a, Rows<C>& rows, Shared q) {
  constexpr int kChunks = C::kPanel / 16, kAtOnce = 32 / kChunks;  // rows of a panel that the warp copies at a time
  const int chunk = lane() % kChunks;
#pragma unroll 1
  for (int first = 0; first < C::kRows; first += 32) {
    const int64_t own = describe_row<C>(a, rows, first + lane());
    const float steepest = max_of_warp(rows.scale[first + lane()]);
    if (lane() == 0) rows.item.steepest[first / 32] = steepest;
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
}

// What there is to know of a tile of queries, by the warp; false: there is none.
template <class C>
__device__ __forceinline__ bool describe_item(const AttentionArgs& a, int item, Item& i) {
  {
    Work w;
    const int others =
        opaque(a.longest_first) ? a.units : a.blocks;  // opaque: nothing of the division is kept for the next item
    const int slow = item / others, fast = item - slow * others;
    if (!find_work<C::kRows, C::kKeys>(a, a.longest_first ? slow : fast, a.longest_first ? fast : slow, w))
      return false;
    __syncwarp();
    if (lane() == 0) i.work = w;
  }
  __syncwarp();
  const Work& w = i.work;
  const int last = min(w.row + C::kRows, w.rows) - 1;
  if (lane() <= C::kGroups) {  // a warpgroup's lane each, and one for all
    const bool all = lane() == C::kGroups;
    const int first = all ? w.row : w.row + lane() * 64, end = all ? last : min(first + 63, last);
    Tiles t = tiles_of<C::kKeys>(a, w.sequence, min(first, last), end);
    t.first = max(t.first, w.tile_begin);
    t.end = first <= last ? min(t.end, w.tile_end) : t.first;
    if (all) {
      i.begin = t.first;
      i.end = t.end;
    } else {
      i.groups[lane()] = t;
    }
  }
  if (lane() == 0) {
    const int key_head = (a.cu_q ? 0 : w.sequence.index * a.key_heads) + w.key_head;
    i.k_first = key_head * a.k_rows * C::kPanels + w.sequence.k_row;
    i.v_first = key_head * a.k_rows + w.sequence.k_row;
    i.v_scale = key_head * a.v_blocks + (a.cu_k ? w.sequence.index : 0);  // one for all keys of the sequence
  }
  __syncwarp();
  return true;
}

// One warp: tiles of queries, and the word that there are no more.
template <class C>
__device__ __forceinline__ void bring_queries(const AttentionArgs& a, Block<C>& block) {
  // The round, and which of the two slots comes next in which phase: one register, of which there are few
#pragma unroll 1
  for (unsigned state = 0;; state += 4) {
    const unsigned items = opaque(a.blocks) * a.units, item = item_of_round(state >> 2);
    const bool done = (state >> 2) * gridDim.x >= items;
    if (item >= items && !done) continue;
    const int slot = state & 1;
    Rows<C>& rows = block.rows[slot];
    await_bytes(shared_address(&block.barriers.q_empty[slot]), (state >> 1 & 1) ^ 1);
    if (done) {
      if (lane() == 0) rows.item.last = 1;
      arrive(shared_address(&block.barriers.q_full[slot]));
      return;
    }
    if (!describe_item<C>(a, static_cast<int>(item), rows.item)) continue;
    await_previous_grid();  // nothing before has read what the quantiser writes
    load_queries<C>(a, rows, shared_address(block.q[slot]));
    commit_copies();
    await_copies();
    show_to_products();
    if (lane() == 0) rows.item.last = 0;
    arrive(shared_address(&block.barriers.q_full[slot]));
    state = (state & ~3u) | ((state + 1) & 3);
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
    await_bytes(shared_address(&barriers.q_full[slot]), count >> 1 & 1);
    const Item& item = block.rows[slot].item;
    if (item.last) return;
    const int k_first = item.k_first, v_first = item.v_first, begin = item.begin, end = item.end;
    arrive(shared_address(&barriers.q_empty[slot]));
#pragma unroll 1
    for (int tile = begin; tile < end; tile++) {
      const int row = v_first + tile * C::kKeys;
      const float scale = a.k_scales[row / kTileKeys];
      const Shared k_full = shared_address(&barriers.k_full[stage]), v_full = shared_address(&barriers.v_full[stage]);
      await_bytes(shared_address(&barriers.k_empty[stage]), phase);
      block.k_scale[stage] = scale;
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
