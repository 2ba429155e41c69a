// A warpgroup's 64 rows over their tiles of keys. The arithmetic is mma/mainloop.cuh's, but for where S starts: wgmma takes a start value only
// from registers, so it is made by a product of its own (start_at_magic), or S starts at 0 and is converted.
//
// No products of one warpgroup overlap with its own exponentials: what hides them is that the other warpgroups are elsewhere. Row g comes
// wholly before row g + 8, so that the second's maximum is found while the first's exponentials are under way.
#pragma once
#include "memory.cuh"

namespace clary::cuda {

// What a thread keeps over the tiles: O of rows g and g + 8 of its warp's 16, in fragments as wgmma.cuh has them.
template <class C>
struct Accumulators {
  float out[C::kDim / 2];
  float sum[2];    // of P, this thread's columns: codes in units of 2^(frame + kBase - kOffset + 149 - 24), as out is
  float frame[2];  // a maximum of an earlier tile, as exponentials() gives it, less kFrameLead
};

struct Stage {
  int index = 0, phase = 0;
  template <class C>
  __device__ __forceinline__ void next() {
    if (++index == C::kStages) index = 0, phase ^= 1;
  }
};

// A thread's place.
__device__ __forceinline__ int in_group() { return static_cast<int>(threadIdx.x) & 127; }
__device__ __forceinline__ int row_of(int group, int r) {
  return group * 64 + in_group() / 32 * 16 + (lane() >> 2) + 8 * r;
}

// Codes of row r from what exponent(i) gives for score i of the row; the A fragments of P V as they stand. made(i): 4 i + 4 of the 32 are.
template <class Exponent, class Made>
__device__ __forceinline__ void row_codes(int r, uint32_t (&p)[4][4], uint32_t& codes, Exponent exponent, Made made) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    p[i / 2][i % 2 * 2 + r] = pack_codes(exp2_fast(exponent(4 * i)), exp2_fast(exponent(4 * i + 1)),
                                         exp2_fast(exponent(4 * i + 2)), exp2_fast(exponent(4 * i + 3)), codes);
    made(i);
  }
}
// Score i of row r in a thread's fragment.
__device__ __forceinline__ constexpr int score_at(int r, int i) { return i / 2 * 4 + 2 * r + i % 2; }

// Scores that all rows see. maxima: what the codes are relative to, less kBase. begun(): most of row g's codes are made.
template <class C, class Begun>
__device__ __forceinline__ void exponentials(const int (&s)[64], const float (&unit)[2], uint32_t (&p)[4][4],
                                             uint32_t (&codes)[2], float (&maxima)[2], Begun begun) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int m[2] = {max(s[score_at(r, 0)], s[score_at(r, 1)]), max(s[score_at(r, 2)], s[score_at(r, 3)])};
#pragma unroll
    for (int i = 4; i < 32; i += 4) {
      m[0] = max(max(m[0], s[score_at(r, i)]), s[score_at(r, i + 1)]);
      m[1] = max(max(m[1], s[score_at(r, i + 2)]), s[score_at(r, i + 3)]);
    }
    int most = max(m[0], m[1]);
    most = max(most, __shfl_xor_sync(~0u, most, 1));
    most = max(most, __shfl_xor_sync(~0u, most, 2));
    float offset;
    if constexpr (C::kMagicStart) {
      offset = magic_offset(most, unit[r]);
      maxima[r] = -fmaf(kMagic, unit[r], offset);
    } else {
      offset = fma_down(-static_cast<float>(most), unit[r], kOffset);  // as magic_offset()
      maxima[r] = kOffset - offset;
    }
    row_codes(
        r, p, codes[r],
        [&](int i) {
          const int x = s[score_at(r, i)];
          return fmaf(C::kMagicStart ? __int_as_float(x) : static_cast<float>(x), unit[r], offset);
        },
        [&](int i) {
          if (r == 0 && i == 5) begun();
        });
  }
}

