// Attention on Hopper: entries from the table. As many blocks as multiprocessors; in each, warpgroup 0 loads and the others compute.
#include "loader.cuh"
#include "mainloop.cuh"

namespace clary::cuda {

template <class C>
__device__ __forceinline__ void attention(const AttentionArgs& a) {
  constexpr int kBytes = hopper_shared_bytes(C::kDim, C::kRows, C::kStages);
  static_assert(sizeof(Block<C>) <= kBytes);
  constexpr int kFromMagic =
      sizeof(Block<C>::magic) + sizeof(Block<C>::k_scale) + sizeof(Block<C>::unit) + sizeof(Block<C>::barriers);
  static_assert(sizeof(Block<C>) - kFromMagic + C::kKeys * 32 <= kBytes);  // what memcheck takes kMagicRow for
  Block<C>& block = *reinterpret_cast<Block<C>*>(dynamic_shared());
  auto& barriers = block.barriers;
  if (threadIdx.x < 32) {
    block.magic[threadIdx.x / 4][threadIdx.x % 4] = kMagicRow[threadIdx.x % 4];
    show_to_products();
  }
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; i++) {
      make_barrier(shared_address(&barriers.described[i]), 1);
      make_barrier(shared_address(&barriers.q_full[i]), 32 * kBringers);
      make_barrier(shared_address(&barriers.q_empty[i]), 128 * C::kGroups);
    }
    for (int i = 0; i < C::kStages; i++) {
      make_barrier(shared_address(&barriers.k_full[i]), 1);
      make_barrier(shared_address(&barriers.v_full[i]), 1);
      make_barrier(shared_address(&barriers.k_empty[i]), 4 * C::kGroups);
      make_barrier(shared_address(&barriers.v_empty[i]), 4 * C::kGroups);
    }
    make_barrier(shared_address(&barriers.wanted), 1);
    for (int i = 0; i < C::kGroups * 4; i++) make_barrier(shared_address(&barriers.turn[i / 4][i % 4]), 1);
    show_barriers();
  }
  __syncthreads();
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) >> 7, 0);
  if (group == 0) {
    give_registers<C::kLoaderRegisters>();
    if (warp() < kBringers) {
      bring_queries<C>(a, block, warp());
    } else if (lane() == 0) {
      bring_keys<C>(a, block);
    }
  } else {
    take_registers<C::kConsumerRegisters>();
    Consumer<C>(a, block, group - 1).run();
  }
}

}  // namespace clary::cuda

#define CLARY_HOPPER(values, accuracy, dim, groups, stages, consumer, loader)                   \
  extern "C" __global__ void __launch_bounds__(128 * ((groups) + 1), 1)                         \
      attention_##values##_hopper_##dim(const __grid_constant__ clary::cuda::AttentionArgs a) { \
    clary::cuda::attention<clary::cuda::Tile<dim, groups, stages, consumer, loader>>(a);        \
  }
#include "variants.def"
