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

constexpr int64_t kMinSplitKeys = 1024;
// Up to this many rows over one key head, streaming K and V is all there is to do.
constexpr int64_t kDirectMaxRows = 4;
// Fewer keys than this fit a tile so badly that f32 is as fast.
constexpr int64_t kQuantiseKeys = 65;
// Multiply-adds that are worth waking another thread for.
constexpr double kWorkPerThread = 1.5e6;

bool quantised(Arithmetic a) { return a == Arithmetic::kInt8 || a == Arithmetic::kInt16; }

int64_t align64(int64_t x) { return (x + 63) & ~int64_t{63}; }

Arithmetic pick(const Problem& p, const Target& target, int64_t queries, int64_t keys) {
  const int64_t rows = queries * p.group();
  if (rows <= kDirectMaxRows) return Arithmetic::kDirect;
  if (p.accuracy == CLARY_EXACT) return Arithmetic::kF32;
  const bool bf16 = target.bf16 && p.q.dtype == CLARY_BF16 && p.accuracy != CLARY_HIGH;
  if (keys < kQuantiseKeys || rows < (bf16 ? target.quantise_rows_bf16 : target.quantise_rows))
    return bf16 ? Arithmetic::kBf16 : Arithmetic::kF32;
  return p.accuracy == CLARY_HIGH ? Arithmetic::kInt16 : Arithmetic::kInt8;
}

// Partial rows of splits stay below 2 % of the codes of K and V: a split has at least 256 keys for each row.
int64_t split_keys_for(int64_t rows) {
  const int64_t keys = std::max(kMinSplitKeys, rows * 256);
  return (keys + kMinSplitKeys - 1) / kMinSplitKeys * kMinSplitKeys;
}

}  // namespace

Layout Layout::of(const Problem& p, const Plan& plan, const Target& target) {
  Layout at{};
  // What any sequence may need: with varlen each may choose its own arithmetic, so the codes are always reckoned with.
  const bool codes = plan.forced_arithmetic ? quantised(plan.arithmetic)
                     : p.varlen()           ? p.accuracy != CLARY_EXACT
                                            : quantised(plan.arithmetic) || (p.kv_lens && p.accuracy != CLARY_EXACT);
  const int64_t code_bytes = plan.forced_arithmetic ? (plan.arithmetic == Arithmetic::kInt16 ? 2 : 1)
                             : p.accuracy == CLARY_HIGH ? 2
                                                        : 1;
  const int64_t heads = p.varlen() ? p.Hkv : p.B * p.Hkv;
  at.head_rows = p.varlen() ? round_up(static_cast<int>(p.Lk), 8) + 8 * p.num_seqs : round_up(static_cast<int>(p.Lk), 8);
  at.head_tiles = p.varlen() ? p.Lk / kTileKeys + 1 + p.num_seqs : tiles_of(p.Lk);
  at.head_chunks = p.varlen() ? p.Lk / kChunkKeys + 1 + p.num_seqs : chunks_of(p.Lk);
  int64_t next = 0;
  const auto take = [&](int64_t bytes) {
    const int64_t begin = next;
    next += align64(bytes);
    return begin;
  };
  at.starts = take(3 * (p.num_seqs + 1) * 8);
  at.scratch_each = 0;
  for (int a = 0; a < kArithmetics; a++) {
    if (plan.forced_arithmetic ? a != static_cast<int>(plan.arithmetic) : quantised(static_cast<Arithmetic>(a)) && !codes) continue;
    at.scratch_each = std::max(at.scratch_each, align64(target.scratch_bytes(static_cast<Arithmetic>(a), p.D, p.Dv)));
  }
  at.scratch_each += align64(sizeof(Rows));
  at.scratch = take(at.scratch_each * plan.workers);
  if (codes) {
    at.k_codes = take(heads * at.head_rows * code_dim(p.D) * code_bytes);
    at.v_codes = take(heads * at.head_rows * code_dim(p.Dv) * code_bytes);
    at.k_scale = take(heads * at.head_tiles * 4);
    at.v_scale = take(heads * at.head_tiles * code_dim(p.Dv) * 4);
    at.sums = take(heads * at.head_chunks * p.D * 4);
    at.means = take((p.varlen() ? p.num_seqs : p.B) * p.Hkv * p.D * 4);
  }
  if (p.varlen()) {
    at.partial_rows = p.Lk * p.group() / 128 + 1;  // see split_keys_for: rows * splits <= keys / 256 + rows <= keys / 128
  } else {
    const SequencePlan s = plan_sequence(p, plan, p.Lq, p.Lk);
    at.partial_rows = s.splits > 1 ? s.units * s.rows * s.splits : 0;
  }
  at.partials = take(heads * at.partial_rows * (p.Dv + kPartialExtra) * 4);
  at.total = next + 63;  // the caller's workspace may start anywhere
  return at;
}

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

