// engine/cuda/kernels/common/ptx.cuh on the host: the same functions, a fiber per thread of a block, so that the kernels' own source
// runs and can be tested with no GPU.
//
// What lanes do together (mma, ldmatrix, shuffles, votes) waits until all 32 are there, and is then done once, by the fragment maps
// of the PTX ISA. Asynchronous copies land when they are awaited, not before. CLARY_EMULATED_ARCH is __CUDA_ARCH__.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/cuda/layout.h"
#include "tests/cuda/emulation/fibers.h"

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__

namespace clary::cuda {

using std::max;
using std::min;

constexpr int kArch = CLARY_EMULATED_ARCH;
constexpr bool kHasAmpereMma = kArch >= 800;
constexpr bool kHasBlackwellMma = kArch >= 1200;
constexpr bool kHasDependentLaunch = kArch >= 900;
constexpr bool kHasBulkCopy = false;
constexpr bool kHasClusters = false;
constexpr float kMagic = 12582912.0f;

struct Index {
  struct X {
    operator unsigned() const { return block ? emulation::block_index() : emulation::thread_index(); }
    bool block;
  } x;
};
inline const Index threadIdx{{false}}, blockIdx{{true}};
struct Dim {
  struct X {
    operator unsigned() const { return emulation::threads(); }
  } x;
};
inline const Dim blockDim{};

inline int lane() { return static_cast<int>(emulation::thread_index() & 31); }
inline int warp() { return static_cast<int>(emulation::thread_index() >> 5); }

struct alignas(16) Word4 {
  uint32_t x, y, z, w;
};
inline Word4 load_once(const void* p) {
  Word4 r;
  std::memcpy(&r, p, 16);
  return r;
}
inline void prefetch(const void*) {}
inline float load_fresh(const float* p) { return *p; }

template <class To, class From>
inline To bits_as(From x) {
  To r;
  static_assert(sizeof r == sizeof x);
  std::memcpy(&r, &x, sizeof r);
  return r;
}
inline uint32_t __float_as_uint(float x) { return bits_as<uint32_t>(x); }
inline float __uint_as_float(uint32_t x) { return bits_as<float>(x); }
inline int __float_as_int(float x) { return bits_as<int>(x); }
inline float __int_as_float(int x) { return bits_as<float>(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }

inline void __syncthreads() { emulation::block_barrier(); }
inline void __syncwarp() {
  emulation::collective(nullptr, [](void**) {});
}
template <class T>
inline T __shfl_sync(unsigned, T x, int from) {
  struct {
    T in, out;
    int from;
  } own = {x, x, from & 31};
  emulation::collective(&own, [](void** lanes) {
    for (int i = 0; i < 32; i++) {
      auto* to = static_cast<decltype(own)*>(lanes[i]);
      to->out = static_cast<decltype(own)*>(lanes[to->from])->in;
    }
  });
  return own.out;
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T x, int lanes) {
  return __shfl_sync(mask, x, lane() ^ lanes);
}
inline bool __any_sync(unsigned, bool x) {
  bool own = x;
  emulation::collective(&own, [](void** lanes) {
    bool any = false;
    for (int i = 0; i < 32; i++) any = any || *static_cast<bool*>(lanes[i]);
    for (int i = 0; i < 32; i++) *static_cast<bool*>(lanes[i]) = any;
  });
  return own;
}
inline bool __all_sync(unsigned mask, bool x) { return !__any_sync(mask, !x); }

inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) r |= static_cast<uint32_t>(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return r;
}
inline uint32_t pack_bytes(float a, float b, float c, float d) {
  const uint32_t low = prmt(__float_as_uint(a), __float_as_uint(b), 0x0040);
  const uint32_t high = prmt(__float_as_uint(c), __float_as_uint(d), 0x0040);
  return prmt(low, high, 0x5410);
}
inline uint32_t true_bytes(uint32_t x) {
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) r |= (x >> 8 * i & 0xff ? 1u : 0u) << i;
  return r;
}
inline float reciprocal(float x) { return 1.0f / x; }
inline float divide(float x, float y) { return x / y; }
inline float max_abs(float m, float x) {
  return __uint_as_float(std::max(__float_as_uint(m), __float_as_uint(x) & 0x7fffffffu));
}
inline float max_or_nan(float a, float b) { return a != a ? a : !(b <= a) ? b : a; }
inline float max_of_warp(float m) {
  for (int i = 16; i; i >>= 1) m = max_abs(m, __shfl_xor_sync(~0u, m, i));
  return m;
}
inline float finite_or_nan(float x) { return fmaf(x, 0.0f, x); }

