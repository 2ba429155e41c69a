// The PTX this project uses, one small function per instruction, and the two facts about a target that shared code asks for.
// Nothing here is included from the toolkit: kernels compile with NVRTC and no headers.
//
// CLARY_PTX names a header that is read instead: the same functions on the host (tests/cuda/emulation).
#pragma once
#include "engine/cuda/layout.h"

#if defined(CLARY_PTX)
#include CLARY_PTX
#else

namespace clary::cuda {

// __CUDA_ARCH__ as features. Shared code tests these, never an architecture.
#if defined(__CUDA_ARCH__)
constexpr int kArch = __CUDA_ARCH__;
#else  // nvcc's pass for the host, which compiles no body
constexpr int kArch = 0;
#endif
constexpr bool kHasAmpereMma = kArch >= 800;        // m16n8k16 for f16 and bf16, maxima that keep NaN, redux
constexpr bool kHasBlackwellMma = kArch >= 1200;    // whose compiler back end schedules otherwise
constexpr bool kHasDependentLaunch = kArch >= 900;  // griddepcontrol
constexpr bool kHasBulkCopy = kArch >= 900;         // cp.async.bulk: one thread copies a tile
constexpr bool kHasClusters = kArch / 10 == 90;  // blocks that write each other's shared memory; used on Hopper alone

constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: the low bits of x + kMagic are round-half-even(x)

// Which of the two leaves the tightest kernels without spills depends on the compiler's back end (any/README.md).
__device__ __forceinline__ int lane() {
  if constexpr (kArch >= 1000) {
    return static_cast<int>(threadIdx.x & 31);
  } else {
    uint32_t r;
    asm("mov.u32 %0, %%laneid;" : "=r"(r));
    return static_cast<int>(r);
  }
}
__device__ __forceinline__ int warp() { return static_cast<int>(threadIdx.x >> 5); }

struct alignas(16) Word4 {
  uint32_t x, y, z, w;
};

// Global memory read once: past the L1.
__device__ __forceinline__ Word4 load_once(const void* p) {
  Word4 r;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "l"(p));
  return r;
}
// Into the L2.
__device__ __forceinline__ void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
// Written by a grid this one may overlap with: through the L2, and not before await_previous_grid().
__device__ __forceinline__ float load_fresh(const float* p) {
  float r;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(r) : "l"(p) : "memory");
  return r;
}

__device__ __forceinline__ uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
// Four floats kMagic + n to four bytes n.
__device__ __forceinline__ uint32_t pack_bytes(float a, float b, float c, float d) {
  const uint32_t low = prmt(__float_as_uint(a), __float_as_uint(b), 0x0040);
  const uint32_t high = prmt(__float_as_uint(c), __float_as_uint(d), 0x0040);
  return prmt(low, high, 0x5410);
}

// Bit i: whether byte i is not 0.
__device__ __forceinline__ uint32_t true_bytes(uint32_t x) {
  const uint32_t high = (((x & 0x7f7f7f7fu) + 0x7f7f7f7fu) | x) & 0x80808080u;
  return (high >> 7) * 0x10204080u >> 28;
}

