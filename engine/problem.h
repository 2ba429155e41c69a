// What is asked: shapes, strides, dtypes, mask, causal, lengths, scale, accuracy. Built once from the C struct; check() is
// the only validator, and after it every reader may rely on what it says.
#pragma once
#include <cstdint>

#include "clary/clary.h"
#include "status.h"

namespace clary {

constexpr int kMaxHeadDim = 256;

struct View {
  char* data = nullptr;
  int64_t shape[4] = {0, 0, 0, 0};   // [B, H, L, D]
  int64_t stride[4] = {0, 0, 0, 0};  // elements
  int32_t dtype = 0;                 // clary_dtype
  bool present() const { return data != nullptr || shape[0] || shape[1] || shape[2] || shape[3]; }
  int64_t size() const { return dtype == CLARY_F32 ? 4 : dtype == CLARY_BOOL ? 1 : 2; }  // bytes of an element
  // Address of [b, h, l, 0].
  char* at(int64_t b, int64_t h, int64_t l) const {
    return data + (b * stride[0] + h * stride[1] + l * stride[2]) * size();
  }
};

struct Problem {
  int64_t B = 0, Hq = 0, Hkv = 0, Lq = 0, Lk = 0;
  int D = 0, Dv = 0;
  View q, k, v, out, lse, mask;
  int32_t accuracy = CLARY_STANDARD;
  int32_t causal = CLARY_CAUSAL_NONE;
  int64_t window_left = -1, window_right = -1;  // -1 = unlimited
  float scale = 0;
  const int32_t* kv_lens = nullptr;
  const int32_t* cu_q = nullptr;
  const int32_t* cu_k = nullptr;
  int64_t num_seqs = 0;  // varlen sequences, or B
  int64_t max_q = 0, max_k = 0;
  int32_t device_type = CLARY_CPU, device_id = 0;
  bool not_slower = false;  // refuse what torch's SDPA does faster
  void* stream = nullptr;
  char* workspace = nullptr;
  uint64_t workspace_size = 0;
  bool full_workspace = false;  // run with all threads or not at all
  const clary_executor* executor = nullptr;

  bool varlen() const { return cu_q != nullptr; }
  bool empty() const { return B == 0 || Lq == 0 || Hq == 0; }
  int64_t group() const { return Hkv ? Hq / Hkv : 1; }  // query heads per key head

  // Reads the struct (whatever its size says it has). Fails only if it cannot be read.
  static Status from(const clary_attention_args* args, Problem* problem);
  // Consistency of everything that can be known without a device. `planning`: data pointers may be null.
  Status check(bool planning) const;
  // Values behind device pointers that the host can read (CPU only): kv_lens and cu_seqlens.
  Status check_lengths() const;
};

const char* dtype_name(int32_t dtype);
const char* accuracy_name(int32_t accuracy);
const char* device_type_name(int32_t type);

}  // namespace clary
