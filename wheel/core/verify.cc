#include "wheel/core/verify.h"

#include <algorithm>

#include "wheel/core/elf.h"

namespace clary::tool {
namespace {

constexpr void (*kChecks[])(Verifier&) = {check_archive, check_metadata, check_library, check_floor,
                                          check_torch,   check_python,   check_gpu};

constexpr size_t kMostOfARule = 20;

// The worst first, then in the order of rules.def; of one rule the first twenty, and how many more there were.
std::vector<Finding> in_order(std::vector<Finding> findings) {
  std::stable_sort(findings.begin(), findings.end(), [](const Finding& a, const Finding& b) {
    return a.severity != b.severity ? a.severity > b.severity : a.rule < b.rule;
  });
  std::vector<Finding> out;
  for (size_t i = 0; i < findings.size();) {
    size_t end = i;
    while (end < findings.size() && findings[end].rule == findings[i].rule) end++;
    const size_t shown = std::min(end - i, kMostOfARule);
    out.insert(out.end(), findings.begin() + static_cast<long>(i), findings.begin() + static_cast<long>(i + shown));
    if (end - i > shown)
      out.push_back(
          {findings[i].rule, findings[i].severity, "", "and " + thousands(end - i - shown) + " more of these", ""});
    i = end;
  }
  return out;
}

}  // namespace

void Verifier::add(std::string_view id, std::string where, std::string text, std::string hint) {
  const Rule* rule = find_rule(id);
  const Severity severity = rule ? policy.severity_of(*rule) : Severity::kOff;
  if (severity != Severity::kOff)
    findings.push_back({rule, severity, std::move(where), std::move(text), std::move(hint)});
}

FileFindings verify_facts(const FileFacts& facts, const Policy& policy, const Against& against) {
  Verifier v(facts, policy, against);
  for (const auto& check : kChecks) check(v);
  return {facts.path, facts.sha256, facts.size, in_order(std::move(v.findings))};
}

Result<Against> load_torch_exports(Ctx& ctx, const std::string& folder) {
  Against out;
  out.name = folder;
  for (const std::string& dir : {folder, folder + "/lib", folder + "/torch/lib"}) {
    const Result<Strings> names = ctx.disk.list(dir);
    if (!names) continue;
    for (const std::string& name : *names) {
      if (!name.starts_with("libtorch") && !name.starts_with("libc10")) continue;
      const Result<Mapping> file = ctx.disk.map(dir + "/" + name);
      const Result<Elf> elf = file ? Elf::parse(file->bytes) : Error{};
      if (!elf) continue;
      for (const ElfSymbol& s : elf->symbols) {
        if (s.defined) out.exports.emplace(s.name);
      }
    }
    if (!out.exports.empty()) return out;
  }
  return Error{"no libtorch in " + folder,
               "give the folder of an installed torch, such as .venv/lib/python3.12/site-packages/torch"};
}

}  // namespace clary::tool
