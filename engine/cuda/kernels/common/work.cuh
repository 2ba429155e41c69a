// What a block works on, and which keys its rows see.
//
// Rows are the queries of all heads of a key head, one head after the other, so short queries of several heads share a tile
// (grouped-query attention) and K and V are read once for all.
#pragma once
#include "load.cuh"

namespace clary::cuda {

struct Sequence {
  int index;          // batch entry or varlen sequence
  int queries, keys;  // its own
  int q_begin;        // of its tokens in the caller's tensors
  int q_row, k_row;   // of its rows in the codes of a head
  int v_block;        // of its V scales
};

__device__ __forceinline__ Sequence sequence_at(const AttentionArgs& a, int s) {
  Sequence q;
  q.index = s;
  if (a.cu_q) {
    const int q0 = a.cu_q[s], k0 = a.cu_k[s];
    q.queries = a.cu_q[s + 1] - q0;
    q.keys = a.cu_k[s + 1] - k0;
    q.q_begin = q0;
    q.q_row = static_cast<int>(first_row(q0, s, kRowPad));
    q.k_row = static_cast<int>(first_row(k0, s, kTileKeys));
    q.v_block = static_cast<int>(first_row(k0, s, kScaleKeys) / kScaleKeys);
  } else {
    q.queries = a.queries;
    q.keys = a.keys;
    if (a.kv_lens) q.keys = max(0, min(a.kv_lens[s], a.keys));
    q.q_begin = q.q_row = q.k_row = q.v_block = 0;
  }
  return q;
}

// Keys [first, end) a query sees, the mask left aside.
struct Keys {
  int first, end;
};
__device__ __forceinline__ Keys keys_of(const AttentionArgs& a, const Sequence& s, int query) {
  const int64_t position = query + (a.lower_right ? static_cast<int64_t>(s.keys) - s.queries : 0);
  const int64_t first = a.left == kUnlimited ? 0 : position - a.left;
  const int64_t end = a.right == kUnlimited ? s.keys : position + a.right + 1;
  return {static_cast<int>(first < 0        ? 0
                           : first < s.keys ? first
                                            : s.keys),
          static_cast<int>(end < 0        ? 0
                           : end < s.keys ? end
                                          : s.keys)};
}

// Which of a key head's heads has row `row`.
__device__ __forceinline__ int head_of_row(const AttentionArgs& a, const Sequence& s, int row) {
  return a.group == 1 ? 0 : row / s.queries;
}

// Tiles [first, end) that some of rows [row, last] see, and [plain, plain_end) that all of them see whole, a mask aside.
struct Tiles {
  int first, end, plain, plain_end;
};
template <int kKeys>
__device__ __forceinline__ Tiles tiles_of(const AttentionArgs& a, const Sequence& s, int row, int last) {
  const int head = head_of_row(a, s, row);
  const bool one_head = head_of_row(a, s, last) == head;
  const Keys low = keys_of(a, s, one_head ? row - head * s.queries : 0);
  const Keys high = keys_of(a, s, one_head ? last - head * s.queries : s.queries - 1);
  Tiles t;
  t.first = low.first / kKeys;
  t.end = (high.end + kKeys - 1) / kKeys;
  t.plain = (high.first + kKeys - 1) / kKeys;
  t.plain_end = low.end / kKeys;
  return t;
}

struct Work {
  Sequence sequence;
  int key_head, share, shares;
  int row, rows;             // first row of the block, rows there are
  int tile_begin, tile_end;  // of the share
};

// Block `block` of unit `unit`, a share of the keys of one key head of one sequence: unit = share + shares * (key head + key heads *
// sequence). False: nothing to do.
template <int kRows, int kKeys>
__device__ __forceinline__ bool find_work(const AttentionArgs& a, int block, int unit, Work& w) {
  w.share = unit % a.shares;
  unit /= a.shares;
  w.key_head = unit % a.key_heads;
  int s = unit / a.key_heads;
  if (opaque(a.right) != kUnlimited) block = a.blocks - 1 - block;  // rows that see many keys first
  if (a.cu_q) {
    const auto start = [&](int i) { return first_row(static_cast<int64_t>(a.cu_q[i]) * a.group, i, kRows) / kRows; };
    s = last_sequence(a.sequences, block, start);
    block -= static_cast<int>(start(s));
  }
  w.sequence = sequence_at(a, s);
  w.rows = w.sequence.queries * a.group;
  w.row = block * kRows;
  if (w.row >= w.rows) return false;
  const uint32_t keys = w.sequence.keys,
                 per = Shares<uint32_t>::keys_of_one(w.rows, a.key_heads, keys);  // 64-bit divisions are calls
  w.shares = keys > per ? static_cast<int>((keys + per - 1) / per) : 1;
  if (w.share >= w.shares) return false;
  w.tile_begin = static_cast<int>(w.share * per / kKeys);
  w.tile_end = static_cast<int>((min((w.share + 1) * per, keys) + kKeys - 1) / kKeys);
  return true;
}

}  // namespace clary::cuda
