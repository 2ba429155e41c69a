// Where everything of a call lies in the workspace, and which piece of work is which. Computed from the problem and the plan;
// sized so that it holds for any sequence lengths (the planner does not read them).
#pragma once
#include "engine/cpu/kernel.h"
#include "engine/problem.h"

namespace clary::cpu {

static inline bool quantised(Arithmetic a) { return a == Arithmetic::kInt8 || a == Arithmetic::kInt16; }
static inline int64_t align64(int64_t x) { return (x + 63) & ~int64_t{63}; }

// One batch entry or varlen sequence.
struct Sequence {
  int64_t index, b, q0, queries, k0;
  int32_t keys;
};

static inline Sequence sequence_at(const Problem& p, int64_t s) {
  if (p.varlen()) return {s, 0, p.cu_q[s], p.cu_q[s + 1] - p.cu_q[s], p.cu_k[s], p.cu_k[s + 1] - p.cu_k[s]};
  return {s, s, 0, p.Lq, 0, p.kv_lens ? p.kv_lens[s] : static_cast<int32_t>(p.Lk)};
}

struct Layout {
  // Offsets into the workspace, bytes; strides between key heads of one sequence and bases per sequence in elements.
  int64_t starts, scratch, k_codes, v_codes, k_scale, v_scale, sums, means, partials, total;
  int64_t scratch_each;  // per worker
  int64_t head_rows;     // code rows between key heads
  int64_t head_tiles, head_chunks;
  int64_t partial_rows;  // of one (sequence, key head); varlen: of all sequences of one key head

  static Layout of(const Problem& p, const Plan& plan, const Target& target);

  // First code row, tile, chunk of (sequence, key head).
  int64_t row(const Problem& p, const Sequence& s, int64_t h) const {
    return p.varlen() ? h * head_rows + round_up(static_cast<int>(s.k0), 8) + 8 * s.index
                      : (s.b * p.Hkv + h) * head_rows;
  }
  int64_t tile(const Problem& p, const Sequence& s, int64_t h) const {
    return p.varlen() ? h * head_tiles + s.k0 / kTileKeys + s.index : (s.b * p.Hkv + h) * head_tiles;
  }
  int64_t chunk(const Problem& p, const Sequence& s, int64_t h) const {
    return p.varlen() ? h * head_chunks + s.k0 / kChunkKeys + s.index : (s.b * p.Hkv + h) * head_chunks;
  }
};

}  // namespace clary::cpu
