// NEON with 8-bit matrix products: Neoverse V1, N2 and later, Apple M2.
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
extern const Target target_neoni8mm;
const Target target_neoni8mm = target_of<Neon>("neoni8mm", kNeon | kNeonDot | kNeonI8mm);
}  // namespace clary::cpu
