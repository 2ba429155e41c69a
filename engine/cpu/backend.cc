// Running a plan on the CPU: up to four passes over numbered work items, each pass shared by an atomic counter.
//   1 sum      (sequence, key head, chunk)                  sums for the K mean        \ kInt8, kInt16 only
//   2 quantise (sequence, key head, chunk)                  K and V codes              /
//   3 attend   (sequence, key head, unit, block, split)     out, lse, or partial results when split
//   4 combine  (sequence, key head, unit, block)            partial results of split blocks
// Items are numbered head by head so that neighbours share K and V in the cache; under causal the longest blocks come first.
#include "engine/cpu/backend.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "engine/cpu/careful.h"
#include "engine/cpu/layout.h"
#include "engine/cpu/threads.h"

namespace clary {
namespace cpu {
namespace {

// ---- a call in progress ---------------------------------------------------------------------------------------------------

struct Run {
  const Problem& p;
  const Plan& plan;
  const Target& target;
  Layout at;
  char* base;
  int64_t* attend_start;   // [num_seqs + 1] first item of each sequence, pass 3
  int64_t* chunk_start;    // passes 1 and 2
  int64_t* partial_start;  // varlen: first partial row of each sequence within a key head
  enum Pass { kSum, kQuantise, kAttend, kCombine } pass;
  std::atomic<int64_t> next{0};
  int64_t items;
};

int64_t sequence_of(const int64_t* start, int64_t count, int64_t item) {
  return std::upper_bound(start, start + count + 1, item) - start - 1;
}

KvHead head_of(const Run& r, const Sequence& s, int64_t h, Arithmetic a) {
  const Problem& p = r.p;
  KvHead kv{};
  kv.k = p.k.at(s.b, h, s.k0);
  kv.v = p.v.at(s.b, h, s.k0);
  kv.k_stride = p.k.stride[2];
  kv.v_stride = p.v.stride[2];
  kv.n = s.keys;
  kv.D = p.D;
  kv.Dv = p.Dv;
  kv.dtype = p.q.dtype;
  if (!quantised(a)) return kv;
  const int64_t bytes = a == Arithmetic::kInt16 ? 2 : 1, row = r.at.row(p, s, h), tile = r.at.tile(p, s, h);
  kv.k_codes = r.base + r.at.k_codes + row * code_dim(p.D) * bytes;
  kv.v_codes = r.base + r.at.v_codes + row * code_dim(p.Dv) * bytes;
  kv.k_scale = reinterpret_cast<float*>(r.base + r.at.k_scale) + tile;
  kv.v_scale = reinterpret_cast<float*>(r.base + r.at.v_scale) + tile * code_dim(p.Dv);
  kv.sums = reinterpret_cast<float*>(r.base + r.at.sums) + r.at.chunk(p, s, h) * p.D;
  kv.mean = reinterpret_cast<float*>(r.base + r.at.means) + (s.index * p.Hkv + h) * p.D;
  return kv;
}

// Keys a query at position i of its sequence may see, before any mask tensor.
void visible(const Problem& p, const Sequence& s, int64_t i, int32_t* low, int32_t* high) {
  const int64_t position = p.causal == CLARY_CAUSAL_LOWER_RIGHT ? i + s.keys - s.queries : i;
  int64_t lo = 0, hi = s.keys;
  if (p.causal != CLARY_CAUSAL_NONE) hi = std::min(hi, position + 1);
  if (p.window_left >= 0) lo = std::max(lo, position - p.window_left);
  if (p.window_right >= 0) hi = std::min(hi, position + p.window_right + 1);
  *low = static_cast<int32_t>(std::clamp<int64_t>(lo, 0, s.keys));
  *high = static_cast<int32_t>(std::clamp<int64_t>(hi, *low, s.keys));
}

void fill_rows(const Problem& p, const Sequence& s, const SequencePlan& sp, int64_t h, int64_t unit, int64_t block,
               Rows* rows) {
  const int64_t first = block * kBlockRows;
  rows->count = static_cast<int32_t>(std::min<int64_t>(kBlockRows, sp.rows - first));
  for (int r = 0; r < rows->count; r++) {
    const int64_t row = first + r, query = sp.packed ? row % s.queries : row;
    const int64_t head = h * p.group() + (sp.packed ? row / s.queries : unit);
    rows->q[r] = p.q.at(s.b, head, s.q0 + query);
    rows->out[r] = p.out.at(s.b, head, s.q0 + query);
    rows->lse[r] = p.lse.data ? p.lse.at(s.b, head, s.q0 + query) : nullptr;
    rows->mask[r] = p.mask.data ? p.mask.at(s.b, head, query) : nullptr;
    visible(p, s, query, &rows->low[r], &rows->high[r]);
  }
}

AttendArgs args_of(const Run& r, const Sequence& s, int64_t h, Arithmetic a) {
  AttendArgs args{};
  args.kv = head_of(r, s, h, a);
  args.out_dtype = r.p.out.dtype;
  args.mask_dtype = r.p.mask.dtype;
  args.mask_stride = r.p.mask.stride[3];
  args.scale = r.p.scale;
  return args;
}

float* partials_of(const Run& r, const Sequence& s, const SequencePlan& sp, int64_t h, int64_t unit) {
  const int64_t head =
      r.p.varlen() ? h * r.at.partial_rows + r.partial_start[s.index] : (s.b * r.p.Hkv + h) * r.at.partial_rows;
  return reinterpret_cast<float*>(r.base + r.at.partials) +
         (head + unit * sp.rows * sp.splits) * (r.p.Dv + kPartialExtra);
}

// Partial rows of a block: [split][row].
float* partial_block(const Problem& p, float* unit, const SequencePlan& sp, int64_t block, int64_t split, int count) {
  return unit + (block * kBlockRows * sp.splits + split * count) * (p.Dv + kPartialExtra);
}

void recompute(const AttendArgs& args, const Rows& rows) {
  for (int i = 0; i < rows.count; i++)
    if (rows.strange[i]) careful_row(args, rows, i);
}

void attend_item(Run& r, int64_t item, Rows* rows, char* scratch) {
  const Problem& p = r.p;
  const int64_t index = sequence_of(r.attend_start, p.num_seqs, item);
  const Sequence s = sequence_at(p, index);
  const SequencePlan sp = plan_sequence(p, r.plan, s.queries, s.keys);
  item -= r.attend_start[index];
  const int64_t split = item % sp.splits, unit_block = item / sp.splits;
  int64_t block = unit_block % sp.blocks;
  const int64_t unit = unit_block / sp.blocks % sp.units, h = unit_block / sp.blocks / sp.units;
  if (p.causal != CLARY_CAUSAL_NONE) block = sp.blocks - 1 - block;

  fill_rows(p, s, sp, h, unit, block, rows);
  AttendArgs args = args_of(r, s, h, sp.arithmetic);
  int32_t low = s.keys, high = 0;
  for (int i = 0; i < rows->count; i++) {
    if (rows->low[i] >= rows->high[i]) continue;
    low = std::min(low, rows->low[i]);
    high = std::max(high, rows->high[i]);
  }
  args.key_begin = low / kTileKeys * kTileKeys;
  args.key_end = high;
  if (sp.splits > 1) {
    args.key_begin = static_cast<int32_t>(std::max<int64_t>(args.key_begin, split * sp.split_keys));
    args.key_end = static_cast<int32_t>(std::min<int64_t>(args.key_end, (split + 1) * sp.split_keys));
    args.partial = partial_block(p, partials_of(r, s, sp, h, unit), sp, block, split, rows->count);
  }
  r.target.attend(args, *rows, sp.arithmetic, scratch);
  if (!args.partial) recompute(args, *rows);
}

void combine_item(Run& r, int64_t item, Rows* rows) {
  const Problem& p = r.p;
  const int64_t index = sequence_of(r.attend_start, p.num_seqs, item);
  const Sequence s = sequence_at(p, index);
  const SequencePlan sp = plan_sequence(p, r.plan, s.queries, s.keys);
  item -= r.attend_start[index];
  if (sp.splits == 1 || item % sp.splits != 0) return;  // numbered as in pass 3; the first split's item does the block
  const int64_t unit_block = item / sp.splits, block = unit_block % sp.blocks;
  const int64_t unit = unit_block / sp.blocks % sp.units, h = unit_block / sp.blocks / sp.units;
  fill_rows(p, s, sp, h, unit, block, rows);
  const int pitch = p.Dv + kPartialExtra;
  float* unit_base = partials_of(r, s, sp, h, unit);
  for (int i = 0; i < rows->count; i++) {
    const auto part = [&](int64_t split) {
      return partial_block(p, unit_base, sp, block, split, rows->count) + static_cast<int64_t>(i) * pitch;
    };
    float frame = -INFINITY, l = 0, o[kMaxHeadDim] = {};
    for (int64_t k = 0; k < sp.splits; k++) frame = std::max(frame, part(k)[p.Dv]);
    for (int64_t k = 0; k < sp.splits; k++) {
      const float* t = part(k);
      if (t[p.Dv + 1] == 0) continue;
      const float weight = std::exp2(t[p.Dv] - frame);
      l += t[p.Dv + 1] * weight;
      for (int d = 0; d < p.Dv; d++) o[d] += t[d] * weight;
    }
    bool strange = l == 0 && rows->low[i] < rows->high[i];
    for (int d = 0; d < p.Dv; d++) {
      const float x = l == 0 ? 0 : o[d] / l;
      strange |= !std::isfinite(x);
      store_value(rows->out[i], p.out.dtype, d, static_cast<double>(x));
    }
    const float lse = l == 0 ? -INFINITY : (frame + std::log2(l)) * kLn2 + part(0)[p.Dv + 2];
    if (rows->lse[i]) std::memcpy(rows->lse[i], &lse, 4);
    rows->strange[i] = strange || (rows->lse[i] && l != 0 && !std::isfinite(lse));
  }
  recompute(args_of(r, s, h, sp.arithmetic), *rows);
}

void work(void* context, int32_t worker) {
  Run& r = *static_cast<Run*>(context);
  char* own = r.base + r.at.scratch + worker * r.at.scratch_each;
  Rows* rows = reinterpret_cast<Rows*>(own);
  char* scratch = own + align64(sizeof(Rows));
  for (;;) {
    const int64_t item = r.next.fetch_add(1, std::memory_order_relaxed);
    if (item >= r.items) return;
    if (r.pass == Run::kAttend) {
      attend_item(r, item, rows, scratch);
    } else if (r.pass == Run::kCombine) {
      combine_item(r, item, rows);
    } else {
      const int64_t index = sequence_of(r.chunk_start, r.p.num_seqs, item);
      const Sequence s = sequence_at(r.p, index);
      const SequencePlan sp = plan_sequence(r.p, r.plan, s.queries, s.keys);
      const int64_t local = item - r.chunk_start[index], chunks = chunks_of(s.keys);
      const KvHead kv = head_of(r, s, local / chunks, sp.arithmetic);
      if (r.pass == Run::kSum)
        r.target.sum_keys(kv, static_cast<int>(local % chunks));
      else
        r.target.quantise(kv, static_cast<int>(local % chunks), sp.arithmetic, scratch);
    }
  }
}

Status run(const Plan& plan, const Problem& p) {
  const Target& target = *static_cast<const Target*>(plan.target);
  Run r{p, plan, target, Layout::of(p, plan, target), nullptr, nullptr, nullptr, nullptr, Run::kSum, {}, 0};
  r.base = p.workspace + (-reinterpret_cast<uintptr_t>(p.workspace) & 63);
  r.attend_start = reinterpret_cast<int64_t*>(r.base + r.at.starts);
  r.chunk_start = r.attend_start + p.num_seqs + 1;
  r.partial_start = r.chunk_start + p.num_seqs + 1;
  r.attend_start[0] = r.chunk_start[0] = r.partial_start[0] = 0;
  bool split = false;
  for (int64_t i = 0; i < p.num_seqs; i++) {
    const Sequence s = sequence_at(p, i);
    const SequencePlan sp = plan_sequence(p, plan, s.queries, s.keys);
    const bool none = s.queries == 0;
    r.attend_start[i + 1] = r.attend_start[i] + (none ? 0 : p.Hkv * sp.units * sp.blocks * sp.splits);
    r.chunk_start[i + 1] = r.chunk_start[i] + (none || !quantised(sp.arithmetic) ? 0 : p.Hkv * chunks_of(s.keys));
    r.partial_start[i + 1] = r.partial_start[i] + (sp.splits > 1 && !none ? sp.units * sp.rows * sp.splits : 0);
    split |= sp.splits > 1 && !none;
  }
  const auto pass = [&](Run::Pass which, int64_t items) {
    if (items == 0) return;
    r.pass = which;
    r.items = items;
    r.next.store(0, std::memory_order_relaxed);
    parallel(p.executor, static_cast<int>(std::min<int64_t>(plan.workers, items)), work, &r);
  };
  pass(Run::kSum, r.chunk_start[p.num_seqs]);
  pass(Run::kQuantise, r.chunk_start[p.num_seqs]);
  pass(Run::kAttend, r.attend_start[p.num_seqs]);
  if (split) pass(Run::kCombine, r.attend_start[p.num_seqs]);
  return {};
}

}  // namespace

const Backend kBackend = {"cpu", run};

}  // namespace cpu
}  // namespace clary
