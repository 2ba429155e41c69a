// Hopper's own instructions: matrix products of a warpgroup, barriers that count arrivals, registers that change hands.
#pragma once
#include "../common/ptx.cuh"

namespace clary::cuda {

// ---- matrix products ---------------------------------------------------------------------------------------------------
// d (+)= a b: a 64 x 32 bytes, b 32 x n bytes from shared memory, exact in int32. A thread (warp w, g = lane / 4, t = lane % 4) has of
// d rows 16 w + g (d[4 j], d[4 j + 1]) and 16 w + g + 8 (d[4 j + 2], d[4 j + 3]) of columns 8 j + 2 t, + 1.
// Issued, not done: between product_begin() and await_products() nothing may touch d.

// A matrix in shared memory, its rows of kWidth = 64 or 128 bytes swizzled as layout.h has it. Only the low word moves with the address.
__device__ __forceinline__ uint32_t matrix_at(Shared address) { return address >> 4 | 1u << 16; }
template <int kWidth>
__device__ __forceinline__ uint64_t descriptor(uint32_t matrix, int offset) {
  uint64_t d;
  asm("mov.b64 %0, {%1, %2};"
      : "=l"(d)
      : "r"(matrix + (offset >> 4)), "r"(8 * kWidth >> 4 | (kWidth == 128 ? 1u : 2u) << 30));
  return d;
}

__device__ __forceinline__ void product_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// The compiler keeps reads of d behind the wait only if d is named after it.
template <int kCount>
__device__ __forceinline__ void await_products(int (&d)[kCount]) {
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "+r"(d[i])::"memory");
}

#define CLARY_D4(i) "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3])
#define CLARY_D16(i) CLARY_D4(i), CLARY_D4(i + 4), CLARY_D4(i + 8), CLARY_D4(i + 12)
#define CLARY_LIST32                                                                                               \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define CLARY_LIST64                                                                                                 \
  CLARY_LIST32                                                                                                       \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
  "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// Scores: s8 by s8, both in shared memory, 128 columns. kAdd: to what d holds.
template <bool kAdd>
__device__ __forceinline__ void multiply_s8(int (&d)[64], uint64_t a, uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {" CLARY_LIST64 "}, %64, %65, p;}"
      : CLARY_D16(0), CLARY_D16(16), CLARY_D16(32), CLARY_D16(48)
      : "l"(a), "l"(b), "n"(kAdd));
}
// d = kMagic everywhere, a float that s8 products are then added to as bits: a product of e5m2 numbers. The rows of both sides are all the
// same 16 bytes, twice, at `row`: eight times kMagicRow in shared memory, which steps of 0 make a matrix of any size.
constexpr uint32_t kMagicRow[4] = {0x00646468, 0, 0, 0};  // 2048, 1024, 1024: 2 (2048^2 + 2 * 1024^2) = kMagic
__device__ __forceinline__ void start_at_magic(int (&d)[64], Shared row) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e5m2.e5m2 {" CLARY_LIST64 "}, %64, %65, p, 1, 1;}"
      : CLARY_D16(0), CLARY_D16(16), CLARY_D16(32), CLARY_D16(48)
      : "l"(static_cast<uint64_t>(row >> 4)), "l"(static_cast<uint64_t>(row >> 4)), "n"(0));
}
// P V: u8 by u8, a in registers as mma.m16n8k32 has it; 64 or 128 columns.
template <bool kAdd>
__device__ __forceinline__ void multiply_u8(int (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.s32.u8.u8 {" CLARY_LIST32 "}, {%32, %33, %34, %35}, %36, p;}"
      : CLARY_D16(0), CLARY_D16(16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd));
}
template <bool kAdd>
__device__ __forceinline__ void multiply_u8(int (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.u8.u8 {" CLARY_LIST64 "}, {%64, %65, %66, %67}, %68, p;}"
      : CLARY_D16(0), CLARY_D16(16), CLARY_D16(32), CLARY_D16(48)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd));
}
#undef CLARY_D4
#undef CLARY_D16
#undef CLARY_LIST32
#undef CLARY_LIST64

// ---- threads -----------------------------------------------------------------------------------------------------------

// Registers of the threads of a warpgroup from here on; every warp of it must say so.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
// Waits for the kThreads threads that meet at barrier `barrier` > 0; 0 is __syncthreads'.
template <int kThreads>
__device__ __forceinline__ void await_threads(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kThreads) : "memory");
}

// A barrier (await_bytes, expect_bytes: common/ptx.cuh) that takes `count` arrivals a phase.
__device__ __forceinline__ void make_barrier(Shared barrier, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
__device__ __forceinline__ void show_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void arrive(Shared barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Bytes of bulk copies that the phase waits for besides its arrivals, of which one is still to come.
__device__ __forceinline__ void expect_more_bytes(Shared barrier, int bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// What this thread has stored in shared memory, for the matrix products of others to read.
__device__ __forceinline__ void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace clary::cuda
