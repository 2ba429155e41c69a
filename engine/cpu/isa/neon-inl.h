// NEON with the 8-bit dot product: 4 lanes, 32 registers, blocks of 4 rows x 4 vectors or 8 x 2. Cells of k and v are not
// broadcast but taken as lane operands, four to a load: a load that broadcasts (LD1R) also takes a slot of the multipliers'
// pipes. With I8MM int8 goes through SMMLA and USMMLA, as many a clock as dots and twice the multiplies each; they take 8
// bytes of two rows on both sides, so the steps of q, P and v come in pairs. int16 has no dot here: SMLAL multiplies as many
// values as FMLA, on half the pipes. (Figures: Arm's Neoverse V2 optimization guide, document 109898; nothing measured on
// hardware yet, results checked under qemu.)

CLARY_LANES(4)

struct Neon : Vec<4> {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  static constexpr bool kI8mm = true;
#else
  static constexpr bool kI8mm = false;
#endif
  static constexpr int kMaxVectors = 4;
  static constexpr int rows_per_step(int vectors) { return vectors >= 3 ? 4 : 8; }
  static constexpr bool kDot8 = true;
  static constexpr bool kBf16 = false;  // BFDOT rounds differently on different cores
  static constexpr int kKeyBias = 0;
  static constexpr int kValueBias = kI8mm ? 0 : 128;  // without I8MM a dot is signed or unsigned on both sides
  static constexpr int kStepGroup = kI8mm ? 2 : 1;
  static constexpr int kValueKeys = kI8mm ? 8 : 4;
  static constexpr int kCellRow = kBlockRows * 4;

