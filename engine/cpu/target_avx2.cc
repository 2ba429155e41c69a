// AVX2, FMA, F16C: Haswell, Zen 1 and later.
#include <immintrin.h>

#include <type_traits>
#include <utility>

#include "engine/cpu/kernel.h"

namespace clary::cpu {
namespace {
#include "engine/cpu/vec-inl.h"
//
#include "engine/cpu/isa/avx2-inl.h"
//
#include "engine/cpu/attention-inl.h"
}  // namespace
extern const Target target_avx2;
const Target target_avx2 = target_of<Avx2<false>>("avx2", kAvx2);
}  // namespace clary::cpu
