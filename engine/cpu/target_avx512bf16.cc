// AVX-512 with VNNI, VBMI and BF16: Sapphire Rapids, Zen 4, Zen 5.
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
extern const Target target_avx512bf16;
const Target target_avx512bf16 =
    target_of<Avx512<true, true, true>>("avx512bf16", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Vbmi | kAvx512Bf16);
}  // namespace clary::cpu
