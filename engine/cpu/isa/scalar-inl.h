// The baseline: 4 lanes by the compiler's vector extension alone, no intrinsics. What every CPU runs, and the plainest
// description of what a facade has to provide.

CLARY_LANES(4)

struct Scalar : Vec<4> {
  static constexpr int kMaxVectors = 2;
  static constexpr int rows_per_step(int) { return 4; }
  static constexpr bool kDot8 = false;  // no 8-bit dot: int8 codes are widened to 16 bits
  static constexpr bool kBf16 = false;  // no bf16 dot
  static constexpr int kKeyBias = 0;    // offset that makes k codes unsigned
  static constexpr int kValueBias = 0;  // offset that makes v codes unsigned

  static CLARY_INLINE F fma(F a, F b, F c) {
    F r;
    for (int i = 0; i < W; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return r;
  }
  static CLARY_INLINE F max(F a, F b) { return a > b ? a : b; }  // NaN in b stays
  static CLARY_INLINE F min(F a, F b) { return a < b ? a : b; }
  static CLARY_INLINE I max(I a, I b) { return a > b ? a : b; }
  static CLARY_INLINE bool any(I x) {
    int32_t bits = 0;
    for (int i = 0; i < W; i++) bits |= x[i];
    return bits != 0;
  }
  static CLARY_INLINE I rint(F x) {  // half to even; INT32_MIN for what does not fit
    I r;
    for (int i = 0; i < W; i++)
      r[i] = x[i] >= -2147483648.0f && x[i] < 2147483648.0f ? static_cast<int32_t>(__builtin_rintf(x[i])) : INT32_MIN;
    return r;
  }
  static CLARY_INLINE H mulhi(H a, H b) {
    H r;
    for (int i = 0; i < 2 * W; i++) r[i] = static_cast<uint16_t>(static_cast<uint32_t>(a[i]) * b[i] >> 16);
    return r;
  }
  static CLARY_INLINE H min16(H a, H b) { return a < b ? a : b; }
  static CLARY_INLINE H max16(H a, H b) { return (H)((Words)a > (Words)b ? (Words)a : (Words)b); }  // signed

  // Two rows of 32-bit lanes to 16 bits with saturation: first a's lanes, then b's.
  static CLARY_INLINE H pack16(I a, I b) {
    H r;
    for (int i = 0; i < W; i++) {
      r[i] = static_cast<uint16_t>(a[i] < -32768 ? -32768 : a[i] > 32767 ? 32767 : a[i]);
      r[W + i] = static_cast<uint16_t>(b[i] < -32768 ? -32768 : b[i] > 32767 ? 32767 : b[i]);
    }
    return r;
  }
  static CLARY_INLINE H pack16u(I a, I b) {
    H r;
    for (int i = 0; i < W; i++) {
      r[i] = static_cast<uint16_t>(a[i] < 0 ? 0 : a[i] > 65535 ? 65535 : a[i]);
      r[W + i] = static_cast<uint16_t>(b[i] < 0 ? 0 : b[i] > 65535 ? 65535 : b[i]);
    }
    return r;
  }
  // The larger of each lane's two halves, signed.
  static CLARY_INLINE I widen_max(H h) {
    I r;
    for (int i = 0; i < W; i++) {
      const int16_t x = static_cast<int16_t>(h[i]), y = static_cast<int16_t>(h[W + i]);
      r[i] = x > y ? x : y;
    }
    return r;
  }
  // ((p >> n) + 128) >> 8 with n = t >> 7: where the byte ends up is between exp_round and pack_*; here the low half.
  static CLARY_INLINE H exp_round(H p, H t) {
    H r;
    for (int i = 0; i < 2 * W; i++)
      r[i] = static_cast<uint16_t>((((t[i] >> 7) > 15 ? 0 : p[i] >> (t[i] >> 7)) + 128) >> 8);
    return r;
  }
  static CLARY_INLINE I pack_bytes(H k01, H k23) {
    I r;
    for (int i = 0; i < W; i++) r[i] = k01[i] | k01[W + i] << 8 | k23[i] << 16 | k23[W + i] << 24;
    return r;
  }
  static CLARY_INLINE I pack_words(H k01) {
    I r;
    for (int i = 0; i < W; i++) r[i] = k01[i] | k01[W + i] << 16;
    return r;
  }

  struct F32 {
    // Two roundings: without FMA hardware a fused one costs a hundred times as much. The one place where bits differ
    // from the other targets, and only in kF32.
    static CLARY_INLINE void dot(I& acc, I a, I b) { acc = (I)((F)acc + (F)a * (F)b); }
  };
  struct S16 {
    static CLARY_INLINE void dot(I& acc, I a, I b) {
      // Wraps where a NaN became a code: such rows are strange anyway.
      const I low = (I)((U)a << 16) >> 16, low_b = (I)((U)b << 16) >> 16;
      acc = (I)((U)acc + (U)low * (U)low_b + (U)(a >> 16) * (U)(b >> 16));
    }
  };
  using QK8 = S16;
  using PV8 = S16;

  template <int Dtype>
  static CLARY_INLINE F load_as_float(const char* p) {
    if constexpr (Dtype == CLARY_F16) {
      const HalfU h = load<HalfU>(p);
      F r;
      for (int i = 0; i < W; i++) r[i] = f16_to_float(h[i]);
      return r;
    } else {
      return Vec<4>::load_as_float<Dtype>(p);
    }
  }
  static CLARY_INLINE HalfU to_f16(F x) {
    HalfU r;
    for (int i = 0; i < W; i++) r[i] = float_to_f16(x[i]);
    return r;
  }
  static CLARY_INLINE void transpose(I (&r)[4]) {
    I t[4];
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++) t[i][j] = r[j][i];
    for (int i = 0; i < 4; i++) r[i] = t[i];
  }
};
