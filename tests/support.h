// What the engine's tests share: a Case (a problem as plain data that prints in one line), its Instance (memory laid out as
// asked, NaN in every gap), and running it on each CPU target this machine has.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "clary/clary.h"
#include "engine/cpu/kernel.h"
#include "engine/problem.h"

namespace clary::test {

enum class Data { kNormal, kOutlier, kBias, kPeaky, kHeavyTail, kSink, kEqual };
// Memory order of a tensor. Fused: NHD rows three times as wide (a view of a QKV projection). Padded: gaps after every
// dimension. Broadcast: batch stride 0, and head stride 0 for k and v; padded for outputs. Flipped: tokens backwards.
// Unaligned: padded, off by one element. Odd: off by one byte.
enum class Layout { kHnd, kNhd, kFused, kPadded, kLbhd, kBroadcast, kFlipped, kUnaligned, kOdd };
constexpr int kLayouts = 9;
enum class Mask { kNone, kBool, kF16, kBf16, kF32 };
enum class Poison { kNone, kNanQ, kNanK, kNanV, kInfQ, kInfK, kInfV, kNanMask };

struct Case {
  uint64_t seed = 1;
  int64_t B = 1, Hq = 1, Hkv = 1, Lq = 1, Lk = 1;
  int64_t D = 64, Dv = 64;
  int32_t dtype = CLARY_F32, out_dtype = CLARY_F32;
  int32_t accuracy = CLARY_STANDARD;
  int32_t causal = CLARY_CAUSAL_NONE;
  bool window = false;
  int64_t window_left = -1, window_right = -1;
  float scale = 0;  // 0: the default
  Data data = Data::kNormal;
  float q_size = 1, k_size = 1, v_size = 1;  // multiply the data
  Layout layout = Layout::kHnd;
  Layout out_layout = Layout::kHnd;
  Mask mask = Mask::kNone;
  bool mask_broadcast[4] = {false, false, false, false};  // stride 0 in B, H, Lq, Lk
  float mask_hidden = 0.3f;                               // share of keys hidden
  std::vector<int32_t> kv_lens{};                         // empty: none
  std::vector<int32_t> cu_q{}, cu_k{};                    // empty: dense
  bool lse = true;
  Poison poison = Poison::kNone;  // one visible-or-not element somewhere
};
std::string text(const Case& c);

// A tensor of its own memory: exactly as long as its elements reach, so that sanitizers see a step beyond.
class Tensor {
 public:
  Tensor() = default;
  Tensor(const int64_t (&shape)[4], int32_t dtype, Layout layout, bool output, const bool* broadcast = nullptr);
  void set(int64_t b, int64_t h, int64_t l, int64_t d, float value);
  float get(int64_t b, int64_t h, int64_t l, int64_t d) const;
  std::vector<float> values() const;  // [B, H, L, D]
  void poison();                      // every byte of the memory
  bool gaps_untouched() const;        // since poison()
  clary_tensor view{};
  std::vector<char> memory;

 private:
  char* element(int64_t b, int64_t h, int64_t l, int64_t d) const;
};

struct Result {
  clary_status status = CLARY_INTERNAL;
  std::string variant, error;
  Plan plan;                    // as the planner answers for this call
  std::vector<float> out, lse;  // [B, Hq, Lq, Dv], [B, Hq, Lq]; lse empty if not asked for
  std::string damage;           // what was written that must not be: an input, a gap, beyond the workspace
};

class Instance {
 public:
  explicit Instance(const Case& c);
  Instance(const Instance&) = delete;
  // Runs on `target` ("avx2" or "avx2:int8"; null: as the engine chooses) with outputs, gaps and workspace poisoned. Another
  // variant than the forced one having run is reported as damage.
  Result run(const char* target = nullptr, const clary_executor* executor = nullptr);
  Problem problem() const;

  const Case c;
  clary_attention_args args{};
  Tensor q, k, v, out, lse, mask;
};

// Targets of this library that this machine runs, lowest first.
const std::vector<const cpu::Target*>& usable_targets();

// Forces "cpu:<target>" (env.h) while in scope; null: nothing.
class Forced {
 public:
  explicit Forced(const char* target);
  ~Forced();

 private:
  const bool forced_;
};

// The library's pool at `count` threads while in scope.
class Threads {
 public:
  explicit Threads(int count) { clary_set_threads(count); }
  ~Threads() { clary_set_threads(0); }
};

// Repeatable random numbers, the same everywhere (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  double uniform();                            // [0, 1)
  int64_t between(int64_t low, int64_t high);  // both included
  bool chance(double p) { return uniform() < p; }
  double normal();
  template <class T, size_t N>
  T pick(const T (&choices)[N]) {
    return choices[between(0, N - 1)];
  }

 private:
  uint64_t state_;
};

inline bool is_float(int32_t dtype) { return dtype != CLARY_BOOL; }
int64_t size_of(int32_t dtype);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace clary::test
