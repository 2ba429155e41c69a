// Where every quantised byte lies in the workspace: the contract between the quantiser, the attention kernels and the tests.
// Compiled for the host and for the device; nothing else states these layouts.
//
// Several sequences (varlen) lie in one head one after the other, each from first_row(cu, s, pad) on: no sum over the others is
// needed to find it, and every sequence begins at a multiple of `pad` (rows of q: kRowPad, keys: kTileKeys, V scales: blocks).
//
// Names: Lp = tokens padded, Dp = head_dim padded (padded_dim), bh = batch * heads + head, panel = min(Dp, 128) channels.
//
//   q codes   s8 [bh][Dp / panel][Lq padded to kRowPad][panel]      chunks of 16 bytes swizzled (swizzle)
//   q scales  f32 [bh][Lq padded to kRowPad]                        score of (row, key) = q scale * k scale * sum of codes,
//   k codes   s8 [bh][Dp / panel][Lk padded to kTileKeys][panel]      in log2 units: softmax scale and log2(e) are in q's
//   k scales  f32 [bh][Lk / kTileKeys, rounded up]
//   v codes   u8 [bh][Lk padded / group][Dvp][group keys]           code + 128, keys permuted (key_slot), chunks swizzled;
//                                                                     group = 128 or 64 keys (QuantiseArgs::v_group)
//         or f16 [bh][Lk padded / 64][Dvp][64 keys]                 as they are, keys in order, chunks swizzled (v_half)
//   v scales  f32 [bh][Lk / kScaleKeys, rounded up][Dvp]            value = (code - 128) * scale, or code * scale; one block if
//                                                                     per channel
//
// Rows of q from Lq to the padding and keys from the sequence's length to the end of their tile have code 0 (u8 v: 128). Tiles and
// scale blocks that lie wholly past a length are not written. A tile of 128 keys of a panel is 128 * panel contiguous bytes, so
// one bulk copy, or a plain copy, puts it into shared memory as ldmatrix and wgmma descriptors want it (hopper: 128-byte
// swizzle for 128-byte rows, 64-byte swizzle for 64-byte rows).
#pragma once

#if defined(__CUDACC_RTC__)
namespace clary::cuda {
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
}  // namespace clary::cuda
#else
#include <cstdint>
#endif
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define CLARY_BOTH __host__ __device__
#else
#define CLARY_BOTH
#endif

namespace clary::cuda {

constexpr int kTileKeys = 128;     // keys that share a K scale
constexpr int kScaleKeys = 512;    // keys that share a V scale per channel
constexpr int kRowPad = 16;        // rows of one MMA
constexpr int kPanelMax = 128;     // bytes of a swizzled row
constexpr int kMeanChunks = 16;    // at most: partial sums of K per head
constexpr int kMeanStep = 16;      // a sampled mean takes one key of so many
constexpr int kShareBlocks = 256;  // keys of a sequence are shared out until it is about so many blocks of work
constexpr int kShareRows = 64;     // taking blocks of so many rows
constexpr int kMaxShares = 64;
constexpr int kSampleFrom = 1024;  // keys from which on the mean is sampled: 64 samples

CLARY_BOTH constexpr int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }
CLARY_BOTH constexpr int64_t pad_to(int64_t x, int64_t y) { return ceil_div(x, y) * y; }

// The rotation's size: 64, 128 or 256. REQUIRES 1 <= d <= 256.
CLARY_BOTH constexpr int padded_dim(int d) { return d <= 64 ? 64 : d <= 128 ? 128 : 256; }
CLARY_BOTH constexpr int panel_width(int dp) { return dp < kPanelMax ? dp : kPanelMax; }

// Chunk `chunk` of 16 bytes of row `row`, in rows of `width` = 64 or 128 bytes, lies at this chunk of the row: eight rows at one
// chunk then touch all banks.
CLARY_BOTH constexpr int swizzle(int64_t row, int chunk, int width) {
  return chunk ^ static_cast<int>(width == 128 ? row & 7 : (row >> 1) & 3);
}

// Byte of (row, position) in one head's q or k codes; `rows` is the padded count.
CLARY_BOTH constexpr int64_t rows_offset(int dp, int64_t rows, int64_t row, int position) {
  const int width = panel_width(dp);
  const int64_t panel = position / width;
  const int in_panel = position % width;
  return (panel * rows + row) * width + swizzle(row, in_panel >> 4, width) * 16 + (in_panel & 15);
}

// Where sequence s begins when every sequence is padded to `pad`; cu[s] is the tokens before it. Rows for all of n sequences:
// first_row(total, n, pad).
CLARY_BOTH constexpr int64_t first_row(int64_t tokens_before, int64_t s, int64_t pad) {
  return (tokens_before / pad + s) * pad;
}

// Slot of token `key` within its 16, so that the packed accumulators of Q K^T are an A fragment of P V as they stand: slots hold
// keys 0 1 8 9 2 3 10 11 4 5 12 13 6 7 14 15.
CLARY_BOTH constexpr int key_slot(int key) { return key / 8 * 2 + key / 2 % 4 * 4 + key % 2; }

// Byte of (channel, key) in one head's v codes.
CLARY_BOTH constexpr int64_t values_offset(int dvp, int group, int channel, int64_t key) {
  const int in_group = static_cast<int>(key % group);
  return (key / group * dvp + channel) * group + swizzle(channel, in_group >> 4, group) * 16 + key_slot(in_group & 15);
}

