// The loop over tiles of keys, for one warp's rows: scores, exponentials, sums; all integers exact.
//
// The arithmetic (docs/numerics.md has the bounds):
//   S = q k^T in s32, started at kMagicBits: S's bits are the float 1.5 * 2^23 + S, so nothing is converted and integer maxima work.
//   P = round(255 * 2^(score - tile maximum)): the exponent carries -24, so that rounding to f16 leaves the byte as a subnormal's bits.
//   V is stored as code + 128, so T = P v < 2^24 is non-negative and its bits are the float T * 2^-149: no conversion either.
//   O += T * 2^(tile maximum - frame). A row's frame is the maximum of an earlier tile, until one leaves f32's range; then O moves.
// 128 * sum P comes off where V's scale changes (every kScaleKeys keys), which also takes O into the new unit.
//
// With 16-bit values (kHalf) P = 2^(score - frame + kHalfLead) in f16, V in f16 too, and O is the MMA's f32 accumulator.
#pragma once
#include "../common/codes.cuh"
#include "../common/store.cuh"

namespace clary::cuda {

constexpr int kMagicBits = 0x4b400000;  // 1.5 * 2^23 as a float
constexpr float kHalfLead = 8.0f;       // of P in f16 over its frame: what is 2^-32 of the frame is still there
constexpr float kHalfReach = 7.0f;      // and a maximum further above leaves f16

template <int D, int kRows_, int kKeys_, int kWarps_, int kStages_, int kParked_, int kValueBytes_, bool kMask_>
struct Tile {
  static constexpr bool kMask = kMask_, kHalf = kValueBytes_ == 2;
  static constexpr int kDim = D, kRows = kRows_, kKeys = kKeys_, kWarps = kWarps_, kStages = kStages_;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kMmas = kRows / kWarps / 16;  // 16-row blocks of a warp, one after the other through the softmax
  static constexpr int kBlocks = kKeys / 8;          // n8 blocks of scores
  static constexpr int kFragments = kHalf ? kBlocks / 2 : kBlocks / 4;  // A fragments of P
  static constexpr int kPanel = panel_width(D);                         // bytes of a row of Q and K in shared memory
  static constexpr int kGroup = kKeys * kValueBytes_;                   // and of V
  static constexpr int kQ = kRows * D, kK = kKeys * D, kV = D * kGroup;
  static constexpr int kParked = kParked_;  // n8 blocks of a warp's last 16 rows of O that lie in shared memory
  static constexpr int kBytes = attention_shared_bytes(D, kRows, kKeys, kWarps, kStages, kParked, kValueBytes_);
  static_assert(kRows % (16 * kWarps) == 0 && kRows <= kThreads && (kKeys == 64 || kKeys == 128));
  static_assert(!kHalf || (kMmas == 1 && kKeys == 64));
  static_assert(!kMask || (kMmas == 1 && kKeys == 64));  // see Sight
  __device__ static int stage(int tile) { return kStages == 1 ? 0 : tile & 1; }
};

// What a warp keeps over the tiles in registers. A thread (g = lane / 4, t = lane % 4) has rows g and g + 8 of each 16, columns 2 t,
// 2 t + 1 of each 8.
template <class C>
struct Accumulators {
  float out[C::kMmas][C::kDim / 8][4];
  float sum[C::kMmas][2];  // of P since V's last scale, this thread's columns
};

// Where a block's tiles are.
struct Origin {
  int k_first, v_first;  // the sequence's first row among K's of all heads and panels, and among V's of all heads
  int v_block;           // its first block of V scales
  int begin, end;        // tiles of the block
};

constexpr int kScaleTiles = kScaleKeys / kTileKeys;

// What it keeps in shared memory, because registers are what the loop is short of: all that is touched once a tile or less.
struct Facts {
  uint64_t full[2];  // barriers of bulk copies, per stage
  Work work;
  Origin from;
  int plain[4], plain_end[4];  // tiles that a warp's rows see whole
  float k_scale
      [2 * kScaleTiles];  // of 128 keys each, of this block of V's scale and of the next: key / 128 modulo their number
};
static_assert(sizeof(Facts) <= kAttentionFacts);
template <class C>
struct Memory {
  static constexpr int kTiles = C::kQ + C::kStages * (C::kK + C::kV);
  uint8_t* base;
  __device__ Shared q() const { return shared_address(base); }
  __device__ Shared k(int stage) const { return shared_address(base) + C::kQ + stage * C::kK; }
  __device__ Shared v(int stage) const { return shared_address(base) + C::kQ + C::kStages * C::kK + stage * C::kV; }
  __device__ float* unit() const { return reinterpret_cast<float*>(base + kTiles); }  // [kDim] of V's codes in O
  __device__ float* ratio() const { return unit() + C::kDim; }                        // [kDim] the last over it
  __device__ float* scale() const { return unit() + 2 * C::kDim; }                    // [kRows] of q
  __device__ float* frame() const { return unit() + 2 * C::kDim + C::kRows; }         // [kRows]
  __device__ float* total() const {
    return unit() + 2 * C::kDim + 2 * C::kRows;
  }  // [kRows] sum of P before V's last scale
  __device__ Facts& facts() const { return *reinterpret_cast<Facts*>(unit() + 2 * C::kDim + 3 * C::kRows); }
  // Where these are is worked out anew at each use: kept over the loop, addresses spill.
  __device__ static int thread() { return opaque(static_cast<int>(threadIdx.x)); }
  // Four words of this thread's: first parked O, then P.
  __device__ Shared parked(int i) const {
    return shared_address(&facts()) + kAttentionFacts + (i * C::kThreads + thread()) * 16;
  }
  __device__ Shared stash(int i) const { return parked(C::kParked + i); }
  // The thread's row g + 8 r of block m, within the block's.
  __device__ static int row(int m, int r) {
    const int own = static_cast<int>(threadIdx.x);
    return ((own >> 5) * C::kMmas + m) * 16 + (own >> 2 & 7) + 8 * r;
  }
};

// f(block i of 8 channels of O's 16-row block m), wherever it lies. Parked blocks are spread, because the compiler moves no load of V up past
// their stores: it would take more of them than registers hold.
template <class C, class F>
__device__ __forceinline__ void with_out(const Memory<C>& memory, Accumulators<C>& o, int m, int i, F f) {
  constexpr int kStep = C::kParked ? C::kDim / 8 / C::kParked : C::kDim;
  static_assert(C::kDim / 8 / kStep == C::kParked);
  if (m + 1 == C::kMmas && i % kStep == kStep - 1) {
    const Shared place = memory.parked(i / kStep);
    uint32_t x[4];
    get4(place, x);
    float out[4] = {__uint_as_float(x[0]), __uint_as_float(x[1]), __uint_as_float(x[2]), __uint_as_float(x[3])};
    f(out);
    put4(place, {__float_as_uint(out[0]), __float_as_uint(out[1]), __float_as_uint(out[2]), __float_as_uint(out[3])});
  } else {
    f(o.out[m][i]);
  }
}

// s = q k^T of 16 rows: k steps outermost, so that all n8 blocks are in flight and q needs four registers.
template <class C>
__device__ __forceinline__ void multiply_scores(int (&s)[C::kBlocks][4], Shared q, Shared k) {
#pragma unroll
  for (int step = 0; step < C::kDim / 32; step++) {
    constexpr int kSteps = C::kPanel / 32;
    const int panel = step / kSteps, chunk = step % kSteps * 32;
    uint32_t a[4];
    load_matrices(a, (q ^ chunk) + panel * C::kRows * C::kPanel);
#pragma unroll
    for (int j = 0; j < C::kBlocks; j += 2) {
      uint32_t b[4];
      load_matrices(b, (k ^ chunk) + (panel * C::kKeys + j * 8) * C::kPanel);
#pragma unroll
      for (int e = 0; e < 2; e++) {
        int (&d)[4] = s[j + e];
        if (step == 0) {
          mma_s8(d, a, b[2 * e], b[2 * e + 1], kMagicBits, kMagicBits, kMagicBits, kMagicBits);
        } else {
          mma_s8(d, a, b[2 * e], b[2 * e + 1], d[0], d[1], d[2], d[3]);
        }
      }
    }
  }
}

// The largest scores of rows g and g + 8, as S's bits.
template <class C>
__device__ __forceinline__ void largest_scores(const int (&s)[C::kBlocks][4], int (&most)[2]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int m[2];
#pragma unroll
    for (int j = 0; j < C::kBlocks; j++) {
      const int pair = max(s[j][2 * r], s[j][2 * r + 1]);
      m[j & 1] = j < 2 ? pair : max(max(m[j & 1], s[j][2 * r]), s[j][2 * r + 1]);
    }
    most[r] = max(m[0], m[1]);
  }
#pragma unroll
  for (int lanes = 1; lanes <= 2; lanes *= 2)
#pragma unroll
    for (int r = 0; r < 2; r++) most[r] = max(most[r], __shfl_xor_sync(~0u, most[r], lanes));
}

