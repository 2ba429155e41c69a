// AVX-512: 16 lanes, 32 registers, blocks of 4 rows x 4 vectors. Levels add an 8-bit dot (VNNI) and a byte permute (VBMI).
// g++ 12 copies accumulators that live in arrays unless an asm operand pins them (cpu-attention figures: 595 against 926 GOPS).

CLARY_LANES(16)

template <bool kVnni, bool kVbmi, bool kBf16_ = false>
struct Avx512 : Vec<16> {
  static constexpr int kMaxVectors = 4;  // vectors of rows in a micro-kernel
  static constexpr int rows_per_step(int vectors) { return vectors >= 3 ? 4 : 8; }
  static constexpr bool kDot8 = kVnni;
  static constexpr bool kBf16 = kBf16_;
  static constexpr int kKeyBias = kVnni ? 128 : 0;  // K is the unsigned operand of vpdpbusd
  static constexpr int kValueBias = 0;

  static CLARY_INLINE F fma(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
  static CLARY_INLINE F max(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }  // NaN in b stays
  static CLARY_INLINE F min(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
  static CLARY_INLINE I max(I a, I b) { return (I)_mm512_max_epi32((__m512i)a, (__m512i)b); }
  static CLARY_INLINE bool any(I x) { return _mm512_test_epi32_mask((__m512i)x, (__m512i)x) != 0; }
  static CLARY_INLINE I rint(F x) { return (I)_mm512_cvtps_epi32((__m512)x); }
  static CLARY_INLINE H mulhi(H a, H b) { return (H)_mm512_mulhi_epu16((__m512i)a, (__m512i)b); }
  static CLARY_INLINE H min16(H a, H b) { return (H)_mm512_min_epu16((__m512i)a, (__m512i)b); }
  static CLARY_INLINE H max16(H a, H b) { return (H)_mm512_max_epi16((__m512i)a, (__m512i)b); }  // signed

  // Two rows of 32-bit lanes to one of 16-bit pairs; both halves of each lane come back together in widen_max.
  static CLARY_INLINE H pack16(I a, I b) { return (H)_mm512_packs_epi32((__m512i)a, (__m512i)b); }
  static CLARY_INLINE H pack16u(I a, I b) { return (H)_mm512_packus_epi32((__m512i)a, (__m512i)b); }
  static CLARY_INLINE I widen_max(H h) {
    const __m512i other = _mm512_shuffle_epi32((__m512i)h, _MM_PERM_BADC);
    const __m512i m = _mm512_max_epi16((__m512i)h, other);
    return (I)_mm512_srai_epi32(_mm512_unpacklo_epi16(m, m), 16);
  }
  // p >> (t >> 7) + 128, the result byte in the high half.
  static CLARY_INLINE H exp_round(H p, H t) {
    return (H)_mm512_add_epi16(_mm512_srlv_epi16((__m512i)p, _mm512_srli_epi16((__m512i)t, 7)), _mm512_set1_epi16(128));
  }
  // Keys k..k+3 of each lane as the four bytes of a cell.
  static CLARY_INLINE I pack_bytes(H k01, H k23) {
    if constexpr (kVbmi) {
      alignas(64) static constexpr struct Index {
        uint8_t i[64];
        constexpr Index() : i() {
          for (int q = 0; q < 16; q++)
            for (int k = 0; k < 4; k++)
              i[q * 4 + k] = static_cast<uint8_t>((k >> 1) * 64 + (q / 4 * 8 + (k & 1) * 4 + q % 4) * 2 + 1);
        }
      } kIndex;
      __m512i index = _mm512_load_si512(kIndex.i);
      asm("vpermt2b %2, %1, %0" : "+v"(k01) : "v"(index), "v"(k23));
      return (I)k01;
    } else {
      const __m512i bytes = _mm512_packus_epi16(_mm512_srli_epi16((__m512i)k01, 8), _mm512_srli_epi16((__m512i)k23, 8));
      return (I)_mm512_shuffle_epi8(
          bytes, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
    }
  }
  // Keys k, k+1 of each lane as the two words of a cell.
  static CLARY_INLINE I pack_words(H k01) {
    return (I)_mm512_shuffle_epi8(
        _mm512_srli_epi16((__m512i)k01, 8),
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15)));
  }

  struct F32 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
#if defined(__clang__)
      acc = (I)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)acc);
#else
      asm("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
#endif
    }
  };
  struct S16 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
      if constexpr (kVnni) {
#if defined(__clang__)
        acc = (I)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
#else
        asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
#endif
      } else {
#if defined(__clang__)
        acc += (I)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#else
        I product;
        asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(acc), "=&v"(product) : "v"(a), "v"(b));
#endif
      }
    }
  };
#if defined(__AVX512BF16__)
  struct Bf16 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
#if defined(__clang__)
      acc = (I)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
      asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
#endif
    }
  };
#endif
  template <bool kUnsignedFirst>
  struct Dot8 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
      const I u = kUnsignedFirst ? a : b, s = kUnsignedFirst ? b : a;
#if defined(__clang__)
      acc = (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)u, (__m512i)s);
#else
      asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
#endif
    }
  };
  using QK8 = Dot8<false>;  // a = q codes, signed; b = k codes, unsigned
  using PV8 = Dot8<true>;   // a = P, unsigned; b = v codes, signed

  template <int Dtype>
  static CLARY_INLINE F load_as_float(const char* p) {
    if constexpr (Dtype == CLARY_F16)
      return (F)_mm512_cvtph_ps(load<__m256i>(p));
    else
      return Vec<16>::load_as_float<Dtype>(p);
  }
  static CLARY_INLINE HalfU to_f16(F x) {
    return (HalfU)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }

  static CLARY_INLINE void transpose(I (&r)[16]) {
    __m512i t[16], u[16];
    for (int i = 0; i < 8; i++) {
      t[2 * i] = _mm512_unpacklo_epi32((__m512i)r[2 * i], (__m512i)r[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_epi32((__m512i)r[2 * i], (__m512i)r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
      u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
      u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
      u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
      u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
      t[i] = _mm512_shuffle_i32x4(u[i], u[4 + i], 0x88);
      t[4 + i] = _mm512_shuffle_i32x4(u[i], u[4 + i], 0xdd);
      t[8 + i] = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0x88);
      t[12 + i] = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
      r[i] = (I)_mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
      r[8 + i] = (I)_mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
      r[4 + i] = (I)_mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
      r[12 + i] = (I)_mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
  }
};
