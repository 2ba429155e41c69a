// The baseline of the architecture: runs everywhere.
#include <type_traits>
#include <utility>

#include "engine/cpu/kernel.h"

namespace clary::cpu {
namespace {
#include "engine/cpu/vec-inl.h"
//
#include "engine/cpu/isa/scalar-inl.h"
//
#include "engine/cpu/attention-inl.h"
}  // namespace
extern const Target target_scalar;
const Target target_scalar = target_of<Scalar>("scalar", 0);
}  // namespace clary::cpu