// The same where rows see only some keys, and for units of any size. A row that sees none gets maximum -infinity and codes that do not
// matter. `nothing` is 0, which the compiler must not know.
// kLate: what row g + 8 sees is read after row g is done.
template <class C, bool kLate>
__device__ __forceinline__ void masked_exponentials(int (&s)[64], const Seen* rows, int tile, uint32_t nothing,
                                                    const float (&unit)[2], uint32_t (&p)[4][4], uint32_t (&codes)[2],
                                                    float (&maxima)[2]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    Seen seen = rows[r == 0 ? 0 : 8 + (kLate ? codes[0] & nothing : 0)];
    const int from = tile * kTileKeys + (lane() & 3) * 2 - seen.first;
    if (r == 1 && !kLate)
      seen.count += static_cast<int>(codes[0] & nothing);  // row g comes first: both at once lack registers
    float most = -kInfinity;
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const bool there = static_cast<unsigned>(from + i / 2 * 8 + i % 2) < static_cast<unsigned>(seen.count);
      const int bits = s[score_at(r, i)];
      const float x = !there ? -kInfinity : C::kMagicStart ? __int_as_float(bits) - kMagic : static_cast<float>(bits);
      most = fmaxf(most, x);
      s[score_at(r, i)] = __float_as_int(x);
    }
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
    const float scale = unit[r] < kLeastScale ? kLeastScale : unit[r];  // -infinity times it is no NaN
    maxima[r] = most == -kInfinity ? most : fmaf(most, scale, -C::kBase);
    row_codes(
        r, p, codes[r], [&](int i) { return fmaf(__int_as_float(s[score_at(r, i)]) - most, scale, kOffset); },
        [](int) {});
  }
}

// Takes rows whose maximum is out of their frame's reach to a new one, and adds the tile's sums. factor: 2^(maximum - frame).
template <class C>
__device__ __forceinline__ void enter_frame(Accumulators<C>& o, const uint32_t (&codes)[2], const float (&maxima)[2],
                                            float (&factor)[2]) {
  float ahead[2] = {maxima[0] - o.frame[0], maxima[1] - o.frame[1]};
  constexpr float kReach = kFrameLead + kFrameReach;
  if (__any_sync(~0u, ahead[0] > kReach || ahead[1] > kReach)) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (!(ahead[r] > kReach)) continue;
      const float shrink = exp2_fast(kFrameLead - ahead[r]);
      ahead[r] = kFrameLead;
      o.frame[r] = maxima[r] - kFrameLead;
      o.sum[r] *= shrink;
#pragma unroll
      for (int i = 0; i < C::kDim / 4; i++) o.out[i / 2 * 4 + 2 * r + i % 2] *= shrink;
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    factor[r] = exp2_fast(ahead[r]);
    o.sum[r] = fmaf(__int_as_float(sum_halves(codes[r])), factor[r], o.sum[r]);
  }
}

// One warpgroup's work: `group` from 0.
template <class C>
class Consumer {
 public:
  __device__ Consumer(const AttentionArgs& args, Block<C>& block, int group) : a_(args), b_(block), group_(group) {}

  __device__ __forceinline__ void run();

 private:
  using State = Accumulators<C>;
  // Who gives a stage back, for its warp: the others of the group may still be on their way to what it holds.
  __device__ __forceinline__ bool leads() const { return lane() == 0; }

  // K's scale of the stage's tile, or of the next. It is read before the tile's products, whose end lets another come, have been awaited,
  // and by the lane that says so: what others read, its arrival would not order.
  __device__ __forceinline__ float k_scale(int next) const {
    float scale = 0;
    if (leads()) scale = *static_cast<volatile float*>(&b_.k_scale[stage_.index][next]);
    return __shfl_sync(~0u, scale, 0);
  }
  __device__ __forceinline__ void await_keys() {
    await_bytes(shared_address(&b_.barriers.k_full[stage_.index]), stage_.phase);
  }
  // Warps of the warpgroups that have the same place in theirs begin their exponentials in turn, tile after tile: so none has to share the
  // unit that makes them with all others, while none has anything to multiply. code: of those that are to be made first, never ~0. Group 0
  // finds its barrier in the phase before the first, so it needs no turn to begin.
  __device__ __forceinline__ uint64_t* turn(int group) { return &b_.barriers.turn[group][warp_]; }
  __device__ __forceinline__ void await_turn() {
    static_assert(C::kStages % 2 == 0);
    if constexpr (C::kTurns) await_bytes(shared_address(turn(group_)), (stage_.index & 1) ^ (group_ == 0));
  }
  __device__ __forceinline__ void pass_turn(uint32_t code) {
    if (C::kTurns && leads() && code != ~0u) arrive(shared_address(turn(group_ + 1 == C::kGroups ? 0 : group_ + 1)));
  }
  // A tile none of the rows sees.
  __device__ __forceinline__ void skip() {
    auto& barriers = b_.barriers;
    await_turn();
    pass_turn(0);
    await_bytes(shared_address(&barriers.k_full[stage_.index]), stage_.phase);
    await_bytes(shared_address(&barriers.v_full[stage_.index]), stage_.phase);
    if (leads()) {
      arrive(shared_address(&barriers.k_empty[stage_.index]));
      arrive(shared_address(&barriers.v_empty[stage_.index]));
    }
    stage_.next<C>();
  }

