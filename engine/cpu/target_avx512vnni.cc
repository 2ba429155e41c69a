// AVX-512 with VNNI: Cascade Lake.
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
extern const Target target_avx512vnni;
const Target target_avx512vnni = target_of<Avx512<true, false>>("avx512vnni", kAvx2 | kAvx512 | kAvx512Vnni);
}  // namespace clary::cpu
