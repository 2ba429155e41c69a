// AVX-512 with VNNI and VBMI: Ice Lake and later, Zen 4, Zen 5.
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
extern const Target target_avx512vbmi;
const Target target_avx512vbmi =
    target_of<Avx512<true, true>>("avx512vbmi", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Vbmi);
}  // namespace clary::cpu
