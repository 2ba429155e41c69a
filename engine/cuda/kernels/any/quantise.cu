// Preprocessing: a grid of what is known of K and V before their codes, with V's codes where they need no waiting; one of Q and K; one of V's codes
// otherwise. Q comes before who waits.
#include "engine/cuda/args.h"

#include "rows.cuh"
#include "statistics.cuh"
#include "values.cuh"

namespace clary::cuda {

// The table's number is for sm_90. sm_80 spills at the 64 registers that four blocks leave; Turing has no MMA for bf16 and f32, and the
// rotation's shuffles need registers; the compiler for sm_100 and above spills at the 80 that three blocks leave.
constexpr int blocks_per_sm(int blocks) {
  const int most = kArch / 10 == 90 ? blocks : kArch >= 1000 ? 2 : kHasAmpereMma ? 3 : blocks > 2 ? 2 : 1;
  return blocks < most ? blocks : most;
}

template <class T>
__device__ __forceinline__ void values(const QuantiseArgs& a) {
  __shared__ union {
    float sums[256 * 8];
    struct {
      Slab<T> slabs[8];
      ValueMaxima<T> maxima;
    } values;
  } s;
  let_next_grid_start();
  const int item = static_cast<int>(blockIdx.x);
  if (item < a.s_items) return statistics<T>(a, item, s.sums);
  quantise_values<T>(a, item - a.s_items, s.values.slabs, s.values.maxima);
}

template <class T, int D>
__device__ __forceinline__ void quantise(const QuantiseArgs& a) {
  __shared__ Slab<T> slabs[8];
  __shared__ float mean[D], maxima[8];
  let_next_grid_start();
  const int item = static_cast<int>(blockIdx.x);
  if (item == 0 && threadIdx.x == 0) *a.taken = 0;
  if (item >= a.q_items) return quantise_keys<T, D>(a, item - a.q_items, slabs, mean, maxima);
  quantise_queries<T, D>(a, item, slabs, mean);
}

}  // namespace clary::cuda

#define CLARY_VALUES(dtype, type, blocks)                                               \
  extern "C" __global__ void __launch_bounds__(256, clary::cuda::blocks_per_sm(blocks)) \
      values_##dtype(const __grid_constant__ clary::cuda::QuantiseArgs a) {             \
    clary::cuda::values<clary::cuda::type>(a);                                          \
  }
#define CLARY_QUANTISE(dtype, type, dim, blocks)                                        \
  extern "C" __global__ void __launch_bounds__(256, clary::cuda::blocks_per_sm(blocks)) \
      quantise_##dtype##_##dim(const __grid_constant__ clary::cuda::QuantiseArgs a) {   \
    clary::cuda::quantise<clary::cuda::type, dim>(a);                                   \
  }
#include "variants.def"