// Scores that all rows see, in units small enough for one FMA each. maxima: what the codes are relative to.
template <class C>
__device__ __forceinline__ void exponentials(const int (&s)[C::kBlocks][4], const float (&unit)[2],
                                             uint32_t (&p)[C::kFragments][4], uint32_t (&codes)[2],
                                             float (&maxima)[2]) {
  float offset[2];
  int most[2];
  largest_scores<C>(s, most);
#pragma unroll
  for (int r = 0; r < 2; r++) {
    offset[r] = magic_offset(most[r], unit[r]);
    maxima[r] = kOffset - fmaf(kMagic, unit[r], offset[r]);
  }
  const auto code = [&](int j, int e) { return exp2_fast(fmaf(__int_as_float(s[j][e]), unit[e / 2], offset[e / 2])); };
#pragma unroll
  for (int i = 0; i < C::kBlocks; i++) {  // with one block of rows row g, then row g + 8; with two both at once
    const int j = C::kMmas == 1 ? i % (C::kBlocks / 2) * 2 : i / 2 * 2,
              r = C::kMmas == 1 ? i / (C::kBlocks / 2) : i % 2;
    p[j / 4][j / 2 % 2 * 2 + r] =
        pack_codes(code(j, 2 * r), code(j, 2 * r + 1), code(j + 1, 2 * r), code(j + 1, 2 * r + 1), codes[r]);
  }
}

