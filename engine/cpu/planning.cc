// Planning for a CPU: the target, each sequence's arithmetic, how its work is cut, and where everything lies in the workspace.
// Pure: reads the problem, the device and the forced name, nothing else.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "engine/cpu/backend.h"
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
  const int64_t code_bytes = plan.forced_arithmetic     ? (plan.arithmetic == Arithmetic::kInt16 ? 2 : 1)
                             : p.accuracy == CLARY_HIGH ? 2
                                                        : 1;
  const int64_t heads = p.varlen() ? p.Hkv : p.B * p.Hkv;
  at.head_rows =
      p.varlen() ? round_up(static_cast<int>(p.Lk), 8) + 8 * p.num_seqs : round_up(static_cast<int>(p.Lk), 8);
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
    if (plan.forced_arithmetic ? a != static_cast<int>(plan.arithmetic)
                               : quantised(static_cast<Arithmetic>(a)) && !codes)
      continue;
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
    at.partial_rows =
        p.Lk * p.group() / 128 + 1;  // see split_keys_for: rows * splits <= keys / 256 + rows <= keys / 128
  } else {
    const SequencePlan s = plan_sequence(p, plan, p.Lq, p.Lk);
    at.partial_rows = s.splits > 1 ? s.units * s.rows * s.splits : 0;
  }
  at.partials = take(heads * at.partial_rows * (p.Dv + kPartialExtra) * 4);
  at.total = next + 63;  // the caller's workspace may start anywhere
  return at;
}

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
      plan.why = Status::error(CLARY_NOT_SUPPORTED, "It takes bf16 inputs and target avx512bf16.",
                               "target %s cannot multiply %s inputs as bf16", target->name, dtype_name(p.q.dtype));
      return plan;
    }
    plan.arithmetic = static_cast<Arithmetic>(a);
    plan.forced_arithmetic = true;
  }
  plan.target = target;
  plan.backend = &kBackend;
  const double multiplies = static_cast<double>(p.B * p.Hq) * static_cast<double>(p.Lq) * static_cast<double>(p.Lk) *
                            (p.D + p.Dv) / (p.causal != CLARY_CAUSAL_NONE ? 2 : 1);
  const double worth = multiplies / kWorkPerThread;
  plan.workers = worth < 2 ? 1 : worth < threads ? static_cast<int>(worth) : threads;
  // A workspace sized when the pool was smaller still serves: with fewer workers.
  const Layout at = Layout::of(p, plan, *target);
  const int64_t missing = at.total - static_cast<int64_t>(p.workspace_size);
  if (p.workspace && missing > 0 && !p.full_workspace)
    plan.workers -=
        static_cast<int>(std::min<int64_t>(plan.workers - 1, (missing + at.scratch_each - 1) / at.scratch_each));
  plan.workspace = static_cast<uint64_t>(Layout::of(p, plan, *target).total);
  std::snprintf(plan.variant, sizeof plan.variant, "cpu:%s:%s", target->name, arithmetic_name(plan.arithmetic));
  const char* why = plan.forced_arithmetic                 ? "arithmetic forced"
                    : p.accuracy == CLARY_EXACT            ? "exact is f32"
                    : quantised(plan.arithmetic)           ? "quantised as asked"
                    : plan.arithmetic == Arithmetic::kBf16 ? "too few rows to pay for quantising; bf16 as it is"
                    : plan.arithmetic == Arithmetic::kDirect
                        ? "few rows: K and V are read once, in f32"
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
  return std::snprintf(
      buffer, capacity,
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
