// For tests: the avxvnni target with its dot product in the AVX-512 encoding, for CPUs without AVX-VNNI.
#define CLARY_AVXVNNI_AS_EVEX
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
extern const Target target_avxvnni_evex;
const Target target_avxvnni_evex = target_of<Avx2<true>>("avxvnni_evex", kAvx2 | kAvx512 | kAvx512Vnni);
}  // namespace clary::cpu
