// Quantiser and attention kernel together, on a GPU or emulated, and what their result must be.
#pragma once
#include <string>
#include <vector>

#include "engine/cuda/attention.h"
#include "tests/support.h"

namespace clary::test {

struct AttentionRun {
  std::string fault;  // what went wrong before there was a result
  cuda::QuantisePlan quantised;
  cuda::AttentionPlan plan;
  std::vector<char> codes;      // the quantiser's workspace, from its first multiple of 256
  std::vector<float> out, lse;  // [B, Hq, Lq, Dv], [B, Hq, Lq]
};

// Where kernels run.
class Machine {
 public:
  virtual ~Machine() = default;
  virtual const char* name() const = 0;  // "emu:sm80", "gpu:sm80"
  virtual int sm() const = 0;            // whose code it runs
  virtual bool quick() const = 0;        // thousands of calls are a matter of seconds
  // Runs `variant` with all memory that is written poisoned before; another byte than out and lse having changed is a fault.
  virtual AttentionRun run(Instance& instance, const cuda::AttentionVariant& variant) = 0;
};
Machine* gpu_machine(std::string* why);  // null with a reason if there is none
Machine* emulated_machine();
// The attention kernels emulated on codes that a run of the same call left behind (AttentionRun::codes).
AttentionRun emulate_attention(Instance& instance, const cuda::AttentionVariant& variant,
                               const std::vector<char>& codes);

// "" or the first fault: against f64 attention of the codes with a bound that follows from rounding P alone, and the contract's rules about rows
// without keys and values that are not finite.
std::string attention_fault(const Instance& instance, const AttentionRun& run);

}  // namespace clary::test
