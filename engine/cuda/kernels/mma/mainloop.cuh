// The loop over tiles of keys, for one warp's rows: scores, exponentials, sums; all integers exact.
//
// The arithmetic (docs/numerics.md has the bounds):
//   S = q k^T in s32, started at kMagicBits: S's bits are the float 1.5 * 2^23 + S, so nothing is converted and integer maxima work.
//   P = round(255 * 2^(score - tile maximum)): the exponent carries -24, so that rounding to f16 leaves the byte as a subnormal's bits.
//   V is stored as code + 128, so T = P v < 2^24 is non-negative and its bits are the float T * 2^-149: no conversion either.
//   O += T * 2^(tile maximum - frame). A row's frame is the maximum of an earlier tile, until one leaves f32's range; then O moves.
// 128 * sum P comes off where V's scale changes (every kScaleKeys keys), which also takes O into the new unit.
#pragma once
#include "../common/codes.cuh"
#include "../common/store.cuh"

namespace clary::cuda {

constexpr int kMagicBits = 0x4b400000;  // 1.5 * 2^23 as a float

template <int D, int kRows_, int kKeys_, int kWarps_, bool kMask_>
struct Tile {
  static constexpr bool kMask = kMask_;
  static constexpr int kDim = D, kRows = kRows_, kKeys = kKeys_, kWarps = kWarps_;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kMmas = kRows / kWarps / 16;  // 16-row blocks of a warp, one after the other through the softmax
  static constexpr int kBlocks = kKeys / 8;          // n8 blocks of scores
  static constexpr int kPanel = panel_width(D);      // bytes of a row of Q and K in shared memory
  static constexpr int kGroup = kKeys;               // and of V
  static constexpr int kQ = kRows * D, kK = kKeys * D, kV = kKeys * D;
  static constexpr int kBytes = attention_shared_bytes(D, kRows, kKeys, kWarps, 1);
  static_assert(kRows % (16 * kWarps) == 0 && (kKeys == 64 || kKeys == 128));
};

// What a warp keeps over the tiles in registers. A thread (g = lane / 4, t = lane % 4) has rows g and g + 8 of each 16, columns 2 t,
// 2 t + 1 of each 8.
template <class C>
struct Accumulators {
  float out[C::kMmas][C::kDim / 8][4];
  float sum[C::kMmas][2];  // of P since V's last scale, this thread's columns
};

// What it keeps in shared memory, because registers are what the loop is short of: all that is touched once a tile or less.
struct Facts {
  uint64_t full[2];  // barriers of bulk copies, per stage
  Work work;
  int k_first, v_first;        // the sequence's first row among K's of all heads and panels, and among V's of all heads
  int v_block;                 // its first block of V scales
  int begin, end;              // tiles of the block
  int plain[4], plain_end[4];  // tiles that a warp's rows see whole
  float k_scale[2];            // of the tile in each stage
};
static_assert(sizeof(Facts) <= kAttentionFacts);
template <class C>
struct Memory {
  static constexpr int kTiles = C::kQ + 2 * (C::kK + C::kV);
  uint8_t* base;
  __device__ Shared q() const { return shared_address(base); }
  __device__ Shared k(int stage) const { return shared_address(base) + C::kQ + stage * C::kK; }
  __device__ Shared v(int stage) const { return shared_address(base) + C::kQ + 2 * C::kK + stage * C::kV; }
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
  // Words 4 i .. of this thread's P.
  __device__ Shared stash(int i) const {
    return shared_address(&facts()) + kAttentionFacts + (i * C::kThreads + thread()) * 16;
  }
  // The thread's row g + 8 r of block m, within the block's.
  __device__ static int row(int m, int r) {
    const int own = static_cast<int>(threadIdx.x);
    return ((own >> 5) * C::kMmas + m) * 16 + (own >> 2 & 7) + 8 * r;
  }
};

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

// Scores that all rows see, in units small enough for one FMA each. maxima: what the codes are relative to.
template <class C>
__device__ __forceinline__ void exponentials(const int (&s)[C::kBlocks][4], const float (&unit)[2],
                                             uint32_t (&p)[C::kBlocks / 4][4], uint32_t (&codes)[2],
                                             float (&maxima)[2]) {
  float offset[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int m[2];
#pragma unroll
    for (int j = 0; j < C::kBlocks; j++) {
      const int pair = max(s[j][2 * r], s[j][2 * r + 1]);
      m[j & 1] = j < 2 ? pair : max(max(m[j & 1], s[j][2 * r]), s[j][2 * r + 1]);
    }
    int most = max(m[0], m[1]);
    most = max(most, __shfl_xor_sync(~0u, most, 1));
    most = max(most, __shfl_xor_sync(~0u, most, 2));
    // offset = kOffset - (1.5 * 2^23 + most) * unit, rounded down twice, so that no code exceeds 255; then what that really is
    const float below = fma_down(kMagic - __int_as_float(most), unit[r], kOffset);
    offset[r] = fma_down(-kMagic, unit[r], below);
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

// A mask's element as what is added to the score in log2 units, -infinity where it hides. Finite stays finite.
__device__ __forceinline__ float mask_value(const char* p, int kind) {
  if (kind == kMaskBool) return *p ? 0.0f : -kInfinity;
  float x;
  if (kind == kMaskF32) {
    x = *reinterpret_cast<const float*>(p);
  } else {
    const uint16_t bits = *reinterpret_cast<const uint16_t*>(p);
    x = kind == kMaskF16 ? unpack_f16(bits) : __uint_as_float(static_cast<uint32_t>(bits) << 16);
  }
  const float y = x * 1.44269504f;
  return fabsf(x) < kInfinity && !(fabsf(y) < 1e38f) ? copysignf(1e38f, x) : y;
}

// The same for any scores: rows that see only some keys, units of any size, and if kMask a mask. A row that sees no key gets maximum
// -infinity and codes that do not matter.
template <class C, bool kMask>
__device__ __forceinline__ void masked_exponentials(const AttentionArgs& a, const Work& w, int tile, int row_in_block,
                                                    int (&s)[C::kBlocks][4], float (&unit)[2],
                                                    uint32_t (&p)[C::kBlocks / 4][4], uint32_t (&codes)[2],
                                                    float (&maxima)[2]) {
  float most[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int own = w.row + row_in_block + 8 * r, head = own / w.sequence.queries,
              query = own - head * w.sequence.queries;
    const Keys keys = keys_of(a, w.sequence, query);
    const int column = tile * C::kKeys + (lane() & 3) * 2, from = column - keys.first;
    const unsigned count = own < w.rows && keys.first < keys.end ? keys.end - keys.first : 0;
    const char* mask = a.mask + w.sequence.index * a.mask_batch + (w.key_head * a.group + head) * a.mask_head +
                       query * a.mask_query + column * a.mask_key;
    const float scale = unit[r] < kLeastScale ? kLeastScale : unit[r];  // -infinity times it is no NaN
    most[r] = -kInfinity;
#pragma unroll
    for (int j = 0; j < C::kBlocks; j++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const bool seen = static_cast<unsigned>(from + 8 * j + e) < count;
        float x = seen ? __int_as_float(s[j][2 * r + e]) : -kInfinity;
        if constexpr (kMask) {  // from here on in log2 units
          x = (x - kMagic) * scale;
          float bias = seen ? 0.0f : -kInfinity;
          if (seen && a.mask_kind != kMaskNone) bias = mask_value(mask + e * a.mask_key, a.mask_kind);
          x = bias == -kInfinity ? bias : x + bias;  // what is hidden stays so beside a NaN
          most[r] = max_or_nan(most[r], x);
        } else {
          most[r] = fmaxf(most[r], x);
        }
        s[j][2 * r + e] = __float_as_int(x);
      }
      if constexpr (kMask) mask += 8 * a.mask_key;
    }
#pragma unroll
    for (int lanes = 1; lanes <= 2; lanes *= 2) most[r] = max_or_nan(most[r], __shfl_xor_sync(~0u, most[r], lanes));
    unit[r] = kMask ? 1.0f : scale;
    maxima[r] = kMask || most[r] == -kInfinity ? most[r] : (most[r] - kMagic) * scale;
  }
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

// Takes rows whose maximum is out of their frame's reach to a new one, and adds the tile's sums. factor: 2^(maximum - frame + kFrameLead). The
// branch also ends a basic block, which keeps the compiler from starting the next scores before these exponentials are packed.
template <class C>
__device__ __forceinline__ void enter_frame(const Memory<C>& memory, Accumulators<C>& o, int m,
                                            const uint32_t (&codes)[2], const float (&maxima)[2], float (&factor)[2]) {
  float ahead[2];
#pragma unroll
  for (int r = 0; r < 2; r++) ahead[r] = maxima[r] - memory.frame()[Memory<C>::row(m, r)];
  if (__any_sync(~0u, ahead[0] > kFrameReach || ahead[1] > kFrameReach)) {
    __syncwarp();  // the four lanes of a row have read its frame
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (!(ahead[r] > kFrameReach)) continue;
      const int row = Memory<C>::row(m, r);
      const float shrink = exp2_fast(-ahead[r]);
      ahead[r] = 0;
      o.sum[m][r] *= shrink;
      if ((lane() & 3) == 0) {
        memory.frame()[row] = maxima[r];
        memory.total()[row] *= shrink;
      }
#pragma unroll
      for (int i = 0; i < C::kDim / 8; i++) {
        o.out[m][i][2 * r] *= shrink;
        o.out[m][i][2 * r + 1] *= shrink;
      }
    }
    __syncwarp();
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    factor[r] = exp2_fast(ahead[r] + kFrameLead);
    o.sum[m][r] = fmaf(__int_as_float((codes[r] & 0xffff) + (codes[r] >> 16)), factor[r], o.sum[m][r]);
  }
}

// out += factor * (p v), n8 blocks of channels four at a time, so that T is 16 registers per block of rows.
template <class C>
__device__ __forceinline__ void add_values(Accumulators<C>& o, const uint32_t (&p)[C::kMmas][C::kBlocks / 4][4],
                                           const float (&factor)[C::kMmas][2], Shared v) {
  constexpr int kAtOnce = C::kMmas == 2 ? 2 : 4;  // what leaves no spill
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
#pragma unroll
        for (int e = 0; e < 4; e++)
          o.out[m][i + n][e] = fmaf(__int_as_float(t[m][n][e]), factor[m][e / 2], o.out[m][i + n][e]);
  }
}

// Takes 128 * sum P off and O to the next unit of V.
template <class C>
__device__ __forceinline__ void close_block(const Memory<C>& memory, Accumulators<C>& o) {
  float excess[C::kMmas][2];
#pragma unroll
  for (int m = 0; m < C::kMmas; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float sum = sum_of_row(o.sum[m][r]);
      if ((lane() & 3) == 0) memory.total()[Memory<C>::row(m, r)] += sum;
      o.sum[m][r] = 0;
      excess[m][r] = sum * 128.0f;
    }
#pragma unroll
  for (int i = 0; i < C::kDim / 8; i++) {
    const float* ratio = memory.ratio() + i * 8 + (lane() & 3) * 2;
#pragma unroll
    for (int e = 0; e < 2; e++)
#pragma unroll
      for (int m = 0; m < C::kMmas; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) o.out[m][i][2 * r + e] = (o.out[m][i][2 * r + e] - excess[m][r]) * ratio[e];
  }
}

// Codes of P for one tile of keys and a warp's rows, and the factors they come with.
template <class C, bool kMasked>
__device__ __forceinline__ void take_scores(const AttentionArgs& a, const Memory<C>& memory, int tile,
                                            Accumulators<C>& o, Shared q, Shared k,
                                            uint32_t (&p)[C::kMmas][C::kBlocks / 4][4], float (&factor)[C::kMmas][2]) {
  const float k_scale = memory.facts().k_scale[tile & 1];
#pragma unroll
  for (int m = 0; m < C::kMmas; m++) {
    int s[C::kBlocks][4];
    multiply_scores<C>(s, q + m * 16 * C::kPanel, k);
    float unit[2], maxima[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      unit[r] = memory.scale()[Memory<C>::row(m, r)] * k_scale;
      unit[r] = unit[r] > kMostScale ? kMostScale : unit[r];  // NaN stays
    }
    uint32_t codes[2] = {0, 0};
    if constexpr (kMasked) {
      masked_exponentials<C, C::kMask>(a, memory.facts().work, tile, Memory<C>::row(m, 0), s, unit, p[m], codes,
                                       maxima);
    } else {
      exponentials<C>(s, unit, p[m], codes, maxima);
    }
    enter_frame<C>(memory, o, m, codes, maxima, factor[m]);
    if (m + 1 < C::kMmas) {  // out of the way of the next rows' scores
#pragma unroll
      for (int i = 0; i < C::kBlocks / 4; i++) put4(memory.stash(m * C::kBlocks / 4 + i), p[m][i]);
    }
  }
}

// And what is put aside of them, back.
template <class C>
__device__ __forceinline__ void recall_codes(const Memory<C>& memory, uint32_t (&p)[C::kMmas][C::kBlocks / 4][4]) {
#pragma unroll
  for (int i = 0; i < (C::kMmas - 1) * C::kBlocks / 4; i++)
    get4(memory.stash(i), p[i / (C::kBlocks / 4)][i % (C::kBlocks / 4)]);
}

}  // namespace clary::cuda