inline float widen_bf16(uint32_t bits) { return __uint_as_float(bits << 16); }
inline float unpack_f16(uint16_t x) { return static_cast<float>(bits_as<_Float16>(x)); }
inline uint32_t pack_f16(float low, float high) {
  const uint16_t l = bits_as<uint16_t>(static_cast<_Float16>(low)), h = bits_as<uint16_t>(static_cast<_Float16>(high));
  return l | static_cast<uint32_t>(h) << 16;
}
inline uint32_t pack_bf16(float low, float high) {
  const auto round = [](float x) {
    const uint32_t bits = __float_as_uint(x);
    return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  };
  return round(low) | round(high) << 16;
}
inline uint32_t max_abs_16x2(uint32_t m, uint32_t x) {
  return std::max(m & 0xffff0000u, x & 0x7fff0000u) | std::max(m & 0xffffu, x & 0x7fffu);
}
inline uint32_t max_abs_bf16x2(uint32_t m, uint32_t x) { return max_abs_16x2(m, x); }
inline uint32_t max_abs_f16x2(uint32_t m, uint32_t x) { return max_abs_16x2(m, x); }

// A fragment's element: row g or g + 8 and column, as PTX ISA has them for 16 x 16 elements of 16 bits.
template <class Widen>
inline void mma_16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Widen) {
  struct {
    const uint32_t *a, *b;
    float* c;
  } own = {a, b, c};
  emulation::collective(&own, [](void** lanes) {
    const auto at = [&](int i) { return static_cast<decltype(own)*>(lanes[i]); };
    float x[16][16], y[16][8];
    for (int i = 0; i < 32; i++)
      for (int e = 0; e < 2; e++) {
        const auto half = [e](uint32_t w) { return Widen::of(static_cast<uint16_t>(w >> 16 * e)); };
        const int g = i / 4, t = i % 4, k = 2 * t + e;
        x[g][k] = half(at(i)->a[0]), x[g + 8][k] = half(at(i)->a[1]);
        x[g][k + 8] = half(at(i)->a[2]), x[g + 8][k + 8] = half(at(i)->a[3]);
        y[k][g] = half(at(i)->b[0]), y[k + 8][g] = half(at(i)->b[1]);
      }
    for (int i = 0; i < 32; i++)
      for (int e = 0; e < 4; e++) {
        double sum = at(i)->c[e];
        for (int k = 0; k < 16; k++) sum += static_cast<double>(x[i / 4 + e / 2 * 8][k]) * y[k][i % 4 * 2 + e % 2];
        at(i)->c[e] = static_cast<float>(sum);
      }
  });
}
struct WidenBf16 {
  static float of(uint16_t x) { return widen_bf16(x); }
};
struct WidenF16 {
  static float of(uint16_t x) { return unpack_f16(x); }
};
inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_16(c, a, b, WidenBf16()); }
inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_16(c, a, b, WidenF16()); }

