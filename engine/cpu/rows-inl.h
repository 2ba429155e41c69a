// Rows of q, k, v on their way into tiles: loading any dtype, the rotation, and 8- and 12-bit codes.
// Lanes run along channels here; the order of every sum is that of quant/formats.h, so bits do not depend on the width.

template <class T>
struct RowOps {
  using F = typename T::F;
  using I = typename T::I;
  static constexpr int W = T::W;
  static constexpr uint32_t kInfBits = 0x7f800000u;

  // D elements at `from` as floats, zeros up to `padded` (a multiple of W).
  template <int Dtype>
  static CLARY_INLINE void load_typed(const char* from, int D, float* to, int padded) {
    constexpr int kSize = Dtype == CLARY_F32 ? 4 : 2;
    int d = 0;
    for (; d + W <= D; d += W) T::store(to + d, T::template load_as_float<Dtype>(from + d * kSize));
    if (d < D) {
      alignas(64) char rest[W * 4] = {};
      __builtin_memcpy(rest, from + d * kSize, static_cast<size_t>(D - d) * kSize);
      T::store(to + d, T::template load_as_float<Dtype>(rest));
      d += W;
    }
    for (; d < padded; d += W) T::store(to + d, F{});
  }
  static void load(const char* from, int32_t dtype, int D, float* to, int padded) {
    if (dtype == CLARY_F32)
      load_typed<CLARY_F32>(from, D, to, padded);
    else if (dtype == CLARY_BF16)
      load_typed<CLARY_BF16>(from, D, to, padded);
    else
      load_typed<CLARY_F16>(from, D, to, padded);
  }

  // n floats (n <= W) to dtype.
  static CLARY_INLINE void store(char* to, int32_t dtype, F x, int n) {
    if (dtype == CLARY_F32) {
      if (n == W)
        T::store(to, x);
      else
        __builtin_memcpy(to, &x, static_cast<size_t>(n) * 4);
    } else {
      const typename T::HalfU h = dtype == CLARY_F16 ? T::to_f16(x) : T::narrow_half(T::bf16_bits(x));
      if (n == W)
        T::store(to, h);
      else
        __builtin_memcpy(to, &h, static_cast<size_t>(n) * 2);
    }
  }

  // One butterfly stage within a vector: lanes with bit h clear get a + b, the others a - b.
  template <int h, int... i>
  static CLARY_INLINE F butterfly_lanes(F x, std::integer_sequence<int, i...>) {
    const F other = __builtin_shufflevector(x, x, (i ^ h)...);
    constexpr I kSign = {(i & h ? INT32_MIN : 0)...};
    return other + T::floats(T::bits(x) ^ kSign);
  }
  template <int h>
  static CLARY_INLINE F lanes(F x) {
    return butterfly_lanes<h>(x, std::make_integer_sequence<int, W>{});
  }
  static CLARY_INLINE F in_vector(F x) {
    x = lanes<1>(x);
    x = lanes<2>(x);
    if constexpr (W >= 8) x = lanes<4>(x);
    if constexpr (W >= 16) x = lanes<8>(x);
    return x;
  }
  template <int N>  // N vectors held in registers
  static CLARY_INLINE void transform(float* x, F norm) {
    F r[N];
    CLARY_FOR (i, N) r[i] = in_vector(T::template load<F>(x + i * W));
    CLARY_UNROLL
    for (int h = 1; h < N; h *= 2)
      CLARY_FOR (i, N)
        if (!(i & h)) {
          const F a = r[i], b = r[i + h];
          r[i] = a + b;
          r[i + h] = a - b;
        }
    CLARY_FOR (i, N) T::store(x + i * W, r[i] * norm);
  }
  static void transform_any(float* x, int P) {
    const float norm = rotation_norm(P);
    if (P == 128 && W >= 8) return transform<128 / W>(x, T::splat(norm));
    if (P == 64) return transform<64 / W>(x, T::splat(norm));
    if (P == 32 && W <= 16) return transform<32 / W>(x, T::splat(norm));
    int h = 1;
    if (P >= W) {
      for (int i = 0; i < P; i += W) T::store(x + i, in_vector(T::template load<F>(x + i)));
      for (h = W; h < P; h *= 2)
        for (int i = 0; i < P; i += 2 * h)
          for (int j = i; j < i + h; j += W) {
            const F a = T::template load<F>(x + j), b = T::template load<F>(x + j + h);
            T::store(x + j, a + b);
            T::store(x + j + h, a - b);
          }
    } else {
      for (; h < P; h *= 2)
        for (int i = 0; i < P; i++)
          if (!(i & h)) {
            const float a = x[i], b = x[i + h];
            x[i] = a + b;
            x[i + h] = a - b;
          }
    }
    for (int i = 0; i < P; i++) x[i] *= norm;
  }
  static CLARY_INLINE void rotate(float* x, int D) {
    const int P = rotation_size(D);
    transform_any(x, P);
    if (P < D) transform_any(x + D - P, P);
  }

  // Largest |x| bit pattern of a row of `padded` floats; as integers these order like the values, infinity and NaN last.
  static CLARY_INLINE I max_bits(const float* x, int padded, I so_far) {
    for (int d = 0; d < padded; d += W) so_far = T::max(so_far, T::abs_bits(T::template load<F>(x + d)));
    return so_far;
  }
  static CLARY_INLINE uint32_t reduce(I m) {
    int32_t best = 0;
    for (int i = 0; i < W; i++) best = m[i] > best ? m[i] : best;
    return static_cast<uint32_t>(best);
  }

  struct Scale {
    float inverse, scale;  // code = rint(x * inverse), x = code * scale; scale is NaN if any value was not finite
  };
  static CLARY_INLINE Scale scale_of(uint32_t amax_bits, float code_max) {
    float amax;
    __builtin_memcpy(&amax, &amax_bits, 4);
    if (amax_bits >= kInfBits) return {0.0f, __builtin_nanf("")};
    if (amax < kMinAmax) amax = kMinAmax;
    return {code_max / amax, amax / code_max};
  }

  // The codes of one row: `padded` floats in, D codes of Code out, xor `flip` (the operand's offset).
  template <class Code>
  static CLARY_INLINE void store_codes(const float* x, float inverse, int D, char* to, int flip) {
    const F inv = T::splat(inverse);
    int d = 0;
    for (; d + W <= D; d += W)
      T::store(to + d * sizeof(Code), T::narrow(T::rint(T::template load<F>(x + d) * inv) ^ flip, Code{}));
    if (d < D) {
      const auto rest = T::narrow(T::rint(T::template load<F>(x + d) * inv) ^ flip, Code{});
      __builtin_memcpy(to + d * sizeof(Code), &rest, static_cast<size_t>(D - d) * sizeof(Code));
    }
  }
};