// The codes of scores whose exponents are exponent(j, e), e = 0, 1 of row g, 2, 3 of row g + 8, as A fragments; `sum` gets what they sum to.
template <class C, class Exponent>
__device__ __forceinline__ void half_codes(uint32_t (&p)[C::kFragments][4], float (&sum)[2], Exponent exponent) {
#pragma unroll
  for (int j = 0; j < C::kBlocks; j++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float x = exp2_fast(exponent(j, 2 * r)), y = exp2_fast(exponent(j, 2 * r + 1));
      sum[r] += x + y;
      p[j / 2][j % 2 * 2 + r] = pack_f16(x, y);
    }
}

// What a warp's 16 rows see of a tile of 64 keys through the mask.
struct Sight {
  bool hidden, open;  // nothing, everything; of a mask that can be read 16 bytes at a time
  uint32_t bits;      // bool: keys 32 (lane / 16) .. + 31 of row lane % 16; else all
};
__device__ __forceinline__ const char* mask_row(const AttentionArgs& a, const Work& w, int row) {
  const int head = head_of_row(a, w.sequence, row);
  return a.mask + w.sequence.index * a.mask_batch + (w.key_head * a.group + head) * a.mask_head +
         (row - head * w.sequence.queries) * a.mask_query;
}
__device__ __forceinline__ int mask_size(int kind) { return kind == kMaskBool ? 1 : kind == kMaskF32 ? 4 : 2; }
template <class C>
__device__ __forceinline__ bool mask_in_chunks(const AttentionArgs& a, int tile) {
  return a.mask_access == kChunks && (tile + 1) * C::kKeys <= a.keys;
}
// A bool mask's 32 bytes of this lane's row and keys, if it can be read so; asked for before the tile's other bytes are waited for.
struct Glance {
  Word4 chunks[2];
};
template <class C>
__device__ __forceinline__ const char* sight_of(const AttentionArgs& a, const Work& w, int tile, int row) {
  return mask_row(a, w, row) + static_cast<int64_t>(tile * C::kKeys + (lane() >> 4) * 32) * mask_size(a.mask_kind);
}
template <class C>
__device__ __forceinline__ Glance glance(const AttentionArgs& a, const Work& w, int tile) {
  const int row = w.row + warp() * 16 + (lane() & 15);
  if (a.mask_kind != kMaskBool || !mask_in_chunks<C>(a, tile) || row >= w.rows) return {};
  const Word4* chunks = reinterpret_cast<const Word4*>(sight_of<C>(a, w, tile, row));
  return {{chunks[0], chunks[1]}};
}
template <class C>
__device__ __forceinline__ Sight look(const AttentionArgs& a, const Work& w, int tile, const Glance& seen) {
  const int kind = a.mask_kind;
  if (kind == kMaskNone) return {false, true, ~0u};
  if (!mask_in_chunks<C>(a, tile)) return {false, false, ~0u};
  const int row = w.row + warp() * 16 + (lane() & 15), size = mask_size(kind);
  Sight s = {true, true, ~0u};
  if (row < w.rows) {
    const char* p = sight_of<C>(a, w, tile, row);
    if (mask_in_chunks<C>(a, tile + 1)) prefetch(p + C::kKeys * size);
    if (kind == kMaskBool) {
      const Word4 x = seen.chunks[0], y = seen.chunks[1];
      const uint32_t words[8] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
      s.bits = 0;
#pragma unroll
      for (int i = 0; i < 8; i++) s.bits |= true_bytes(words[i]) << 4 * i;
      s.hidden = s.bits == 0;
      s.open = s.bits == ~0u;
    } else {
      const Word4* chunks = reinterpret_cast<const Word4*>(p);
      const uint32_t hides = kind == kMaskF16 ? 0xfc00fc00u : kind == kMaskBf16 ? 0xff80ff80u : 0xff800000u;
      const uint32_t sign = kind == kMaskF32 ? 0x80000000u : 0x80008000u;
      uint32_t other = 0, any = 0;
#pragma unroll 1
      for (int i = 0; i < 2 * size; i += 4)
#pragma unroll
        for (int c = 0; c < 4; c++) {
          const Word4 x = chunks[i + c];
          other |= (x.x ^ hides) | (x.y ^ hides) | (x.z ^ hides) | (x.w ^ hides);
          any |= x.x | x.y | x.z | x.w;
        }
      s.hidden = other == 0;
      s.open = (any & ~sign) == 0;
    }
  }
  s.hidden = __all_sync(~0u, s.hidden);
  s.open = __all_sync(~0u, s.open);
  return s;
}