template <class Byte>
inline void mma_bytes(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, int c0, int c1, int c2, int c3) {
  struct {
    const uint32_t* a;
    uint32_t b[2];
    int c[4], *d;
  } own = {a, {b0, b1}, {c0, c1, c2, c3}, d};
  emulation::collective(&own, [](void** lanes) {
    const auto at = [&](int i) { return static_cast<decltype(own)*>(lanes[i]); };
    int x[16][32], y[8][32];
    for (int i = 0; i < 32; i++)
      for (int e = 0; e < 4; e++) {
        const auto byte = [e](uint32_t w) { return static_cast<Byte>(w >> 8 * e); };
        const int g = i / 4, k = i % 4 * 4 + e;
        x[g][k] = byte(at(i)->a[0]), x[g + 8][k] = byte(at(i)->a[1]);
        x[g][k + 16] = byte(at(i)->a[2]), x[g + 8][k + 16] = byte(at(i)->a[3]);
        y[g][k] = byte(at(i)->b[0]), y[g][k + 16] = byte(at(i)->b[1]);
      }
    for (int i = 0; i < 32; i++)
      for (int e = 0; e < 4; e++) {
        int sum = at(i)->c[e];
        for (int k = 0; k < 32; k++) sum += x[i / 4 + e / 2 * 8][k] * y[i % 4 * 2 + e % 2][k];
        at(i)->d[e] = sum;
      }
  });
}
inline void mma_s8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, int c0, int c1, int c2, int c3) {
  mma_bytes<int8_t>(d, a, b0, b1, c0, c1, c2, c3);
}
inline void mma_u8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, int c0, int c1, int c2, int c3) {
  mma_bytes<uint8_t>(d, a, b0, b1, c0, c1, c2, c3);
}

inline void let_next_grid_start() {}
inline void await_previous_grid() {}
template <class T>
inline T opaque(T x) {
  return x;
}
inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 1.17549435e-38f ? 0.0f : y;  // keeps NaN
}
inline float log2_fast(float x) { return std::log2(x); }
inline float fma_down(float a, float b, float c) {
  const float nearest = fmaf(a, b, c);
  // the product of two floats is exact in f64, and so is what two-sum loses
  const double product = static_cast<double>(a) * b, sum = product + c, part = sum - product;
  const double error = (product - (sum - part)) + (c - part);
  const bool above = static_cast<double>(nearest) > sum || (static_cast<double>(nearest) == sum && error < 0);
  return above ? std::nextafter(nearest, -INFINITY) : nearest;
}

using Shared = uint32_t;
inline uint8_t* dynamic_shared() { return emulation::shared_memory(); }
inline Shared shared_address(const void* p) {
  return static_cast<Shared>(static_cast<const uint8_t*>(p) - emulation::shared_memory());
}
template <int kAt = 0>
inline void copy16(Shared to, const void* from) {
  emulation::copy(to + kAt, static_cast<const char*>(from) + kAt, 16);
}
inline void copy4(Shared to, const float* from) { emulation::copy(to, from, 4); }
inline void commit_copies() {}
inline void await_copies() { emulation::land_copies(); }

inline void put4(Shared to, const uint32_t (&x)[4]) { std::memcpy(emulation::shared_memory() + to, x, 16); }
inline void get4(Shared from, uint32_t (&x)[4]) { std::memcpy(x, emulation::shared_memory() + from, 16); }
inline void show_in_cluster() {}
inline void arrive_in_cluster() {}
inline void await_cluster() {}
inline void put_in_cluster(Shared, int, uint32_t) {}
inline void make_barrier(Shared) {}
inline void expect_bytes(Shared, int) {}
inline void copy_bulk(Shared, const void*, int, Shared) {}
inline void await_bytes(Shared, int) {}

inline void load_matrices(uint32_t (&m)[4], Shared row) {
  struct {
    Shared row;
    uint32_t* m;
  } own = {row, m};
  emulation::collective(&own, [](void** lanes) {
    const auto at = [&](int i) { return static_cast<decltype(own)*>(lanes[i]); };
    for (int i = 0; i < 32; i++)
      for (int n = 0; n < 4; n++)
        std::memcpy(&at(i)->m[n], emulation::shared_memory() + at(8 * n + i / 4)->row + i % 4 * 4, 4);
  });
}

}  // namespace clary::cuda
