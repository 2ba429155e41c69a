// The kernels' source compiled for the host, and its entries by name.
#include CLARY_PTX

#include "engine/cuda/kernels/any/quantise.cu"
#undef CLARY_VALUES
#undef CLARY_QUANTISE
#include "engine/cuda/kernels/mma/attention.cu"
#undef CLARY_ATTENTION

#include "kernels.h"

namespace clary::emulation {
namespace {

struct Entry {
  const char* name;
  void (*quantise)(cuda::QuantiseArgs);
  void (*attention)(cuda::AttentionArgs);
};
constexpr Entry kEntries[] = {
#define CLARY_VALUES(dtype, type, blocks) {"values_" #dtype, values_##dtype, nullptr},
#define CLARY_QUANTISE(dtype, type, dim, blocks) {"quantise_" #dtype "_" #dim, quantise_##dtype##_##dim, nullptr},
#include "engine/cuda/kernels/any/variants.def"
#define CLARY_ATTENTION(values, accuracy, mask, dim, rows, keys, warps, stages, parked, blocks, from_sm, to_sm) \
  {"attention_" #values "_" #mask "_" #dim "_" #rows "x" #keys "x" #stages, nullptr,                            \
   attention_##values##_##mask##_##dim##_##rows##x##keys##x##stages},
#include "engine/cuda/kernels/mma/variants.def"
    {"combine", nullptr, combine},
};

const Entry* find(const char* name) {
  for (const Entry& e : kEntries)
    if (std::strcmp(e.name, name) == 0) return &e;
  return nullptr;
}

}  // namespace

bool run(const char* kernel, uint32_t blocks, uint32_t threads, size_t shared_bytes, const cuda::QuantiseArgs& args) {
  const Entry* e = find(kernel);
  if (!e || !e->quantise) return false;
  run_grid(blocks, threads, shared_bytes, [&] { e->quantise(args); });
  return true;
}
bool run(const char* kernel, uint32_t blocks, uint32_t threads, size_t shared_bytes, const cuda::AttentionArgs& args) {
  const Entry* e = find(kernel);
  if (!e || !e->attention) return false;
  run_grid(blocks, threads, shared_bytes, [&] { e->attention(args); });
  return true;
}

}  // namespace clary::emulation