__device__ __forceinline__ float widen_mask(uint16_t bits, int kind) {
  return kind == kMaskF16 ? unpack_f16(bits) : __uint_as_float(static_cast<uint32_t>(bits) << 16);
}
// A mask's element as what is added to the score in log2 units, -infinity where it hides. Finite stays finite.
__device__ __forceinline__ float mask_bias(float x) {
  const float y = x * 1.44269504f;
  return fabsf(x) < kInfinity && !(fabsf(y) < 1e38f) ? copysignf(1e38f, x) : y;
}

// Of the thread's keys of one row, from p on; words: which it sees. in_chunks: two side by side at a time, all of them; else only what is seen.
template <class C>
__device__ __forceinline__ void load_biases(const AttentionArgs& a, const char* p, bool in_chunks,
                                            const uint32_t (&words)[C::kKeys / 32], float (&bias)[C::kBlocks][2]) {
  const int kind = a.mask_kind;
  if (in_chunks && kind == kMaskF32) {
#pragma unroll
    for (int j = 0; j < C::kBlocks; j++) {
      const uint64_t x = *reinterpret_cast<const uint64_t*>(p + 32 * j);
      bias[j][0] = __uint_as_float(static_cast<uint32_t>(x));
      bias[j][1] = __uint_as_float(static_cast<uint32_t>(x >> 32));
    }
  } else if (in_chunks) {
    uint32_t x[C::kBlocks];
#pragma unroll
    for (int j = 0; j < C::kBlocks; j++) x[j] = *reinterpret_cast<const uint32_t*>(p + 16 * j);
#pragma unroll
    for (int j = 0; j < C::kBlocks; j++) {
      bias[j][0] = widen_mask(static_cast<uint16_t>(x[j]), kind);
      bias[j][1] = widen_mask(static_cast<uint16_t>(x[j] >> 16), kind);
    }
  } else {
#pragma unroll
    for (int j = 0; j < C::kBlocks; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        bias[j][e] = 0;
        if (!(words[j / 4] >> (j % 4 * 8 + e) & 1)) continue;
        const char* q = p + (8 * j + e) * a.mask_key;
        bias[j][e] = kind == kMaskBool  ? (*q ? 0.0f : -kInfinity)
                     : kind == kMaskF32 ? *reinterpret_cast<const float*>(q)
                                        : widen_mask(*reinterpret_cast<const uint16_t*>(q), kind);
      }
  }
}