  static CLARY_INLINE F fma(F a, F b, F c) { return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
  static CLARY_INLINE F max(F a, F b) { return (F)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }  // any NaN stays
  static CLARY_INLINE bool any(I x) { return vmaxvq_u32((uint32x4_t)x) != 0; }
  static CLARY_INLINE F min(F a, F b) {
    return (F)vbslq_f32(vcltq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
  }
  static CLARY_INLINE I max(I a, I b) { return (I)vmaxq_s32((int32x4_t)a, (int32x4_t)b); }
  static CLARY_INLINE I rint(F x) { return (I)vcvtnq_s32_f32((float32x4_t)x); }  // saturates, NaN is 0
  static CLARY_INLINE H mulhi(H a, H b) {
    const uint32x4_t low = vmull_u16(vget_low_u16((uint16x8_t)a), vget_low_u16((uint16x8_t)b));
    const uint32x4_t high = vmull_high_u16((uint16x8_t)a, (uint16x8_t)b);
    return (H)vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
  }
  static CLARY_INLINE H min16(H a, H b) { return (H)vminq_u16((uint16x8_t)a, (uint16x8_t)b); }
  static CLARY_INLINE H max16(H a, H b) { return (H)vmaxq_s16((int16x8_t)a, (int16x8_t)b); }  // signed

  static CLARY_INLINE H pack16(I a, I b) { return (H)vqmovn_high_s32(vqmovn_s32((int32x4_t)a), (int32x4_t)b); }
  static CLARY_INLINE H pack16u(I a, I b) { return (H)vqmovun_high_s32(vqmovun_s32((int32x4_t)a), (int32x4_t)b); }
  static CLARY_INLINE I widen_max(H h) {
    return (I)vmovl_s16(vmax_s16(vget_low_s16((int16x8_t)h), vget_high_s16((int16x8_t)h)));
  }
  // p >> n with n = t >> 7; the rounding to a byte is in pack_bytes. A shift count is a signed byte, so n stops at 31.
  static CLARY_INLINE H exp_round(H p, H t) {
    const uint16x8_t n = vshrq_n_u16(vminq_u16((uint16x8_t)t, vdupq_n_u16(0xfff)), 7);
    return (H)vshlq_u16((uint16x8_t)p, vnegq_s16(vreinterpretq_s16_u16(n)));
  }
  static CLARY_INLINE I pack_bytes(H k01, H k23) {
    alignas(16) static constexpr uint8_t kOrder[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    const uint8x16_t keys = vrshrn_high_n_u16(vrshrn_n_u16((uint16x8_t)k01, 8), (uint16x8_t)k23, 8);
    return (I)vqtbl1q_u8(keys, vld1q_u8(kOrder));
  }

  // ---- products ---------------------------------------------------------------------------------------------------------

  // Where the cells of a step lie (b + r * b_row + step * b_step). kApart: in rows of their own (QK, b_step is 4), so a load
  // takes four steps of a row. kTogether: next to each other (PV, b_row is 4), so a load takes four rows of a step.
  enum Cells { kApart, kTogether, kEither };

  // acc[r][j] += row[j] . cell by Dot::add<lane>(acc[r], row, four cells). `row`: vectors of q or P as Dot::prepare leaves them.
  template <class Dot, Cells kCells>
  struct ByLanes {
    template <int R, int NQ>
    static CLARY_INLINE void product(I (&acc)[R][NQ], const char* a, const char* b, int64_t b_row, int64_t b_step,
                                     int steps) {
      if (kCells == kApart || (kCells == kEither && b_step == 4))
        rows_apart(acc, a, b, b_row, steps);
      else
        rows_together(acc, a, b, b_step, steps);
    }
    template <int R, int NQ>
    static CLARY_INLINE void rows_apart(I (&acc)[R][NQ], const char* a, const char* b, int64_t b_row, int steps) {
      I cell[R];
      for (; steps >= 4; steps -= 4, a += 4 * kCellRow, b += 16) {
        CLARY_FOR (r, R) cell[r] = load<I>(b + r * b_row);
        step<0>(acc, a, cell);
        step<1>(acc, a + kCellRow, cell);
        step<2>(acc, a + 2 * kCellRow, cell);
        step<3>(acc, a + 3 * kCellRow, cell);
      }
      for (; steps > 0; steps--, a += kCellRow, b += 4) {
        CLARY_FOR (r, R) cell[r] = broadcast(b + r * b_row);
        step<0>(acc, a, cell);
      }
    }
    template <int R, int NQ>
    static CLARY_INLINE void rows_together(I (&acc)[R][NQ], const char* a, const char* b, int64_t b_step, int steps) {
      for (; steps > 0; steps--, a += kCellRow, b += b_step) {
        I row[NQ];
        load_rows(row, a);
        CLARY_UNROLL
        for (int r = 0; r < R; r += 4) {
          const I cells = load<I>(b + r * 4);
          Dot::template add<0>(acc[r], row, cells);
          Dot::template add<1>(acc[r + 1], row, cells);
          Dot::template add<2>(acc[r + 2], row, cells);
          Dot::template add<3>(acc[r + 3], row, cells);
        }
      }
    }
    template <int lane, int R, int NQ>
    static CLARY_INLINE void step(I (&acc)[R][NQ], const char* a, const I (&cell)[R]) {
      I row[NQ];
      load_rows(row, a);
      CLARY_FOR (r, R) Dot::template add<lane>(acc[r], row, cell[r]);
#if !defined(__clang__)
      asm volatile("" ::: "memory");  // g++ 12 would load all steps first and spill accumulators
#endif
    }
    template <int NQ>
    static CLARY_INLINE void load_rows(I (&row)[NQ], const char* a) {
      CLARY_FOR (j, NQ) row[j] = load<I>(a + j * 16);
      Dot::prepare(row);
    }
    template <int NQ>
    static CLARY_INLINE void prepare(I (&)[NQ]) {}
  };

  struct F32 : ByLanes<F32, kEither> {
    template <int lane, int NQ>
    static CLARY_INLINE void add(I (&acc)[NQ], const I (&row)[NQ], I cell) {
      CLARY_FOR (j, NQ) acc[j] = (I)vfmaq_laneq_f32((float32x4_t)acc[j], (float32x4_t)row[j], (float32x4_t)cell, lane);
    }
  };

  struct S16 : ByLanes<S16, kEither> {
    // Pairs of vectors become their even and their odd channels (or keys).
    template <int NQ>
    static CLARY_INLINE void prepare(I (&row)[NQ]) {
      CLARY_UNROLL
      for (int j = 0; j + 1 < NQ; j += 2) {
        const int16x8_t x = (int16x8_t)row[j], y = (int16x8_t)row[j + 1];
        row[j] = (I)vuzp1q_s16(x, y);
        row[j + 1] = (I)vuzp2q_s16(x, y);
      }
    }
    template <int lane, int NQ>
    static CLARY_INLINE void add(I (&acc)[NQ], const I (&row)[NQ], I cells) {
      const int16x8_t cell = (int16x8_t)cells;
      if constexpr (NQ == 1) {
        const int16x8_t x = (int16x8_t)row[0], even = vuzp1q_s16(x, x), odd = vuzp2q_s16(x, x);
        acc[0] = (I)vmlal_laneq_s16((int32x4_t)acc[0], vget_low_s16(even), cell, 2 * lane);
        acc[0] = (I)vmlal_laneq_s16((int32x4_t)acc[0], vget_low_s16(odd), cell, 2 * lane + 1);
      } else {
        CLARY_UNROLL
        for (int j = 0; j < NQ; j += 2) {
          const int16x8_t even = (int16x8_t)row[j], odd = (int16x8_t)row[j + 1];
          acc[j] = (I)vmlal_laneq_s16((int32x4_t)acc[j], vget_low_s16(even), cell, 2 * lane);
          acc[j] = (I)vmlal_laneq_s16((int32x4_t)acc[j], vget_low_s16(odd), cell, 2 * lane + 1);
          acc[j + 1] = (I)vmlal_high_laneq_s16((int32x4_t)acc[j + 1], even, cell, 2 * lane);
          acc[j + 1] = (I)vmlal_high_laneq_s16((int32x4_t)acc[j + 1], odd, cell, 2 * lane + 1);
        }
      }
    }
  };

#if defined(__ARM_FEATURE_MATMUL_INT8)
  // SMMLA and USMMLA: a 2 x 2 block, two rows of q or P times two of k or v, 8 bytes each. Operands:
  //   q, P  for a pair of steps and a vector of rows: rows 0 and 1 in the even step's place, 2 and 3 in the odd one's
  //   k     two rows of 8 bytes, put together here; past the last channel the next row is read and multiplied by zeros
  //   v     [keys / 8][channels][8]
  // With an odd number of k steps up to 4 bytes behind the last row are read (kernel.h).
  template <class Dot, Cells kCells>
  struct ByPairs {
    template <int R>
    static constexpr bool kOverwrites = true;
    template <int R, int NQ>
    static CLARY_INLINE void product(I (&sum)[R][NQ], const char* a, const char* b, int64_t b_row, int64_t b_step,
                                     int steps) {
      I acc[R / 2][2 * NQ] = {}, pair[R / 2], next[R / 2];
      if constexpr (kCells == kApart) {
        for (; steps > 2; steps -= 4, a += 4 * kCellRow, b += 16) {
          CLARY_FOR (r, R / 2) {
            const int64x2_t x = load<int64x2_t>(b + 2 * r * b_row), y = load<int64x2_t>(b + (2 * r + 1) * b_row);
            pair[r] = (I)vzip1q_s64(x, y);
            next[r] = (I)vzip2q_s64(x, y);
          }
          step<R, NQ>(acc, a, pair);
          step<R, NQ>(acc, a + 2 * kCellRow, next);
        }
        if (steps > 0) {
          CLARY_FOR (r, R / 2)
            pair[r] = (I)vcombine_s64(load<int64x1_t>(b + 2 * r * b_row), load<int64x1_t>(b + (2 * r + 1) * b_row));
          step<R, NQ>(acc, a, pair);
        }
      } else {
        for (; steps > 0; steps -= 2, a += 2 * kCellRow, b += 2 * b_step) {
          CLARY_FOR (r, R / 2) pair[r] = load<I>(b + r * 16);
          step<R, NQ>(acc, a, pair);
        }
      }
      CLARY_FOR (r, R / 2)
        CLARY_FOR (j, NQ) {
          const int32x4_t x = (int32x4_t)acc[r][2 * j], y = (int32x4_t)acc[r][2 * j + 1];
          sum[2 * r][j] = (I)vuzp1q_s32(x, y);
          sum[2 * r + 1][j] = (I)vuzp2q_s32(x, y);
        }
    }
    template <int R, int NQ>
    static CLARY_INLINE void step(I (&acc)[R / 2][2 * NQ], const char* a, const I (&pair)[R / 2]) {
      CLARY_FOR (j, NQ)
        CLARY_FOR (h, 2) {
          const I row = load<I>(a + h * kCellRow + j * 16);
          CLARY_FOR (r, R / 2) acc[r][2 * j + h] = Dot::mmla(acc[r][2 * j + h], row, pair[r]);
        }
    }
  };
  struct QK8 : ByPairs<QK8, kApart> {
    static CLARY_INLINE I mmla(I acc, I q, I k) { return (I)vmmlaq_s32((int32x4_t)acc, (int8x16_t)q, (int8x16_t)k); }
  };
  struct PV8 : ByPairs<PV8, kTogether> {
    static CLARY_INLINE I mmla(I acc, I p, I v) { return (I)vusmmlaq_s32((int32x4_t)acc, (uint8x16_t)p, (int8x16_t)v); }
    static CLARY_INLINE void dot(I& acc, I p, I v) {
      acc = (I)vusdotq_s32((int32x4_t)acc, (uint8x16_t)p, (int8x16_t)v);
    }
  };

  static void finish_cells(char* cells, int steps) {
    for (int s = 0; s < steps; s += 2) {
      char* even = cells + s * kCellRow;
      const int32x4_t x = load<int32x4_t>(even), y = s + 1 < steps ? load<int32x4_t>(even + kCellRow) : vdupq_n_s32(0);
      store(even, vzip1q_s32(x, y));
      store(even + kCellRow, vzip2q_s32(x, y));
    }
  }
  static void finish_values(char* cells, int steps, int width, char* spare) {
    for (int s = 0; s < steps; s += 2, cells += 8 * width) {
      __builtin_memcpy(spare, cells, static_cast<size_t>(8 * width));
      for (int d = 0; d < width; d += 4) {
        const int32x4_t x = load<int32x4_t>(spare + 4 * d), y = load<int32x4_t>(spare + 4 * (width + d));
        store(cells + 8 * d, vzip1q_s32(x, y));
        store(cells + 8 * d + 16, vzip2q_s32(x, y));
      }
    }
  }
#else
  struct QK8 : ByLanes<QK8, kApart> {
    template <int lane, int NQ>
    static CLARY_INLINE void add(I (&acc)[NQ], const I (&q)[NQ], I k) {
      CLARY_FOR (j, NQ) acc[j] = (I)vdotq_laneq_s32((int32x4_t)acc[j], (int8x16_t)q[j], (int8x16_t)k, lane);
    }
  };
  struct PV8 : ByLanes<PV8, kTogether> {
    template <int lane, int NQ>
    static CLARY_INLINE void add(I (&acc)[NQ], const I (&p)[NQ], I v) {
      CLARY_FOR (j, NQ) acc[j] = (I)vdotq_laneq_u32((uint32x4_t)acc[j], (uint8x16_t)p[j], (uint8x16_t)v, lane);
    }
    static CLARY_INLINE void dot(I& acc, I p, I v) {
      acc = (I)vdotq_u32((uint32x4_t)acc, (uint8x16_t)p, (uint8x16_t)v);
    }
  };
#endif

  template <int Dtype>
  static CLARY_INLINE F load_as_float(const char* p) {
    if constexpr (Dtype == CLARY_F16)
      return (F)vcvt_f32_f16((float16x4_t)load<HalfU>(p));
    else
      return Vec<4>::load_as_float<Dtype>(p);
  }
  static CLARY_INLINE HalfU to_f16(F x) { return (HalfU)vcvt_f16_f32((float32x4_t)x); }

  static CLARY_INLINE void transpose(I (&r)[4]) {
    const int32x4_t a = vtrn1q_s32((int32x4_t)r[0], (int32x4_t)r[1]), b = vtrn2q_s32((int32x4_t)r[0], (int32x4_t)r[1]);
    const int32x4_t c = vtrn1q_s32((int32x4_t)r[2], (int32x4_t)r[3]), d = vtrn2q_s32((int32x4_t)r[2], (int32x4_t)r[3]);
    r[0] = (I)vzip1q_s64((int64x2_t)a, (int64x2_t)c);
    r[1] = (I)vzip1q_s64((int64x2_t)b, (int64x2_t)d);
    r[2] = (I)vzip2q_s64((int64x2_t)a, (int64x2_t)c);
    r[3] = (I)vzip2q_s64((int64x2_t)b, (int64x2_t)d);
  }
};
