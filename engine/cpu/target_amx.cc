// AMX with 8-bit integers: Sapphire Rapids and later.
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
#include "engine/cpu/isa/amx-inl.h"
//
#include "engine/cpu/attention-inl.h"
}  // namespace
extern const Target target_amx;
const Target target_amx = target_of<Amx>("amx", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Vbmi | kAmxInt8);
}  // namespace clary::cpu
