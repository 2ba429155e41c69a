// For tests: the amx target with its tile instructions written out, for CPUs without AMX.
#define CLARY_AMX_EMULATE
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
extern const Target target_amx_emulated;
const Target target_amx_emulated = target_of<Amx>("amx_emulated", kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Vbmi);
}  // namespace clary::cpu
