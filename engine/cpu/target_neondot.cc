// NEON with 8-bit dot products: Cortex-A76, Neoverse N1 and later.
#include <arm_neon.h>

#include <type_traits>
#include <utility>

#include "engine/cpu/kernel.h"

namespace clary::cpu {
namespace {
#include "engine/cpu/vec-inl.h"
//
#include "engine/cpu/isa/neon-inl.h"
//
#include "engine/cpu/attention-inl.h"
}  // namespace
extern const Target target_neondot;
const Target target_neondot = target_of<Neon>("neondot", kNeon | kNeonDot);
}  // namespace clary::cpu
