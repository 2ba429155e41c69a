// AVX-512 F, BW, DQ, VL, CD: Skylake-X.
#include <immintrin.h>

#include <type_traits>
#include <utility>

#include "engine/cpu/kernel.h"

namespace clary::cpu {
namespace {
#include "engine/cpu/vec-inl.h"
//
#include "engine/cpu/isa/avx512-inl.h"
//
#include "engine/cpu/attention-inl.h"
}  // namespace
extern const Target target_avx512;
const Target target_avx512 = target_of<Avx512<false, false>>("avx512", kAvx2 | kAvx512);
}  // namespace clary::cpu