  // One tile of that scale, and the next one's. REQUIRES await_keys().
  template <bool kMasked>
  __device__ __forceinline__ float step(int slot, int tile, float scale, State& o);
  __device__ __forceinline__ void store(int slot, State& o);
  __device__ __forceinline__ void store_narrow(int slot, const State& o);

  const AttentionArgs& a_;
  Block<C>& b_;
  const int group_;
  const int warp_ = __shfl_sync(~0u, in_group() / 32, 0);
  Stage stage_;
};

template <class C>
template <bool kMasked>
__device__ __forceinline__ float Consumer<C>::step(int slot, int tile, float scale, State& o) {
  const Rows<C>& rows = b_.rows[slot];
  auto& barriers = b_.barriers;
  int s[64];
  product_begin();
  {
    const uint32_t q = matrix_at(__shfl_sync(~0u, shared_address(b_.q[slot]) + group_ * C::kGroupQ, 0));
    const uint32_t k = matrix_at(shared_address(b_.k[stage_.index]));
    constexpr int kSteps = C::kPanel / 32;
    if constexpr (C::kMagicStart) start_at_magic(s, shared_address(b_.magic));
#pragma unroll
    for (int i = 0; i < C::kDim / 32; i++) {
      const int panel = i / kSteps, column = i % kSteps * 32;
      const uint64_t x = descriptor<C::kPanel>(q, panel * 64 * C::kPanel + column);
      const uint64_t y = descriptor<C::kPanel>(k, panel * C::kKeys * C::kPanel + column);
      if (i == 0 && !C::kMagicStart) {
        multiply_s8<false>(s, x, y);
      } else {
        multiply_s8<true>(s, x, y);
      }
    }
  }
  const float next_scale = C::kScaleAhead ? k_scale(1) : 0;
  await_products(s);
  if (leads()) arrive(shared_address(&barriers.k_empty[stage_.index]));

  uint32_t p[4][4], codes[2] = {0, 0};
  float unit[2], maxima[2], factor[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = C::kDim == 64 ? opaque(row_of(group_, 0)) + 8 * r : row_of(group_, r);  // kept, it spills
    unit[r] = rows.scale[row] * scale;
    if (kMasked) unit[r] = unit[r] > kMostScale ? kMostScale : unit[r];  // NaN stays
  }
  await_turn();
  if constexpr (kMasked) {
    // At D = 64 the row is found anew: kept since the scales were read, it spills; elsewhere that moves the other loop's instructions, and 3 %
    const int row = C::kDim == 64 ? group_ * 64 + in_group() / 32 * 8 + in_group() / 4 : row_of(group_, 0);
    masked_exponentials<C, C::kDim == 64>(s, &rows.seen[row], tile, a_.mask_kind, unit, p, codes, maxima);
    pass_turn(0);
  } else {
    exponentials<C>(s, unit, p, codes, maxima, [&] { pass_turn(codes[0]); });
  }
  if constexpr (C::kSettled) settle(codes[0] | codes[1]);

  await_bytes(shared_address(&barriers.v_full[stage_.index]), stage_.phase);
  if constexpr (C::kParts > 1) enter_frame<C>(o, codes, maxima, factor);
  const uint32_t v = matrix_at(shared_address(b_.v[stage_.index]));
#pragma unroll
  for (int part = 0; part < C::kParts; part++) {
    int t[C::kColumns / 2];
    product_begin();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const uint64_t y = descriptor<C::kKeys>(v, part * C::kColumns * C::kKeys + i * 32);
      if (i == 0) {
        multiply_u8<false>(t, p[i], y);
      } else {
        multiply_u8<true>(t, p[i], y);
      }
    }
    await_products(t);
    if (part + 1 == C::kParts && leads()) arrive(shared_address(&barriers.v_empty[stage_.index]));
    if constexpr (C::kParts == 1) enter_frame<C>(o, codes, maxima, factor);
#pragma unroll
    for (int i = 0; i < C::kColumns / 2; i++) {
      float& x = o.out[part * C::kColumns / 2 + i];
      x = fmaf(__int_as_float(t[i]), factor[i >> 1 & 1], x);
    }
  }
  stage_.next<C>();
  return next_scale;
}