void fill_rows(const Problem& p, const Sequence& s, const SequencePlan& sp, int64_t h, int64_t unit, int64_t block, Rows* rows) {
  const int64_t first = block * kBlockRows;
  rows->count = static_cast<int32_t>(std::min<int64_t>(kBlockRows, sp.rows - first));
  for (int r = 0; r < rows->count; r++) {
    const int64_t row = first + r, query = sp.packed ? row % s.queries : row;
    const int64_t head = h * p.group() + (sp.packed ? row / s.queries : unit);
    rows->q[r] = p.q.at(s.b, head, s.q0 + query);
    rows->out[r] = p.out.at(s.b, head, s.q0 + query);
    rows->lse[r] = p.lse.data ? reinterpret_cast<float*>(p.lse.at(s.b, head, s.q0 + query)) : nullptr;
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
  const int64_t head = r.p.varlen() ? h * r.at.partial_rows + r.partial_start[s.index]
                                    : (s.b * r.p.Hkv + h) * r.at.partial_rows;
  return reinterpret_cast<float*>(r.base + r.at.partials) + (head + unit * sp.rows * sp.splits) * (r.p.Dv + kPartialExtra);
}

// Partial rows of a block: [split][row].
float* partial_block(const Problem& p, float* unit, const SequencePlan& sp, int64_t block, int64_t split, int count) {
  return unit + (block * kBlockRows * sp.splits + split * count) * (p.Dv + kPartialExtra);
}

void recompute(const AttendArgs& args, const Rows& rows) {
  for (int i = 0; i < rows.count; i++)
    if (!row_is_finite(rows.out[i], args.out_dtype, args.kv.Dv) || (rows.lse[i] && !std::isfinite(*rows.lse[i])))
      careful_row(args, rows, i);
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
  if (r.target.attend(args, *rows, sp.arithmetic, scratch)) recompute(args, *rows);
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
  bool strange = false;
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
    for (int d = 0; d < p.Dv; d++) {
      const float x = l == 0 ? 0 : o[d] / l;
      strange |= !std::isfinite(x);
      store_value(rows->out[i], p.out.dtype, d, static_cast<double>(x));
    }
    if (!rows->lse[i]) continue;
    *rows->lse[i] = l == 0 ? -INFINITY : (frame + std::log2(l)) * kLn2 + part(0)[p.Dv + 2];
    strange |= l != 0 && !std::isfinite(*rows->lse[i]);
  }
  if (strange) recompute(args_of(r, s, h, sp.arithmetic), *rows);
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

const Backend kBackend = {"cpu", run};

}  // namespace

// ---- planning -------------------------------------------------------------------------------------------------------------