// 1 / x to one unit in the last place; x a normal number.
__device__ __forceinline__ float reciprocal(float x) {
  float r;
  asm("rcp.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// x / y to two units in the last place, over the whole range.
__device__ __forceinline__ float divide(float x, float y) {
  float r;
  asm("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}

// max(m, |x|) that keeps NaN. REQUIRES m >= 0 or NaN.
__device__ __forceinline__ float max_abs(float m, float x) {
  if constexpr (kHasAmpereMma) {
    float r;
    asm("{.reg .f32 t; abs.f32 t, %2; max.NaN.f32 %0, %1, t;}" : "=f"(r) : "f"(m), "f"(x));
    return r;
  } else {  // of non-negative floats the integers have the same order, NaN above all
    return __uint_as_float(max(__float_as_uint(m), __float_as_uint(x) & 0x7fffffffu));
  }
}
// The larger of two, NaN if one is.
__device__ __forceinline__ float max_or_nan(float a, float b) {
  if constexpr (kHasAmpereMma) {
    float r;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
  } else {
    return a != a ? a : !(b <= a) ? b : a;
  }
}
// The same as max_abs over all lanes, for m >= 0 or NaN.
__device__ __forceinline__ float max_of_warp(float m) {
  if constexpr (kHasAmpereMma) {
    uint32_t r;
    asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(r) : "r"(__float_as_uint(m)));
    return __uint_as_float(r);
  } else {
    for (int i = 16; i; i >>= 1) m = max_abs(m, __shfl_xor_sync(~0u, m, i));
    return m;
  }
}
// NaN unless x is finite; x otherwise.
__device__ __forceinline__ float finite_or_nan(float x) { return fmaf(x, 0.0f, x); }

// c + a b: a 16 x 16 row-major, b 16 x 8, f32 accumulation; fragments of PTX ISA "mma.m16n8k16".
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (kHasAmpereMma) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {  // two halves of the sum
#pragma unroll
    for (int half = 0; half < 2; half++)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
}

// Programmatic dependent launch; without it grids do not overlap and both do nothing.
__device__ __forceinline__ void let_next_grid_start() {
  if constexpr (kHasDependentLaunch) asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
__device__ __forceinline__ void await_previous_grid() {
  if constexpr (kHasDependentLaunch) asm volatile("griddepcontrol.wait;" ::: "memory");
}

// x, computed anew where it is used: the compiler cannot tell that two of them are the same.
template <class T>
__device__ __forceinline__ T opaque(T x) {
  asm volatile("" : "+r"(x));
  return x;
}
// The sum of both halves.
__device__ __forceinline__ int sum_halves(uint32_t x) {
  int r;
  asm("dp2a.lo.u32.u32 %0, %1, %2, %3;" : "=r"(r) : "r"(x), "r"(0x0101), "r"(0));
  return r;
}
// Where x is known, before anything after it: ptxas would put off what makes x until after a wait that comes next. The event (x >= 2^31) does
// nothing and nobody counts it.
__device__ __forceinline__ void settle(uint32_t x) {
  if (static_cast<int>(x) < 0) asm volatile("pmevent 0;");
}
// 2^x to two units in the last place; results below 2^-126 are 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
__device__ __forceinline__ float log2_fast(float x) {
  float r;
  asm("lg2.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
// a b + c, rounded down.
__device__ __forceinline__ float fma_down(float a, float b, float c) {
  float r;
  asm("fma.rm.f32 %0, %1, %2, %3;" : "=f"(r) : "f"(a), "f"(b), "f"(c));
  return r;
}
// Two floats as f16 or bf16, `low` in the low half; f16 rounds to subnormals too.
__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
  uint32_t r;
  if constexpr (kHasAmpereMma) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  } else {
    asm("{.reg .f16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}"
        : "=r"(r)
        : "f"(low), "f"(high));
  }
  return r;
}
// bf16 nearest even; NaN stays NaN.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  if constexpr (kHasAmpereMma) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
  } else {
    const uint32_t x = __float_as_uint(low), y = __float_as_uint(high);
    const uint32_t l = low != low ? 0x7fc00000u : x + 0x7fffu + (x >> 16 & 1);
    const uint32_t h = high != high ? 0x7fc00000u : y + 0x7fffu + (y >> 16 & 1);
    return prmt(l, h, 0x7632);
  }
}
__device__ __forceinline__ float unpack_f16(uint16_t x) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
  return r;
}
// max(m, |x|) of both halves, which keeps NaN. Ampere on.
__device__ __forceinline__ uint32_t max_abs_bf16x2(uint32_t m, uint32_t x) {
  uint32_t r;
  asm("{.reg .b32 t; abs.bf16x2 t, %2; max.NaN.bf16x2 %0, %1, t;}" : "=r"(r) : "r"(m), "r"(x));
  return r;
}
__device__ __forceinline__ uint32_t max_abs_f16x2(uint32_t m, uint32_t x) {
  uint32_t r;
  asm("{.reg .b32 t; abs.f16x2 t, %2; max.NaN.f16x2 %0, %1, t;}" : "=r"(r) : "r"(m), "r"(x));
  return r;
}

// An address in shared memory.
using Shared = uint32_t;
__device__ __forceinline__ uint8_t* dynamic_shared() {
  extern __shared__ __align__(1024) uint8_t bytes[];
  return bytes;
}
__device__ __forceinline__ Shared shared_address(const void* p) {
  return static_cast<Shared>(__cvta_generic_to_shared(p));
}

// Copies that run on: what is committed is there, for this thread, after await_copies(). Turing copies at once. kAt: bytes further on
// both sides; an instruction has room for -2048 .. 2047.
template <int kAt = 0>
__device__ __forceinline__ void copy16(Shared to, const void* from) {
  if constexpr (kHasAmpereMma) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0 + %2], [%1 + %2], 16;" ::"r"(to), "l"(from), "n"(kAt)
                 : "memory");
  } else {
    const Word4 x = load_once(static_cast<const char*>(from) + kAt);
    asm volatile("st.shared.v4.u32 [%0 + %5], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w),
                 "n"(kAt)
                 : "memory");
  }
}
__device__ __forceinline__ void copy4(Shared to, const float* from) {
  if constexpr (kHasAmpereMma) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
  } else {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(*from) : "memory");
  }
}
__device__ __forceinline__ void commit_copies() {
  if constexpr (kHasAmpereMma) asm volatile("cp.async.commit_group;" ::: "memory");
}
__device__ __forceinline__ void await_copies() {
  if constexpr (kHasAmpereMma) asm volatile("cp.async.wait_group 0;" ::: "memory");
}