// Bits i with first <= i < end of 32.
__device__ __forceinline__ uint32_t bits_between(int first, int end) {
  const uint32_t below = end <= 0 ? 0 : end >= 32 ? ~0u : (1u << end) - 1;
  const uint32_t out = first <= 0 ? 0 : first >= 32 ? ~0u : (1u << first) - 1;
  return below & ~out;
}

// Any scores: rows that see only some keys, units of any size, and if C::kMask a mask. s becomes a float: in units of S, or if a bias is added,
// in log2 units, with unit = 1; what is not seen is -infinity. most: of s; maxima: of the scores. A row that sees no key gets -infinity,
// and codes that do not matter.
template <class C>
__device__ __forceinline__ void mask_scores(const AttentionArgs& a, const Work& w, int tile, int row_in_block,
                                            bool inside, uint32_t bits, int (&s)[C::kBlocks][4], float (&unit)[2],
                                            float (&most)[2], float (&maxima)[2]) {
  const bool in_chunks = C::kMask && mask_in_chunks<C>(a, tile);
  const bool biased = C::kMask && a.mask_kind != kMaskNone && !(in_chunks && a.mask_kind == kMaskBool);
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int own = min(w.row + row_in_block + 8 * r, w.rows - 1);
    const int column = (lane() & 3) * 2, first = tile * C::kKeys;
    uint32_t words[C::kKeys / 32];  // of the keys seen, the thread's own first
#pragma unroll
    for (int i = 0; i < C::kKeys / 32; i++) words[i] = ~0u;
    if (!C::kMask || !inside) {
      const Keys keys = keys_of(a, w.sequence, own - head_of_row(a, w.sequence, own) * w.sequence.queries);
#pragma unroll
      for (int i = 0; i < C::kKeys / 32; i++)
        words[i] = bits_between(keys.first - first - 32 * i, keys.end - first - 32 * i);
    }
#pragma unroll
    for (int i = 0; i < C::kKeys / 32; i++) {
      if constexpr (C::kMask) words[i] &= __shfl_sync(~0u, bits, (lane() >> 2) + 8 * r + 16 * i);
      words[i] >>= column;
    }
    const auto seen = [&](int j, int e) { return (words[j / 4] >> (j % 4 * 8 + e) & 1) != 0; };
    const float scale = unit[r] < kLeastScale ? kLeastScale : unit[r];  // -infinity times it is no NaN
    most[r] = -kInfinity;
    if (biased) {
      float bias[C::kBlocks][2];
      load_biases<C>(a, mask_row(a, w, own) + (first + column) * a.mask_key, in_chunks, words, bias);
#pragma unroll
      for (int j = 0; j < C::kBlocks; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const float x = (__int_as_float(s[j][2 * r + e]) - kMagic) * scale + mask_bias(bias[j][e]);
          const float y =
              seen(j, e) && bias[j][e] != -kInfinity ? x : -kInfinity;  // what is hidden stays so beside a NaN
          most[r] = max_or_nan(most[r], y);
          s[j][2 * r + e] = __float_as_int(y);
        }
    } else {
#pragma unroll
      for (int j = 0; j < C::kBlocks; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const float x = seen(j, e) ? __int_as_float(s[j][2 * r + e]) : -kInfinity;
          most[r] = fmaxf(most[r], x);
          s[j][2 * r + e] = __float_as_int(x);
        }
    }
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) most[r] = max_or_nan(most[r], __shfl_xor_sync(~0u, most[r], lanes));
    unit[r] = biased ? 1.0f : scale;
    maxima[r] = biased || most[r] == -kInfinity ? most[r] : (most[r] - kMagic) * scale;
  }
}
template <class C>
__device__ __forceinline__ void masked_exponentials(const int (&s)[C::kBlocks][4], const float (&unit)[2],
                                                    const float (&most)[2], uint32_t (&p)[C::kFragments][4],
                                                    uint32_t (&codes)[2]) {
  const auto code = [&](int j, int e) {
    return exp2_fast(fmaf(__int_as_float(s[j][e]) - most[e / 2], unit[e / 2], kOffset));
  };
#pragma unroll
  for (int i = 0; i < C::kBlocks; i++) {
    const int j = i / 2 * 2, r = i % 2;
    p[j / 4][j / 2 % 2 * 2 + r] =
        pack_codes(code(j, 2 * r), code(j, 2 * r + 1), code(j + 1, 2 * r), code(j + 1, 2 * r + 1), codes[r]);
  }
}

