// The three input types behind one interface: pairs of neighbouring channels as they lie in memory.
//
// A Pair is what a thread holds of two channels of one token; Max is the running largest |x| of a Pair, not-a-number if any was.
#pragma once
#include "ptx.cuh"

namespace clary::cuda {

// Both 16-bit types keep a Pair in one register, channel 2i in the low half.
struct Bits16 {
  using Element = uint16_t;
  using Pair = uint32_t;
  using Max = uint32_t;
  __device__ static Pair zero() { return 0; }
  __device__ static void unpack(Word4 x, Pair (&pairs)[4]) {
    pairs[0] = x.x;
    pairs[1] = x.y;
    pairs[2] = x.z;
    pairs[3] = x.w;
  }
  __device__ static void load8(const char* p, Pair (&pairs)[4]) { unpack(load_once(p), pairs); }
  __device__ static void read8(const Element* shared, Pair (&pairs)[4]) {
    unpack(*reinterpret_cast<const Word4*>(shared), pairs);
  }
};

struct Bf16 : Bits16 {
  static constexpr bool kIsHalf = false;
  // c + a b of mma.m16n8k16, a as fragment, b of this type.
  __device__ static void multiply(float (&c)[4], const Pair (&a)[4], const uint32_t (&b)[2]) { mma_bf16(c, a, b); }
  __device__ static float low(Pair x) { return __uint_as_float(x << 16); }
  __device__ static float high(Pair x) { return __uint_as_float(x & 0xffff0000u); }
  __device__ static float widen(Element x) { return __uint_as_float(static_cast<uint32_t>(x) << 16); }
  // Two values of this type.
  __device__ static Pair pair(float low, float high) {
    return prmt(__float_as_uint(low), __float_as_uint(high), 0x7632);
  }
  __device__ static Max max_abs2(Max m, Pair x) {
    if constexpr (kHasAmpereMma) {
      return max_abs_bf16x2(m, x);
    } else {
      return max(m & 0xffff0000u, x & 0x7fff0000u) | max(m & 0xffffu, x & 0x7fffu);
    }
  }
};

struct F16 : Bits16 {
  static constexpr bool kIsHalf = true;
  __device__ static void multiply(float (&c)[4], const Pair (&a)[4], const uint32_t (&b)[2]) { mma_f16(c, a, b); }
  __device__ static float widen(Element x) { return unpack_f16(x); }
  __device__ static Pair pair(float low, float high) { return pack_f16(low, high); }
  __device__ static float low(Pair x) { return widen(static_cast<Element>(x)); }
  __device__ static float high(Pair x) { return widen(static_cast<Element>(x >> 16)); }
  __device__ static Max max_abs2(Max m, Pair x) {
    if constexpr (kHasAmpereMma) {
      return max_abs_f16x2(m, x);
    } else {
      return max(m & 0xffff0000u, x & 0x7fff0000u) | max(m & 0xffffu, x & 0x7fffu);
    }
  }
};

struct F32 {
  static constexpr bool kIsHalf = false;
  using Element = float;
  struct Pair {
    float low, high;
  };
  // A float's 24 bits are three bf16 exactly, so three products are exact; b in bf16.
  __device__ static void multiply(float (&c)[4], const Pair (&a)[4], const uint32_t (&b)[2]) {
    Pair rest[4] = {a[0], a[1], a[2], a[3]};
#pragma unroll
    for (int part = 0; part < 3; part++) {
      const uint32_t top[4] = {take(rest[0]), take(rest[1]), take(rest[2]), take(rest[3])};
      mma_bf16(c, top, b);
    }
  }
  // The leading bf16 of both, by truncation; the rest stays in x.
  __device__ static uint32_t take(Pair& x) {
    const uint32_t top = prmt(__float_as_uint(x.low), __float_as_uint(x.high), 0x7632);
    x.low -= __uint_as_float(top << 16);
    x.high -= __uint_as_float(top & 0xffff0000u);
    return top;
  }
  using Max = Pair;
  __device__ static Pair zero() { return {0, 0}; }
  __device__ static float low(Pair x) { return x.low; }
  __device__ static float high(Pair x) { return x.high; }
  __device__ static float widen(Element x) { return x; }
  __device__ static Pair pair(float low, float high) { return {low, high}; }
  __device__ static Max max_abs2(Max m, Pair x) { return {max_abs(m.low, x.low), max_abs(m.high, x.high)}; }
  __device__ static void unpack(Word4 a, Word4 b, Pair (&pairs)[4]) {
    pairs[0] = {__uint_as_float(a.x), __uint_as_float(a.y)};
    pairs[1] = {__uint_as_float(a.z), __uint_as_float(a.w)};
    pairs[2] = {__uint_as_float(b.x), __uint_as_float(b.y)};
    pairs[3] = {__uint_as_float(b.z), __uint_as_float(b.w)};
  }
  __device__ static void load8(const char* p, Pair (&pairs)[4]) { unpack(load_once(p), load_once(p + 16), pairs); }
  __device__ static void load4(const char* p, Pair (&pairs)[4]) { unpack(load_once(p), Word4{}, pairs); }
  __device__ static void read8(const Element* shared, Pair (&pairs)[4]) {
    const Word4* p = reinterpret_cast<const Word4*>(shared);
    unpack(p[0], p[1], pairs);
  }
};

__device__ __forceinline__ void put_in_cluster(Shared own, int rank, F32::Pair x) {
  put_in_cluster(own, rank, __float_as_uint(x.low));
  put_in_cluster(own + 4, rank, __float_as_uint(x.high));
}
__device__ __forceinline__ uint32_t shuffle_xor(uint32_t x, int lanes) { return __shfl_xor_sync(~0u, x, lanes); }
__device__ __forceinline__ F32::Pair shuffle_xor(F32::Pair x, int lanes) {
  return {__shfl_xor_sync(~0u, x.low, lanes), __shfl_xor_sync(~0u, x.high, lanes)};
}

}  // namespace clary::cuda
