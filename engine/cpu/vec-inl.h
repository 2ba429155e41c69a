// Vectors of W 32-bit lanes by the compiler's vector extension: what every instruction set has in common. An ISA facade
// (isa/*-inl.h) derives from Vec<W> and adds what needs an instruction of its own. Everything here is inside the including
// file's anonymous namespace.
// This file has no include guard of its own on purpose: each translation unit includes it once, through attention-inl.h.

#define CLARY_INLINE inline __attribute__((always_inline))
#define CLARY_NOINLINE __attribute__((noinline))  // keeps one loop's registers out of another's
#if defined(__clang__)
#define CLARY_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CLARY_UNROLL _Pragma("GCC unroll 16")
#endif
// A loop over registers: i from 0 to a constant n, unrolled.
#define CLARY_FOR(i, n) \
  CLARY_UNROLL          \
  for (int i = 0; i < (n); i++)

// Per width, not by template arithmetic: g++ 12 does not convert between vectors of dependent size.
template <int W>
struct Lanes;
#define CLARY_LANES(W)                                                                             \
  template <>                                                                                      \
  struct Lanes<W> {                                                                                \
    typedef float F __attribute__((vector_size(W * 4)));                                           \
    typedef int32_t I __attribute__((vector_size(W * 4)));                                         \
    typedef uint32_t U __attribute__((vector_size(W * 4)));                                        \
    typedef uint16_t H __attribute__((vector_size(W * 4)));                                        \
    typedef int16_t Words __attribute__((vector_size(W * 4)));                                     \
    typedef int8_t Bytes __attribute__((vector_size(W * 2)));                                      \
    typedef uint16_t HalfU __attribute__((vector_size(W * 2)));                                    \
    typedef int8_t Code8 __attribute__((vector_size(W)));                                          \
    typedef int16_t Code16 __attribute__((vector_size(W * 2)));                                    \
    static CLARY_INLINE F to_float(I x) { return __builtin_convertvector(x, F); }                  \
    static CLARY_INLINE I widen_half(HalfU x) { return __builtin_convertvector(x, I); }            \
    static CLARY_INLINE HalfU narrow_half(I x) { return __builtin_convertvector(x, HalfU); }       \
    static CLARY_INLINE Words widen_bytes(Bytes x) { return __builtin_convertvector(x, Words); }   \
    static CLARY_INLINE Code8 narrow(I x, int8_t) { return __builtin_convertvector(x, Code8); }    \
    static CLARY_INLINE Code16 narrow(I x, int16_t) { return __builtin_convertvector(x, Code16); } \
  };
// A facade instantiates its own width: CLARY_LANES(8).

// H holds two 16-bit values a lane, in an order set by the facade's pack16.
template <int W_>
struct Vec : Lanes<W_> {
  static constexpr int W = W_;
  using typename Lanes<W_>::F;
  using typename Lanes<W_>::I;
  using typename Lanes<W_>::U;
  using typename Lanes<W_>::H;
  using typename Lanes<W_>::HalfU;

  // What an 8-bit product that takes more than one cell at a time changes (isa/neon-inl.h with SMMLA, isa/amx-inl.h):
  static constexpr int kStepGroup = 1;  // steps of q and P that it takes
  static constexpr int kValueKeys =
      4;  // v codes are [keys / kValueKeys][channels][kValueKeys]; kTileKeys: [channels][keys]
  static CLARY_INLINE void finish_cells(char*, int) {
  }  // steps of one vector of rows, kBlockRows cells apart, just written
  static CLARY_INLINE void finish_values(char*, int, int, char*) {
  }  // [steps][width] v cells of a tile; room for four times that
  struct Session {};  // lives while a thread has a block of kInt8 in hand

  template <class T>
  static CLARY_INLINE T load(const void* p) {
    T v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  template <class T>
  static CLARY_INLINE void store(void* p, T v) {
    __builtin_memcpy(p, &v, sizeof v);
  }
  static CLARY_INLINE F splat(float x) { return x - F{}; }
  static CLARY_INLINE I splat(int32_t x) { return x - I{}; }
  static CLARY_INLINE H splat16(uint16_t x) { return x - H{}; }
  static CLARY_INLINE I bits(F x) { return (I)x; }
  static CLARY_INLINE F floats(I x) { return (F)x; }
  static CLARY_INLINE I abs_bits(F x) { return (I)x & 0x7fffffff; }
  // The 32-bit cell at p in every lane.
  static CLARY_INLINE I broadcast(const void* p) {
    int32_t x;
    __builtin_memcpy(&x, p, 4);
    return splat(x);
  }

  // Rows of f16, bf16, f32 as floats.
  template <int Dtype>
  static CLARY_INLINE F load_as_float(const char* p) {
    if constexpr (Dtype == CLARY_F32)
      return load<F>(p);
    else
      return floats(Lanes<W>::widen_half(load<HalfU>(p)) << 16);
  }
  // f32 to bf16 bits in the low half of each lane, round half to even; NaN stays NaN.
  static CLARY_INLINE I bf16_bits(F x) {
    const I b = (I)x;
    const I rounded = (I)(((U)b + 0x7fff + (U)((b >> 16) & 1)) >> 16);
    return x == x ? rounded : splat(0x7fc0);
  }
};

// f16 <-> f32 for facades without an instruction. Subnormals and NaN included, round half to even.
static inline float f16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  uint32_t b = static_cast<uint32_t>(h & 0x7fff) << 13;
  float x;
  if (b >= 0x7c00u << 13) {  // infinity, NaN
    b += 112u << 23;
    b |= 0x7f800000u;
    __builtin_memcpy(&x, &b, 4);
  } else {
    __builtin_memcpy(&x, &b, 4);
    x *= 5.19229686e33f;  // 2^112: moves the exponent, normalises subnormals
  }
  uint32_t out;
  __builtin_memcpy(&out, &x, 4);
  out |= sign;
  __builtin_memcpy(&x, &out, 4);
  return x;
}
static inline uint16_t float_to_f16(float x) {
  uint32_t b;
  __builtin_memcpy(&b, &x, 4);
  const uint32_t sign = b >> 16 & 0x8000;
  b &= 0x7fffffff;
  if (b > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00);
  if (b >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and beyond round to infinity
  if (b < 0x38800000u) {  // below 2^-14: the sum's low bits are the rounded subnormal
    float y;
    __builtin_memcpy(&y, &b, 4);
    y += 0.5f;
    uint32_t z;
    __builtin_memcpy(&z, &y, 4);
    return static_cast<uint16_t>(sign | (z - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((b + 0xfff + (b >> 13 & 1) - (112u << 23)) >> 13));
}
