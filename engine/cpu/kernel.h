// What the CPU driver (backend.cc, baseline code) asks of an instruction set: three functions and the records they read.
// Plain data only: this header is included by every per-ISA translation unit.
#pragma once
#include <cstdint>

#include "engine/plan.h"
#include "engine/quant/formats.h"

namespace clary::cpu {

// One (sequence, key head). Codes live in the workspace; K and V are the caller's.
struct KvHead {
  const char* k;  // [n, D] at k_stride elements a row
  const char* v;  // [n, Dv]
  int64_t k_stride, v_stride;
  int32_t n;  // keys
  int32_t D, Dv;
  int32_t dtype;  // clary_dtype of k and v
  // kInt8, kInt16. Tile t starts at key t * kTileKeys; rows of a tile are padded with zero codes to a multiple of 8. Products
  // that take many bytes at a time may read up to 64 behind either array of codes; other arrays of the workspace lie there.
  char* k_codes;   // [round_up(n, 8)][code_dim(D)] codes
  char* v_codes;   // per tile [keys / g][code_dim(Dv)][g], g = keys of a channel that the target wants together
  float* k_scale;  // [tiles]
  float* v_scale;  // [tiles][code_dim(Dv)]
  float* sums;     // [chunks][D] in units of kMeanUnit
  float* mean;     // [D]
};

static inline int code_dim(int D) { return round_up(D, 4); }
static inline int tiles_of(int64_t n) { return static_cast<int>((n + kTileKeys - 1) / kTileKeys); }
static inline int chunks_of(int64_t n) { return static_cast<int>((n + kChunkKeys - 1) / kChunkKeys); }

// A block of query rows; arrays of kBlockRows.
struct Rows {
  int32_t count;
  const char* q[kBlockRows];
  char* out[kBlockRows];
  char* lse[kBlockRows];         // f32 at any address; null: not wanted
  const char* mask[kBlockRows];  // null: no mask tensor
  int32_t low[kBlockRows],
      high[kBlockRows];  // visible keys [low, high) by length, causal and window; low < high or empty
  // Set by attend: the result is not finite, or is that of a row that sees no key although some are in [low, high). Such rows
  // are looked at in f64 (careful.h).
  bool strange[kBlockRows];
};

struct AttendArgs {
  KvHead kv;
  int32_t out_dtype;
  int32_t mask_dtype;   // clary_dtype; with Rows::mask
  int64_t mask_stride;  // elements from key to key
  float scale;
  int32_t key_begin, key_end;  // this item's share; key_begin a multiple of kTileKeys
  float* partial;              // null, or [count][Dv + kPartialExtra]: O, frame, l, q.mean of each row, not out and lse
};
constexpr int kPartialExtra = 3;

struct Target {
  const char* name;
  uint32_t needs;  // CpuFeature
  bool bf16;       // has kBf16
  // Rows over one key head from which quantising K and V pays, against f32 and against bf16 inputs multiplied as they are.
  int32_t quantise_rows, quantise_rows_bf16;
  int64_t (*scratch_bytes)(Arithmetic, int D, int Dv);
  // Sums of the keys of chunk c into kv.sums.
  void (*sum_keys)(const KvHead& kv, int chunk);
  // Mean (all chunks' sums) and the codes of the tiles of chunk c.
  void (*quantise)(const KvHead& kv, int chunk, Arithmetic a, char* scratch);
  // Attention of a block of rows; sets rows.strange unless args.partial.
  void (*attend)(const AttendArgs& args, Rows& rows, Arithmetic a, char* scratch);
};

// Usable targets of this library, lowest first; a target is usable where the device has all it needs.
struct TargetList {
  const Target* const* begin;
  int count;
};
TargetList targets();
const Target* best_target(uint32_t features);
const Target* find_target(const char* name);

}  // namespace clary::cpu