// Word j of lane t and word t of lane j of each four lanes change places.
__device__ __forceinline__ void transpose4(uint32_t (&w)[4]) {
#pragma unroll
  for (int lanes = 1; lanes <= 2; lanes *= 2) {
    const bool high = lane() & lanes;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int low = lanes == 1 ? 2 * i : i;
      const uint32_t other = __shfl_xor_sync(~0u, high ? w[low] : w[low + lanes], lanes);
      w[low] = high ? other : w[low];
      w[low + lanes] = high ? w[low + lanes] : other;
    }
  }
}

// Rows of out of any type at addresses of any alignment: through the shared memory of the warpgroup's Q, a quarter of the channels at a time.
template <class C>
__device__ __forceinline__ void Consumer<C>::store_narrow(int slot, const State& o) {
  const Rows<C>& rows = b_.rows[slot];
  constexpr int kQuarter = C::kDim / 4;
  const int t = lane() & 3, first_row = group_ * 64 + in_group() / 32 * 16, size = a_.out_kind == kOutF32 ? 4 : 2;
  float* stage = reinterpret_cast<float*>(b_.q[slot]) + first_row * kQuarter;
#pragma unroll
  for (int quarter = 0; quarter < 4; quarter++) {
    const int first = quarter * kQuarter;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < C::kDim / 32; i++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        stage[((lane() >> 2) + e / 2 * 8) * kQuarter + i * 8 + 2 * t + e % 2] = o.out[first / 2 + 4 * i + e];
    __syncwarp();
#pragma unroll 1
    for (int i = 0; i < 16 && first < a_.channels; i++)
      if (char* to = rows.out[first_row + i])
        store_row(to + first * size, stage + i * kQuarter, min(a_.channels - first, kQuarter), a_.out_kind,
                  a_.out_access);
  }
  show_to_products();  // and to the bulk copies that come next
}

