// The kernels emulated, on host memory.
#include <algorithm>
#include <cstring>

#include "kernels.h"
#include "tests/cuda/attention_check.h"

namespace clary::test {
namespace {

#define CLARY_TEXT_OF(x) #x
#define CLARY_TEXT(x) CLARY_TEXT_OF(x)

// Without codes, from the quantiser's.
AttentionRun emulate(Instance& instance, const cuda::AttentionVariant& variant, const std::vector<char>* given) {
  AttentionRun r;
  instance.out.poison();
  instance.lse.poison();
  const Problem p = instance.problem();
  if (Status s = cuda::plan_quantise(p, variant.quantise(p), &r.quantised); !s)
    return r.fault = s.message(), std::move(r);
  if (Status s = cuda::plan_attention(p, variant, &r.plan); !s) return r.fault = s.message(), std::move(r);
  std::vector<char> codes(r.quantised.workspace + 256, 0x55), parts(r.plan.workspace + 256, 0x55);
  char* const first = codes.data() + (256 - reinterpret_cast<uintptr_t>(codes.data()) % 256) % 256;
  cuda::bind(&r.quantised, first);
  cuda::bind(&r.plan, r.quantised, parts.data());
  bool found = true;
  if (given) {
    std::memcpy(first, given->data(), std::min<size_t>(given->size(), r.quantised.workspace));
  } else {
    const cuda::QuantiseArgs& q = r.quantised.args;
    if (r.quantised.values_blocks)
      found = emulation::run(r.quantised.values_kernel, r.quantised.values_blocks, 256, 0, q);
    found = found && emulation::run(r.quantised.quantise_kernel, r.quantised.quantise_blocks, 256, 0, q);
  }
  if (r.plan.blocks)
    found = found && emulation::run(variant.kernel, r.plan.blocks, static_cast<uint32_t>(variant.threads),
                                    static_cast<size_t>(variant.shared_bytes), r.plan.args);
  if (r.plan.combine_blocks) found = found && emulation::run("combine", r.plan.combine_blocks, 128, 0, r.plan.args);
  if (!found) return r.fault = "no such kernel", std::move(r);
  r.codes.assign(first, codes.data() + codes.size());
  r.out = instance.out.values();
  if (p.lse.present()) r.lse = instance.lse.values();
  if (!instance.out.gaps_untouched() || (p.lse.present() && !instance.lse.gaps_untouched()))
    r.fault = "a gap of out or lse was written";
  return r;
}

class Emulated : public Machine {
 public:
  const char* name() const override { return "emu:" CLARY_TEXT(CLARY_EMULATED_SM); }
  int sm() const override { return CLARY_EMULATED_ARCH / 10; }
  bool quick() const override { return false; }
  AttentionRun run(Instance& instance, const cuda::AttentionVariant& variant) override {
    return emulate(instance, variant, nullptr);
  }
};

}  // namespace

AttentionRun emulate_attention(Instance& instance, const cuda::AttentionVariant& variant,
                               const std::vector<char>& codes) {
  return emulate(instance, variant, &codes);
}

Machine* emulated_machine() {
  static Emulated emulated;
  return &emulated;
}

}  // namespace clary::test
