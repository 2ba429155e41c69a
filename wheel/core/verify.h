// The rules, applied. Each check_* function looks at one file's facts and reports what its rules find; none opens a file.
#pragma once
#include <set>
#include <string>

#include "wheel/core/facts.h"
#include "wheel/core/finding.h"
#include "wheel/core/policy.h"

namespace clary::tool {

struct Against {  // a torch to check symbols with: what its libraries export; none: empty name
  std::string name;
  std::set<std::string, std::less<>> exports;
};

class Verifier {
 public:
  Verifier(const FileFacts& facts, const Policy& policy, const Against& against)
      : facts(facts), policy(policy), against(against) {}

  // REQUIRES: `id` is in rules.def. Findings of a rule that the policy turns off are dropped.
  void add(std::string_view id, std::string where, std::string text, std::string hint = "");
  // The same finding for many places says so once: at most three of a rule and text, then "and N more".
  std::vector<Finding> findings;

  const FileFacts& facts;
  const Policy& policy;
  const Against& against;
  const WheelFacts* wheel() const { return facts.kind == FileKind::kWheel ? &facts.wheel : nullptr; }
};

void check_archive(Verifier& v);   // W1 W2 W3
void check_metadata(Verifier& v);  // W4 W5 W6 S1 S2
void check_library(Verifier& v);   // E1 E2
void check_floor(Verifier& v);     // E3 E4 E5
void check_torch(Verifier& v);     // T1 T2 T3 T4
void check_python(Verifier& v);    // P1
void check_gpu(Verifier& v);       // F1..F7

FileFindings verify_facts(const FileFacts& facts, const Policy& policy, const Against& against);

// Exported symbols of the libraries of a torch, given its folder or the folder of its libraries.
Result<Against> load_torch_exports(Ctx& ctx, const std::string& folder);

}  // namespace clary::tool