// The same for f16.
CLARY_BOTH constexpr int64_t half_values_offset(int dvp, int channel, int64_t key) {
  const int in_group = static_cast<int>(key % 64);
  return (key / 64 * dvp + channel) * 128 + swizzle(channel, in_group >> 3, 128) * 16 + (in_group & 7) * 2;
}

// The rotated vector is W x / sqrt(Dp), W the Walsh-Hadamard matrix in natural (Sylvester) order: W[i][j] = -1 to the number of
// bits i and j have in common. Position p of a code row holds its element rotated_channel(p); q and k alike, so q k^T is as it was.
CLARY_BOTH constexpr int rotated_channel(int p) {
  return (p & 1) | (p >> 2 & 1) << 1 | (p >> 1 & 1) << 2 | (p >> 4 & 3) << 3 | (p >> 3 & 1) << 5 | (p >> 6) << 6;
}

// The keys K's mean is taken over: all `keys`, or every kMeanStep-th, at an offset that moves so that data with a period of
// kMeanStep is seen whole. Both depend on the sequence's own length only.
CLARY_BOTH constexpr bool mean_sampled(bool allowed, int64_t keys) { return allowed && keys >= kSampleFrom; }
CLARY_BOTH constexpr int64_t mean_samples(bool sampled, int64_t keys) { return sampled ? keys / kMeanStep : keys; }
CLARY_BOTH constexpr int64_t mean_key(bool sampled, int64_t i) {
  return sampled ? i * kMeanStep + (i * 7 & (kMeanStep - 1)) : i;
}
// Rows of a chunk of statistics: as many as make at most kMeanChunks of them.
CLARY_BOTH constexpr int64_t chunk_rows(int64_t rows) {
  const int64_t even = pad_to(ceil_div(rows, kMeanChunks), 32);
  return even < 256 ? 256 : even;
}
CLARY_BOTH constexpr int64_t chunk_count(int64_t rows) { return ceil_div(rows, chunk_rows(rows)); }
// No sequence of at most `rows` rows has more chunks.
CLARY_BOTH constexpr int64_t chunk_bound(int64_t rows) {
  const int64_t most = ceil_div(rows, 256);
  return most < kMeanChunks ? most : kMeanChunks;
}

// How many shares the keys of a sequence are cut into at most, and the keys of one, a multiple of kScaleKeys: functions of the
// sequence's own shape, so that its bits depend on nothing else. `rows` are queries * heads per key head. More rows or fewer keys
// never make more shares; shares * rows <= part_rows_bound unless there is only one.
template <class Int = int64_t>
struct Shares {
  CLARY_BOTH static constexpr Int count(Int rows, Int key_heads, Int keys) {
    Int shares = kShareBlocks / (key_heads * (((rows < 1 ? 1 : rows) + kShareRows - 1) / kShareRows));
    if (shares > kMaxShares) shares = kMaxShares;
    if (shares > keys / kScaleKeys) shares = keys / kScaleKeys;
    return shares < 1 ? 1 : shares;
  }
  CLARY_BOTH static constexpr Int keys_of_one(Int rows, Int key_heads, Int keys) {
    const Int shares = count(rows, key_heads, keys), even = (keys + shares - 1) / shares;
    return (even + kScaleKeys - 1) / kScaleKeys * kScaleKeys;
  }
};
CLARY_BOTH constexpr int64_t share_count(int64_t rows, int64_t key_heads, int64_t keys) {
  return Shares<>::count(rows, key_heads, keys);
}
CLARY_BOTH constexpr int64_t share_keys(int64_t rows, int64_t key_heads, int64_t keys) {
  return Shares<>::keys_of_one(rows, key_heads, keys);
}
CLARY_BOTH constexpr int64_t part_rows_bound(int64_t key_heads) { return kShareBlocks * kShareRows / key_heads; }

// Dynamic shared memory of an attention block: Q, the stages of K and V; unit and ratio of V's scale per channel; scale, frame and sum per
// row; what is the same for the block; parked O; P of all but a warp's last 16 rows (kernels/mma/mainloop.cuh, Memory).
constexpr int kAttentionFacts = 192;
CLARY_BOTH constexpr int attention_shared_bytes(int dim, int rows, int keys, int warps, int stages, int parked,
                                                int value_bytes) {
  return rows * dim + stages * keys * dim * (1 + value_bytes) + 2 * dim * 4 + 3 * rows * 4 + kAttentionFacts +
         parked * warps * 512 + (rows - 16 * warps) * keys * value_bytes;
}

// The same of a block on Hopper: two tiles of queries with 20 bytes for each row, stages of K and V, V's scales per warpgroup, facts and
// barriers (kernels/hopper/memory.cuh). Of these a quarter is used: kMagicRow is among them, which memcheck takes for the 2 to 4 KB of a
// matrix whose rows are not all the same.
constexpr int kHopperFacts = 4096;
CLARY_BOTH constexpr int hopper_shared_bytes(int dim, int rows, int stages) {
  return 2 * rows * (dim + 20) + 2 * stages * kTileKeys * dim + rows / 64 * dim * 4 + kHopperFacts;
}

}  // namespace clary::cuda