Plan choose(const Problem& p, const Device& device, const char* force, int threads) {
  Plan plan;
  const Target* target = best_target(device.cpu_features);
  char name[64] = {0};
  std::snprintf(name, sizeof name, "%s", force[0] == ':' ? force + 1 : "");
  char* arithmetic = std::strchr(name, ':');
  if (arithmetic) *arithmetic++ = 0;
  if (name[0]) {
    target = find_target(name);
    char list[160] = {0};
    for (int i = 0; i < targets().count; i++) {
      const Target* t = targets().begin[i];
      if ((t->needs & device.cpu_features) != t->needs) continue;
      std::strncat(list, " ", sizeof list - std::strlen(list) - 1);
      std::strncat(list, t->name, sizeof list - std::strlen(list) - 1);
    }
    char hint[200];
    std::snprintf(hint, sizeof hint, "Usable on this machine:%s.", list);
    if (!target) {
      plan.why = Status::error(CLARY_INVALID_ARGUMENT, hint, "CLARY_FORCE names no CPU target: \"%s\"", name);
      return plan;
    }
    if ((target->needs & device.cpu_features) != target->needs) {
      plan.why = Status::error(CLARY_NO_DEVICE, hint, "this CPU lacks instructions that target %s needs", name);
      return plan;
    }
  }
  plan.arithmetic = pick(p, *target, p.Lq, p.Lk);
  if (arithmetic && arithmetic[0]) {
    int a = 0;
    while (a < kArithmetics && std::strcmp(arithmetic, arithmetic_name(static_cast<Arithmetic>(a))) != 0) a++;
    if (a == kArithmetics) {
      plan.why = Status::error(CLARY_INVALID_ARGUMENT, "Arithmetics are int8, int16, bf16, f32 and direct.",
                               "CLARY_FORCE names no arithmetic: \"%s\"", arithmetic);
      return plan;
    }
    if (static_cast<Arithmetic>(a) == Arithmetic::kBf16 && !(target->bf16 && p.q.dtype == CLARY_BF16)) {
      plan.why = Status::error(CLARY_NOT_SUPPORTED, "It takes bf16 inputs and target avx512bf16 or amx.",
                               "target %s cannot multiply %s inputs as bf16", target->name, dtype_name(p.q.dtype));
      return plan;
    }
    plan.arithmetic = static_cast<Arithmetic>(a);
    plan.forced_arithmetic = true;
  }
  plan.target = target;
  plan.backend = &kBackend;
  const double multiplies = static_cast<double>(p.B * p.Hq) * static_cast<double>(p.Lq) * static_cast<double>(p.Lk) * (p.D + p.Dv) /
                            (p.causal != CLARY_CAUSAL_NONE ? 2 : 1);
  const double worth = multiplies / kWorkPerThread;
  plan.workers = worth < 2 ? 1 : worth < threads ? static_cast<int>(worth) : threads;
  // A workspace sized when the pool was smaller still serves: with fewer workers.
  const Layout at = Layout::of(p, plan, *target);
  const int64_t missing = at.total - static_cast<int64_t>(p.workspace_size);
  if (p.workspace && missing > 0)
    plan.workers -= static_cast<int>(std::min<int64_t>(plan.workers - 1, (missing + at.scratch_each - 1) / at.scratch_each));
  plan.workspace = static_cast<uint64_t>(Layout::of(p, plan, *target).total);
  std::snprintf(plan.variant, sizeof plan.variant, "cpu:%s:%s", target->name, arithmetic_name(plan.arithmetic));
  const char* why = plan.forced_arithmetic                                     ? "arithmetic forced"
                    : p.accuracy == CLARY_EXACT                                ? "exact is f32"
                    : quantised(plan.arithmetic)                               ? "quantised as asked"
                    : plan.arithmetic == Arithmetic::kBf16                     ? "too few rows to pay for quantising; bf16 as it is"
                    : plan.arithmetic == Arithmetic::kDirect                   ? "few rows: K and V are read once, in f32"
                                                             : "too few rows or keys to pay for quantising; f32 is more accurate";
  std::snprintf(plan.reason, sizeof plan.reason, "%s%s", why, name[0] ? ", target forced" : "");
  return plan;
}

int info(const Device& device, char* buffer, size_t capacity) {
  char built[256] = {0}, usable[256] = {0};
  const auto add = [](char* list, size_t size, const char* name) {
    std::snprintf(list + std::strlen(list), size - std::strlen(list), "%s\"%s\"", list[0] ? ", " : "", name);
  };
  for (int i = 0; i < targets().count; i++) {
    const Target* t = targets().begin[i];
    add(built, sizeof built, t->name);
    if ((t->needs & device.cpu_features) == t->needs) add(usable, sizeof usable, t->name);
  }
  return std::snprintf(buffer, capacity,
                       "{\"version\": \"%s\", \"abi\": %d, \"cpu\": {\"name\": \"%s\", \"built\": [%s], \"usable\": [%s], "
                       "\"best\": \"%s\", \"threads\": %d}, \"cuda\": null}",
                       CLARY_VERSION, CLARY_ABI_VERSION, device.name, built, usable, best_target(device.cpu_features)->name,
                       concurrency(nullptr));
}

}  // namespace cpu

SequencePlan plan_sequence(const Problem& p, const Plan& plan, int64_t queries, int64_t keys) {
  SequencePlan s{};
  s.arithmetic = plan.forced_arithmetic ? plan.arithmetic
                                        : cpu::pick(p, *static_cast<const cpu::Target*>(plan.target), queries, keys);
  s.packed = p.group() > 1 && queries < kBlockRows;
  s.units = s.packed ? 1 : p.group();
  s.rows = s.packed ? queries * p.group() : queries;
  s.blocks = (s.rows + kBlockRows - 1) / kBlockRows;
  s.split_keys = cpu::split_keys_for(s.rows);
  s.splits = s.rows <= 4 * kBlockRows && keys > s.split_keys ? (keys + s.split_keys - 1) / s.split_keys : 1;
  return s;
}

}  // namespace clary
