// AVX2 with FMA and F16C: 8 lanes, 16 registers, blocks of 4 rows x 2 vectors. AVX-VNNI adds the 8-bit dot; without it int8
// codes are widened to 16 bits: vpmaddwd is as fast as vpmaddubsw + vpmaddwd, and exact.

CLARY_LANES(8)

template <bool kVnni>
struct Avx2 : Vec<8> {
  static constexpr int kMaxVectors = 2;
  static constexpr int rows_per_step(int vectors) { return vectors == 2 ? 4 : 8; }
  static constexpr bool kDot8 = kVnni;
  static constexpr bool kBf16 = false;
  static constexpr int kKeyBias = kVnni ? 128 : 0;
  static constexpr int kValueBias = 0;

  static CLARY_INLINE F fma(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
  static CLARY_INLINE F max(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }  // NaN in b stays
  static CLARY_INLINE F min(F a, F b) { return (F)_mm256_min_ps((__m256)a, (__m256)b); }
  static CLARY_INLINE I max(I a, I b) { return (I)_mm256_max_epi32((__m256i)a, (__m256i)b); }
  static CLARY_INLINE bool any(I x) { return !_mm256_testz_si256((__m256i)x, (__m256i)x); }
  static CLARY_INLINE I rint(F x) { return (I)_mm256_cvtps_epi32((__m256)x); }
  static CLARY_INLINE H mulhi(H a, H b) { return (H)_mm256_mulhi_epu16((__m256i)a, (__m256i)b); }
  static CLARY_INLINE H min16(H a, H b) { return (H)_mm256_min_epu16((__m256i)a, (__m256i)b); }
  static CLARY_INLINE H max16(H a, H b) { return (H)_mm256_max_epi16((__m256i)a, (__m256i)b); }

  static CLARY_INLINE H pack16(I a, I b) { return (H)_mm256_packs_epi32((__m256i)a, (__m256i)b); }
  static CLARY_INLINE H pack16u(I a, I b) { return (H)_mm256_packus_epi32((__m256i)a, (__m256i)b); }
  static CLARY_INLINE I widen_max(H h) {
    const __m256i m = _mm256_max_epi16((__m256i)h, _mm256_shuffle_epi32((__m256i)h, 0x4e));
    return (I)_mm256_srai_epi32(_mm256_unpacklo_epi16(m, m), 16);
  }
  // ((p >> n) + 128) >> 8 with n = t >> 7, in the low half. There is no 16-bit variable shift: p >> (n + 1) is the high half
  // of p * 2^(15 - n), and the power comes from a 16-byte table by pshufb, index n for the high byte and n ^ 8 for the low.
  static CLARY_INLINE H exp_round(H p, H t) {
    const __m256i table = _mm256_setr_epi8(-128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0,  //
                                           -128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i n = _mm256_min_epu16(_mm256_srli_epi16((__m256i)t, 7), _mm256_set1_epi16(15));
    const __m256i index = _mm256_or_si256(_mm256_slli_epi16(n, 8), _mm256_xor_si256(n, _mm256_set1_epi16(8)));
    const __m256i half = _mm256_mulhi_epu16((__m256i)p, _mm256_shuffle_epi8(table, index));
    return (H)_mm256_srli_epi16(_mm256_add_epi16(half, _mm256_set1_epi16(64)), 7);
  }
  static CLARY_INLINE I pack_bytes(H k01, H k23) {
    return (I)_mm256_shuffle_epi8(_mm256_packus_epi16((__m256i)k01, (__m256i)k23),
                                  _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                                   0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  }
  static CLARY_INLINE I pack_words(H k01) {
    return (I)_mm256_shuffle_epi8((__m256i)k01,
                                  _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,  //
                                                   0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
  }

  struct F32 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
#if defined(__clang__)
      acc = (I)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)acc);
#else
      asm("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));
#endif
    }
  };
  struct S16 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
#if defined(__clang__)
      acc += (I)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
      I product;
      asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(product) : "x"(a), "x"(b));
#endif
    }
  };
#if defined(__AVXVNNI__) || defined(CLARY_AVXVNNI_AS_EVEX)
  template <bool kUnsignedFirst>
  struct Dot8 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
      const I u = kUnsignedFirst ? a : b, s = kUnsignedFirst ? b : a;
#if defined(CLARY_AVXVNNI_AS_EVEX)  // the same instruction in its AVX-512 encoding: tests on CPUs without AVX-VNNI
      acc = (I)_mm256_dpbusd_epi32((__m256i)acc, (__m256i)u, (__m256i)s);
#elif defined(__clang__)
      acc = (I)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)u, (__m256i)s);
#else
      asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(u), "x"(s));
#endif
    }
  };
  using QK8 = Dot8<false>;
  using PV8 = Dot8<true>;
#else
  using QK8 = S16;
  using PV8 = S16;
#endif

  template <int Dtype>
  static CLARY_INLINE F load_as_float(const char* p) {
    if constexpr (Dtype == CLARY_F16)
      return (F)_mm256_cvtph_ps(load<__m128i>(p));
    else
      return Vec<8>::load_as_float<Dtype>(p);
  }
  static CLARY_INLINE HalfU to_f16(F x) {
    return (HalfU)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }

  static CLARY_INLINE void transpose(I (&r)[8]) {
    __m256i t[8], u[8];
    for (int i = 0; i < 4; i++) {
      t[2 * i] = _mm256_unpacklo_epi32((__m256i)r[2 * i], (__m256i)r[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_epi32((__m256i)r[2 * i], (__m256i)r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
      u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
      u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
      u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
      u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
      r[i] = (I)_mm256_permute2x128_si256(u[i], u[4 + i], 0x20);
      r[4 + i] = (I)_mm256_permute2x128_si256(u[i], u[4 + i], 0x31);
    }
  }
};