// Takes rows whose maximum is out of their frame's reach to a new one. ahead: maximum - frame. The branch also ends a basic block, which keeps
// the compiler from starting the next scores before these exponentials are packed.
template <class C>
__device__ __forceinline__ void enter_frame(const Memory<C>& memory, Accumulators<C>& o, int m,
                                            const float (&maxima)[2], float (&ahead)[2]) {
  constexpr float kReach = C::kHalf ? kHalfReach : kFrameReach;
#pragma unroll
  for (int r = 0; r < 2; r++) ahead[r] = maxima[r] - memory.frame()[Memory<C>::row(m, r)];
  if (__any_sync(~0u, ahead[0] > kReach || ahead[1] > kReach)) {
    __syncwarp();  // the four lanes of a row have read its frame
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (!(ahead[r] > kReach)) continue;
      const int row = Memory<C>::row(m, r);
      const float shrink = exp2_fast(-ahead[r]);
      ahead[r] = 0;
      o.sum[m][r] *= shrink;
      if ((lane() & 3) == 0) {
        memory.frame()[row] = maxima[r];
        memory.total()[row] *= shrink;
      }
#pragma unroll
      for (int i = 0; i < C::kDim / 8; i++)
        with_out<C>(memory, o, m, i, [&](float (&out)[4]) {
          out[2 * r] *= shrink;
          out[2 * r + 1] *= shrink;
        });
    }
    __syncwarp();
  }
}

// out += factor * (p v), n8 blocks of channels four at a time, so that T is 16 registers per block of rows.
template <class C>
__device__ __forceinline__ void add_values(const Memory<C>& memory, Accumulators<C>& o,
                                           const uint32_t (&p)[C::kMmas][C::kFragments][4],
                                           const float (&factor)[C::kMmas][2], Shared v) {
  constexpr int kAtOnce = C::kMmas == 2 || (C::kDim == 256 && kHasBlackwellMma) ? 2 : 4;  // what leaves no spill
#pragma unroll
  for (int i = 0; i < C::kDim / 8; i += kAtOnce) {
    int t[C::kMmas][kAtOnce][4];
    if constexpr (C::kDim > 64)
      __syncwarp();  // keeps the compiler from loading the next channels' V early, which spills
#pragma unroll
    for (int half = 0; half < C::kKeys / 64; half++) {
      uint32_t b[kAtOnce][4];
#pragma unroll
      for (int n = 0; n < kAtOnce; n++) load_matrices(b[n], (v ^ (half * 64)) + (i + n) * 8 * C::kGroup);
#pragma unroll
      for (int e = 0; e < 2; e++)
#pragma unroll
        for (int n = 0; n < kAtOnce; n++)
#pragma unroll
          for (int m = 0; m < C::kMmas; m++) {
            int (&d)[4] = t[m][n];
            if (half == 0 && e == 0) {
              mma_u8(d, p[m][0], b[n][0], b[n][1], 0, 0, 0, 0);
            } else {
              mma_u8(d, p[m][2 * half + e], b[n][2 * e], b[n][2 * e + 1], d[0], d[1], d[2], d[3]);
            }
          }
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; n++)
#pragma unroll
      for (int m = 0; m < C::kMmas; m++)
        with_out<C>(memory, o, m, i + n, [&](float (&out)[4]) {
#pragma unroll
          for (int e = 0; e < 4; e++) out[e] = fmaf(__int_as_float(t[m][n][e]), factor[m][e / 2], out[e]);
        });
  }
}

// out += p v in f16.
template <class C>
__device__ __forceinline__ void add_half_values(const Memory<C>& memory, Accumulators<C>& o,
                                                const uint32_t (&p)[C::kMmas][C::kFragments][4], Shared v) {
#pragma unroll
  for (int i = 0; i < C::kDim / 8; i++) {
    if constexpr (C::kDim > 64)
      if (i % 4 == 0) __syncwarp();  // as above
    with_out<C>(memory, o, 0, i, [&](float (&out)[4]) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        uint32_t b[4];
        load_matrices(b, (v ^ (half * 64)) + i * 8 * C::kGroup);
        mma_f16(out, p[0][2 * half], {b[0], b[1]});
        mma_f16(out, p[0][2 * half + 1], {b[2], b[3]});
      }
    });
  }
}

