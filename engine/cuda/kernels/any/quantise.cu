// Preprocessing in two grids: statistics, then Q, V and K in one. K comes last: it alone waits for the statistics.
#include "engine/cuda/args.h"

#include "rows.cuh"
#include "statistics.cuh"
#include "values.cuh"

namespace clary::cuda {

// The table's number is for sm_80 and sm_90. Turing has no MMA for bf16 and f32, and the rotation's shuffles need registers; the compiler for
// sm_100 and above spills at the 80 registers that three blocks leave.
constexpr int blocks_per_sm(int blocks) {
  const bool one_less = !kHasAmpereMma || (kArch >= 1000 && blocks == 3);
  return one_less && blocks > 1 ? blocks - 1 : blocks;
}

template <class T, int D>
__device__ __forceinline__ void quantise(const QuantiseArgs& a) {
  __shared__ Slab<T> slabs[8];
  __shared__ union {
    struct {
      float mean[D], maxima[8];
    } rows;
    ValueMaxima<T> values;
  } s;
  let_next_grid_start();
  int item = static_cast<int>(blockIdx.x);
  if (item < a.q_items) return quantise_queries<T, D>(a, item, slabs, s.rows.mean);
  item -= a.q_items;
  if (item < a.v_items) return quantise_values<T>(a, item, slabs, s.values);
  quantise_keys<T, D>(a, item - a.v_items, slabs, s.rows.mean, s.rows.maxima);
}

}  // namespace clary::cuda

#define CLARY_STATISTICS(dtype, type)                                           \
  extern "C" __global__ void __launch_bounds__(256, 4)                          \
      statistics_##dtype(const __grid_constant__ clary::cuda::QuantiseArgs a) { \
    __shared__ float shared[256 * 8];                                           \
    clary::cuda::statistics<clary::cuda::type>(a, shared);                      \
  }
#define CLARY_QUANTISE(dtype, type, dim, blocks)                                        \
  extern "C" __global__ void __launch_bounds__(256, clary::cuda::blocks_per_sm(blocks)) \
      quantise_##dtype##_##dim(const __grid_constant__ clary::cuda::QuantiseArgs a) {   \
    clary::cuda::quantise<clary::cuda::type, dim>(a);                                   \
  }
#include "variants.def"
