// Kernel parameters: plain structs passed by value, the same text for host and device.
#pragma once
#include "layout.h"

namespace clary::cuda {

// How rows of a tensor can be read.
enum Access : int32_t {
  kChunks = 0,    // every row starts at a multiple of 16 bytes and its channels fill whole chunks of 16 bytes
  kElements = 1,  // elements are aligned
  kBytes = 2,     // nothing is
};

// A caller's tensor [B, H, L, D], D contiguous.
struct Source {
  const char* data;
  int64_t batch, head, token;  // strides in bytes; any sign
  int32_t heads;               // H
  int32_t tokens;              // L
  int32_t channels;            // D
  int32_t access;              // Access
};

enum MeanKind : int32_t { kNoMean = 0, kExactMean = 1, kSampledMean = 2 };

constexpr int kItemChannels = 32;  // channels of a work item of V, which has kScaleKeys keys
constexpr int kClusterBound = 16;  // blocks of a cluster of values: 8192 keys

// Arguments of values_* and quantise_*. Layouts of all outputs: layout.h.
struct QuantiseArgs {
  Source q, k, v;
  const int32_t* kv_lens;      // [B] or null: keys from kv_lens[b] on are not read
  const int32_t *cu_q, *cu_k;  // [sequences + 1] or null: several sequences one after the other (layout.h, first_row)
  int32_t sequences;           // varlen: how many; else 1

  int8_t* q_codes;
  float* q_scales;
  float*
      q_shift;  // f32 [bh][Lq padded to kRowPad] or null: softmax scale * q . mean of K, natural units: what lse lacks
  int8_t* k_codes;
  float* k_scales;
  uint8_t* v_codes;
  float* v_scales;

  // Of K and V before their codes, per key head and chunk of chunk_rows() rows:
  float* k_sums;  // f32 [bh][k_chunks][Dp] sums of K in units of 2^32, through the first rotation stage (rotation.cuh)
  float* v_maxima;  // f32 [bh][v_chunks][Dvp] largest |v|; null: the blocks that share scales are a cluster, or one

  uint32_t* taken;  // becomes 0: what Hopper's blocks have taken from their queue

  int32_t q_tiles, k_tiles,
      v_tiles;                 // work items per head: kTileKeys rows; kTileKeys keys; kScaleKeys keys x kItemChannels
  int32_t q_items, k_items;    // in all, of quantise: q, then k
  int32_t s_items, v_items;    // of values: chunks of K, then of V's maxima, to a multiple of v_cluster; then v
  int32_t v_keys, v_cluster;   // keys of v_cluster items side by side, which share scales: v_cluster * kScaleKeys
  int32_t v_per_channel;       // V's scales are those of the sequence, not of v_keys keys
  int32_t v_blocks;            // V scales per head and channel
  int32_t q_rows;              // Lq padded to kRowPad
  int32_t k_rows;              // Lk padded to kTileKeys
  int32_t dp, dvp;             // padded head_dim of q and k, of v
  int32_t v_group;             // keys side by side in v codes: 128 or 64
  int32_t v_half;              // v codes are f16
  int32_t mean;                // MeanKind
  int32_t k_chunks, v_chunks;  // strides of k_sums and v_maxima
  float q_factor;              // q scale = largest |stored rotated q| * |q_factor|; negative: codes change their sign
  float k_factor;
  float shift_factor;
};

// ---- attention ---------------------------------------------------------------------------------------------------------

enum MaskKind : int32_t { kMaskNone = 0, kMaskBool = 1, kMaskF16 = 2, kMaskBf16 = 3, kMaskF32 = 4 };
enum OutKind : int32_t { kOutF16 = 0, kOutBf16 = 1, kOutF32 = 2 };

constexpr int32_t kUnlimited = 1 << 30;  // of a window's side

// Arguments of attention_* and combine. A kernel's "rows" are the queries of all heads that share a key head, one head after the
// other: row = head in group * queries + query.
struct AttentionArgs {
  // As the quantiser left them (layout.h); q_shift is null unless lse is wanted.
  const int8_t* q_codes;
  const float* q_scales;
  const float* q_shift;
  const int8_t* k_codes;
  const float* k_scales;
  const uint8_t* v_codes;
  const float* v_scales;
  uint32_t* taken;

  char* out;
  int64_t out_batch, out_head, out_token;  // bytes
  float* lse;                              // null: not wanted
  int64_t lse_batch, lse_head, lse_token;  // bytes
  const char* mask;
  int64_t mask_batch, mask_head, mask_query, mask_key;  // bytes
  const int32_t* kv_lens;                               // [sequences] or null
  const int32_t *cu_q, *cu_k;                           // [sequences + 1], varlen only, else null

  int32_t sequences, heads, key_heads, group;  // group = heads / key_heads
  int32_t queries, keys;                       // Lq, Lk; varlen: of all sequences together
  int32_t channels;                            // Dv
  int32_t q_rows, k_rows, v_blocks;            // rows, rows and blocks of scales per head in the workspace
  int32_t left, right;                         // key in [p - left, p + right]; causal is right = 0
  int32_t lower_right;                         // p = query + keys - queries of the sequence, else p = query
  int32_t mask_kind;                           // MaskKind
  int32_t out_kind;                            // OutKind
  int32_t out_access, lse_access,
      mask_access;  // Access; kChunks: two channels of out at a time; keys of mask side by side
  int32_t blocks;   // per key head and share; varlen: of all sequences together
  int32_t shares;   // of a sequence's keys, at most
  int32_t units;    // shares of the keys of all key heads of all sequences (of one, if varlen)
  // Hopper's order: in bands of so many units, the first longer_bands of one more, so many blocks of each; then what is left.
  int32_t band, longer_bands, whole_blocks;
  int32_t out_wide;  // rows of out start at, and are, multiples of 16 bytes

  // Results of shares, where a sequence has more than one: [sequence][key head][share][row]
  float* part_out;              // [..][part_dim]
  float* part_lse;              // log2; -infinity: no key
  int32_t part_rows, part_dim;  // rows of a sequence and key head, all shares; floats of one
};

}  // namespace clary::cuda