// Takes 128 * sum P off and O to the next unit of V.
template <class C>
__device__ __forceinline__ void close_block(const Memory<C>& memory, Accumulators<C>& o) {
  float excess[C::kMmas][2] = {};
#pragma unroll
  for (int m = 0; m < C::kMmas; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if constexpr (C::kHalf) break;  // codes are signed: the sum runs on
      const float sum = sum_of_row(o.sum[m][r]);
      if ((lane() & 3) == 0) memory.total()[Memory<C>::row(m, r)] += sum;
      o.sum[m][r] = 0;
      excess[m][r] = sum * 128.0f;
    }
#pragma unroll
  for (int i = 0; i < C::kDim / 8; i++) {
    const float* ratio = memory.ratio() + i * 8 + (lane() & 3) * 2;
#pragma unroll
    for (int m = 0; m < C::kMmas; m++)
      with_out<C>(memory, o, m, i, [&](float (&out)[4]) {
#pragma unroll
        for (int e = 0; e < 4; e++) out[e] = (out[e] - excess[m][e / 2]) * ratio[e % 2];
      });
  }
}

// Codes of P for one tile of keys and a warp's rows, and the factors they come with. kMasked: not all rows see all keys; `bits`: of Sight.
// q_scale: of the first two of the thread's rows.
template <class C, bool kMasked>
__device__ __forceinline__ void take_scores(const AttentionArgs& a, const Memory<C>& memory, int tile, bool inside,
                                            uint32_t bits, float k_scale, const float (&q_scale)[2], Accumulators<C>& o,
                                            Shared q, Shared k, uint32_t (&p)[C::kMmas][C::kFragments][4],
                                            float (&factor)[C::kMmas][2]) {
#pragma unroll
  for (int m = 0; m < C::kMmas; m++) {
    int s[C::kBlocks][4];
    multiply_scores<C>(s, q + m * 16 * C::kPanel, k);
    float unit[2], most[2], maxima[2], ahead[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      unit[r] = (m == 0 ? q_scale[r] : memory.scale()[Memory<C>::row(m, r)]) * k_scale;
      unit[r] = unit[r] > kMostScale ? kMostScale : unit[r];  // NaN stays
    }
    if constexpr (kMasked)
      mask_scores<C>(a, memory.facts().work, tile, Memory<C>::row(m, 0), inside, bits, s, unit, most, maxima);
    if constexpr (C::kHalf) {
      int largest[2];
      if constexpr (!kMasked) largest_scores<C>(s, largest);
#pragma unroll
      for (int r = 0; r < 2; r++) {
        if constexpr (!kMasked) {
          most[r] = __int_as_float(largest[r]);
          maxima[r] = (most[r] - kMagic) * unit[r];
        }
        if (most[r] == -kInfinity) most[r] = 0;  // no key is seen: all scores are -infinity
      }
      enter_frame<C>(memory, o, m, maxima, ahead);
      half_codes<C>(p[m], o.sum[m], [&](int j, int e) {
        return fmaf(__int_as_float(s[j][e]) - most[e / 2], unit[e / 2], ahead[e / 2] + kHalfLead);
      });
    } else {
      uint32_t codes[2] = {0, 0};
      if constexpr (kMasked) {
        masked_exponentials<C>(s, unit, most, p[m], codes);
      } else {
        exponentials<C>(s, unit, p[m], codes, maxima);
      }
      enter_frame<C>(memory, o, m, maxima, ahead);
#pragma unroll
      for (int r = 0; r < 2; r++) {  // 2^(maximum - frame + kFrameLead)
        factor[m][r] = exp2_fast(ahead[r] + kFrameLead);
        o.sum[m][r] = fmaf(__int_as_float((codes[r] & 0xffff) + (codes[r] >> 16)), factor[m][r], o.sum[m][r]);
      }
      if (m + 1 < C::kMmas) {  // out of the way of the next rows' scores
#pragma unroll
        for (int i = 0; i < C::kFragments; i++) put4(memory.stash(m * C::kFragments + i), p[m][i]);
      }
    }
  }
}

// And what is put aside of them, back.
template <class C>
__device__ __forceinline__ void recall_codes(const Memory<C>& memory, uint32_t (&p)[C::kMmas][C::kFragments][4]) {
#pragma unroll
  for (int i = 0; i < (C::kMmas - 1) * C::kFragments; i++)
    get4(memory.stash(i), p[i / C::kFragments][i % C::kFragments]);
}

}  // namespace clary::cuda
