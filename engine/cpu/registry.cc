// The table of compiled targets: cpu_targets.inc (cmake/targets.cmake) lists them, lowest first.
#include <cstring>

#include "engine/cpu/kernel.h"

namespace clary::cpu {

#define CLARY_CPU_TARGET(name) extern const Target target_##name;
#include "cpu_targets.inc"
#undef CLARY_CPU_TARGET

namespace {
const Target* const kTargets[] = {
#define CLARY_CPU_TARGET(name) &target_##name,
#include "cpu_targets.inc"
#undef CLARY_CPU_TARGET
};
constexpr int kCount = sizeof kTargets / sizeof kTargets[0];
}  // namespace

TargetList targets() { return {kTargets, kCount}; }

const Target* best_target(uint32_t features) {
  for (int i = kCount - 1; i > 0; i--)
    if ((kTargets[i]->needs & features) == kTargets[i]->needs) return kTargets[i];
  return kTargets[0];
}

const Target* find_target(const char* name) {
  for (const Target* t : kTargets)
    if (std::strcmp(t->name, name) == 0) return t;
  return nullptr;
}

}  // namespace clary::cpu