// O over its sums to where the rows go: 16 or 8 bytes a lane where addresses allow.
template <class C>
__device__ __forceinline__ void Consumer<C>::store(int slot, State& o) {
  const Rows<C>& rows = b_.rows[slot];
  const bool part = rows.item.work.shares > 1;
  const int kind = part ? kOutF32 : a_.out_kind, channels = part ? C::kDim : a_.channels, t = lane() & 3;
  const bool wide = part || a_.out_wide;
  await_copies();
  await_threads<128>(1 + group_);  // others have brought units, and read Q
  float all[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    all[r] = sum_of_row(o.sum[r]);
    const float inverse = reciprocal(all[r]);
#pragma unroll
    for (int i = 0; i < C::kDim / 8; i++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float& x = o.out[4 * i + 2 * r + e];
        x = fmaf(x, inverse, -128.0f) * b_.unit[group_][i * 8 + 2 * t + e];
      }
    if (__any_sync(~0u, all[r] == 0)) {  // rows that see no key are 0, whatever the units are
#pragma unroll
      for (int i = 0; i < C::kDim / 4; i++) {
        float& x = o.out[i / 2 * 4 + 2 * r + i % 2];
        if (all[r] == 0) x = 0;
      }
    }
  }
  const auto store_words = [&](auto pack) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      char* to = rows.out[row_of(group_, r)];
#pragma unroll
      for (int i = 0; i < C::kDim / 8; i += 4) {
        uint32_t words[4];
#pragma unroll
        for (int j = 0; j < 4; j++) words[j] = pack(o.out[4 * (i + j) + 2 * r], o.out[4 * (i + j) + 2 * r + 1]);
        transpose4(words);
        if (to && (i + t) * 8 < channels)
          *reinterpret_cast<Word4*>(to + (i + t) * 16) = {words[0], words[1], words[2], words[3]};
      }
    }
  };
  if (!wide) {
    store_narrow(slot, o);
  } else if (kind == kOutBf16) {
    store_words([](float x, float y) { return pack_bf16(x, y); });
  } else if (kind == kOutF16) {
    store_words([](float x, float y) { return pack_f16(x, y); });
  } else {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      char* to = rows.out[row_of(group_, r)];
#pragma unroll
      for (int i = 0; i < C::kDim / 8; i++) {
        const float *x = &o.out[4 * i + 2 * r], *y = x + 1;
        if (to && i * 8 + 2 * t < channels)
          *reinterpret_cast<uint64_t*>(to + (i * 8 + 2 * t) * 4) =
              static_cast<uint64_t>(__float_as_uint(*y)) << 32 | __float_as_uint(*x);
      }
    }
  }
  if (t != 0 || !(part || a_.lse)) return;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = row_of(group_, r);
    if (!rows.out[row]) continue;
    const Work& w = rows.item.work;
    const float log2_sum =
        all[r] == 0 ? -kInfinity : o.frame[r] + (log2_fast(all[r]) + (C::kBase - kOffset + 149.0f - 24.0f));
    if (part) {
      a_.part_lse[part_row(a_, w.sequence, w.key_head, w.share, w.rows, w.row + row)] = log2_sum;
    } else {
      store_lse(a_, w.sequence, place_of(a_, w.sequence, w.key_head, w.row + row), log2_sum);
    }
  }
}

template <class C>
__device__ __forceinline__ void Consumer<C>::run() {
#pragma unroll 1
  for (int count = 0;; count++) {
    const int slot = count & 1;
    await_bytes(shared_address(&b_.barriers.q_full[slot]), count >> 1 & 1);
    const Item& item = b_.rows[slot].item;
    if (item.last) return;
    State o;
#pragma unroll
    for (int i = 0; i < C::kDim / 2; i++) o.out[i] = 0;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      o.sum[r] = 0;
      o.frame[r] = kNoFrame;
    }
    await_threads<128>(1 + group_);  // none still reads the last rows' units
    const Tiles& own = item.groups[group_];
    int tile = item.begin;
#pragma unroll 1
    for (; tile < own.first && tile < item.end; tile++) skip();
    const int end = own.end;
    const float a = item.steepest[2 * group_], b = item.steepest[2 * group_ + 1];
    const float steepest = a != a || a > b ? a : b;  // NaN if one is
#pragma unroll
    for (int c = in_group(); c < C::kDim; c += 128)
      copy4(shared_address(&b_.unit[group_][c]), a_.v_scales + static_cast<int64_t>(item.v_scale) * C::kDim + c);
    commit_copies();
#pragma unroll 1
    while (tile < end) {
      await_keys();
      float scale = k_scale(0);
      if (tile >= own.plain && tile < own.plain_end && steepest * scale <= kFlatScale) {
        const int to = min(end, own.plain_end);
        if constexpr (C::kScaleAhead) {
          bool flat;
#pragma unroll 1
          do {
            await_keys();
            scale = step<false>(slot, tile, scale, o);
            flat = steepest * scale <= kFlatScale;
          } while (++tile < to && flat);
        } else {
#pragma unroll 1
          do {
            step<false>(slot, tile, scale, o);
            if (++tile >= to) break;
            await_keys();
            scale = k_scale(0);
          } while (steepest * scale <= kFlatScale);
        }
      } else {
        step<true>(slot, tile++, scale, o);
      }
    }
    const int all = item.end;
#pragma unroll 1
    for (; tile < all; tile++) skip();
    store(slot, o);
    arrive(shared_address(&b_.barriers.q_empty[slot]));
  }
}

}  // namespace clary::cuda
