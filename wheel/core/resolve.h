// Which of the wheels on offer fits a machine: every candidate passes or has the first reason why not, and those that pass
// are ranked. Pure: no disk, no network; 3,000 wheels take milliseconds.
#pragma once
#include "wheel/core/manifest.h"
#include "wheel/core/target.h"

namespace clary::tool {

struct Wish {
  std::string name;  // normal form; empty: whatever is offered, if it is one project
  Specifier versions;
  bool pre = false;
  bool keep_torch = true;  // the torch that is there must fit; false: it is installed with the wheel
  uint64_t free_bytes = ~uint64_t{0};
};
Result<Wish> parse_wish(const std::string& text);  // "sageattention>=2.2"

struct Candidate {
  const WheelEntry* wheel;
  std::string rule{}, reason{};  // why not; empty: it fits. rule: one word, "python"
  std::string note{};            // of one that fits: what it costs
  int code = 0;                  // how its GPU code fits: 3 native, 2 family, 1 lower minor, 0 none needed, -1 PTX
  bool fits() const { return rule.empty(); }
};

// Those that fit first, the best at the top; the others in the order of the manifest.
std::vector<Candidate> resolve(const Manifest& manifest, const Wish& wish, const Target& target);
std::string candidates_table(const std::vector<Candidate>& candidates);

}  // namespace clary::tool