// A cluster's barrier, in two halves that take turns: what a thread wrote before it arrives, all see that have waited; with show_in_cluster()
// nothing, but that it runs. Threads that have exited are not waited for.
__device__ __forceinline__ void show_in_cluster() {
  if constexpr (kHasClusters) asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void arrive_in_cluster() {
  if constexpr (kHasClusters) asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
}
__device__ __forceinline__ void await_cluster() {
  if constexpr (kHasClusters) asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}
// To where block `rank` of the cluster has what is at `own` here.
__device__ __forceinline__ void put_in_cluster(Shared own, int rank, uint32_t x) {
  if constexpr (kHasClusters)
    asm volatile(
        "{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; st.shared::cluster.u32 [there], %2;}" ::"r"(own),
        "r"(rank), "r"(x)
        : "memory");
}

// Four registers to shared memory and back. The compiler does not look through it.
__device__ __forceinline__ void put4(Shared to, const uint32_t (&x)[4]) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
               : "memory");
}
__device__ __forceinline__ void get4(Shared from, uint32_t (&x)[4]) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(from)
               : "memory");
}

// Bulk copies, with a barrier that counts their bytes: 8 bytes of shared memory, made by one thread before the block's first __syncthreads.
__device__ __forceinline__ void make_barrier(Shared barrier) {
  if constexpr (kHasBulkCopy)
    asm volatile("mbarrier.init.shared.b64 [%0], 1; fence.mbarrier_init.release.cluster;" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void expect_bytes(Shared barrier, int bytes) {
  if constexpr (kHasBulkCopy)
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_bulk(Shared to, const void* from, int bytes, Shared barrier) {
  if constexpr (kHasBulkCopy)
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}
// Waits until the barrier's phase of this parity is complete.
__device__ __forceinline__ void await_bytes(Shared barrier, int parity) {
  if constexpr (kHasBulkCopy)
    asm volatile(
        "{.reg .pred done;\n"
        "$again_%=: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        "@!done bra $again_%=;}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// Four 8 x 8 matrices of 16-bit elements; lanes 8 i .. 8 i + 7 give the rows of matrix i. Lane l gets elements 2 (l % 4), + 1 of row
// l / 4 of each.
__device__ __forceinline__ void load_matrices(uint32_t (&m)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row));
}

// d = c + a b: a 16 x 32 row-major, b 32 x 8, exact in int32; fragments of PTX ISA "mma.m16n8k32". Signed and unsigned bytes.
// Turing: four m8n8k16, whose fragments are the halves of these.
#define CLARY_MMA_BYTES(name, type)                                                                                   \
  __device__ __forceinline__ void name(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, int c0, int c1, \
                                       int c2, int c3) {                                                              \
    if constexpr (kHasAmpereMma) {                                                                                    \
      asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." type "." type                                             \
                   ".s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"                         \
                   : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])                                                   \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(c0), "r"(c1), "r"(c2),         \
                     "r"(c3));                                                                                        \
    } else {                                                                                                          \
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." type "." type ".s32 {%0, %1}, {%2}, {%3}, {%4, %5};"       \
                   : "=r"(d[0]), "=r"(d[1])                                                                           \
                   : "r"(a[0]), "r"(b0), "r"(c0), "r"(c1));                                                           \
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." type "." type ".s32 {%0, %1}, {%2}, {%3}, {%4, %5};"       \
                   : "=r"(d[2]), "=r"(d[3])                                                                           \
                   : "r"(a[1]), "r"(b0), "r"(c2), "r"(c3));                                                           \
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." type "." type ".s32 {%0, %1}, {%2}, {%3}, {%0, %1};"       \
                   : "+r"(d[0]), "+r"(d[1])                                                                           \
                   : "r"(a[2]), "r"(b1));                                                                             \
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." type "." type ".s32 {%0, %1}, {%2}, {%3}, {%0, %1};"       \
                   : "+r"(d[2]), "+r"(d[3])                                                                           \
                   : "r"(a[3]), "r"(b1));                                                                             \
    }                                                                                                                 \
  }
CLARY_MMA_BYTES(mma_s8, "s8")
CLARY_MMA_BYTES(mma_u8, "u8")
#undef CLARY_MMA_BYTES

}  // namespace clary::cuda
#endif
