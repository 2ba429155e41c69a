// AVX-VNNI: Alder Lake and later, Zen 5.
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
extern const Target target_avxvnni;
const Target target_avxvnni = target_of<Avx2<true>>("avxvnni", kAvx2 | kAvxVnni);
}  // namespace clary::cpu
