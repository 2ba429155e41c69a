// E3, E4, E5: the oldest system the libraries run on.
#include <algorithm>
#include <set>

#include "wheel/core/tables.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

constexpr std::string_view kJudged[] = {"GLIBC", "GLIBCXX", "CXXABI", "GCC"};

// The policy the libraries are held to: the policy file's own, or the lowest manylinux tag of the name.
const ManylinuxPolicy* promised(const Verifier& v, std::string* tag) {
  const ManylinuxPolicy* lowest = nullptr;
  if (v.policy.manylinux != "tag") lowest = tables().policy(v.policy.manylinux), *tag = v.policy.manylinux;
  const WheelFacts* w = v.wheel();
  if (!w || !w->name) return lowest;
  for (const Tag& t : w->name->tags()) {
    const Platform platform = Platform::of(t.platform);
    if (platform.kind != Platform::kManylinux) continue;
    const ManylinuxPolicy* policy = nullptr;  // the newest known that is not newer than the tag
    for (const ManylinuxPolicy& p : tables().manylinux) {
      if (p.minor <= platform.minor) policy = &p;
    }
    if (policy && (!lowest || policy->minor < lowest->minor)) lowest = policy, *tag = t.platform;
  }
  return lowest;
}

void check_versions(Verifier& v, const BinaryFacts& b, const ManylinuxPolicy::Limit& limit, const std::string& tag) {
  for (const auto& [library, floor] : b.floors) {
    if (std::find(std::begin(kJudged), std::end(kJudged), library) == std::end(kJudged)) continue;
    const auto allowed = limit.newest.find(library);
    if (allowed != limit.newest.end() && floor.newest <= allowed->second) continue;
    const std::string most = allowed == limit.newest.end() ? "none" : library + "_" + allowed->second.str();
    v.add(
        "E3.version", b.path,
        "needs " + library + "_" + floor.newest.str() +
            (floor.symbol.empty() ? "" : " for " + demangled(floor.symbol)) + "; " + tag + " allows " + most,
        "build in an older image or with zig, whose target names the glibc; `clary inspect --symbols` lists who asks");
  }
  for (const std::string& named : b.named_versions) {
    const std::string_view library = std::string_view(named).substr(0, named.find('_'));
    const bool judged = std::find(std::begin(kJudged), std::end(kJudged), library) != std::end(kJudged);
    if (!judged || std::find(limit.also.begin(), limit.also.end(), named) != limit.also.end()) continue;
    v.add("E3.version", b.path, "needs " + named + ", which " + tag + " does not allow");
  }
}

void check_refused(Verifier& v, const BinaryFacts& b, const ManylinuxPolicy& policy) {
  for (const RefusedSymbols& refused : tables().refused) {
    const ManylinuxPolicy *first = tables().policy(refused.first), *last = tables().policy(refused.last);
    const bool applies = first && last && policy.minor >= first->minor && policy.minor <= last->minor;
    const bool needs = std::find(b.needed.begin(), b.needed.end(), refused.library) != b.needed.end();
    if (!applies || !needs) continue;
    const std::set<std::string_view> symbols(refused.symbols.begin(), refused.symbols.end());
    for (const Import& import : b.imports) {
      if (!import.weak && symbols.contains(import.name))
        v.add("E4.symbol", b.path,
              "uses " + import.name + " of " + refused.library + ", which " + policy.name + " refuses");
    }
  }
}

}  // namespace

void check_floor(Verifier& v) {
  std::string tag;
  const ManylinuxPolicy* policy = promised(v, &tag);
  const WheelFacts* w = v.wheel();
  std::string arch;
  std::set<std::string_view> own;  // what the wheel's libraries offer each other of the C++ library
  for (const BinaryFacts& b : v.facts.binaries) own.insert(b.std_exports.begin(), b.std_exports.end());
  for (const BinaryFacts& b : v.facts.binaries) {
    if (b.format != "ELF") continue;
    arch = b.machine;
    if (policy) {
      if (const ManylinuxPolicy::Limit* limit = policy->limit(b.machine)) check_versions(v, b, *limit, tag);
      check_refused(v, b, *policy);
    }
    if (b.isa_level > 1) {
      v.add("E4.isa", b.path, "requires x86-64-v" + std::to_string(b.isa_level),
            "compile with -march=x86-64 and dispatch at run time: older processors die with SIGILL");
    }
    Strings bare;
    for (const Import& import : b.imports) {
      const std::string_view space = first_namespace(import.name);
      if (import.version.empty() && !import.weak && space == "std" && !own.contains(import.name))
        bare.push_back(import.name);
    }
    if (!bare.empty()) {
      v.add("E5.unversioned", b.path,
            count(bare.size(), "symbol") + " of the C++ library without a version, such as " + demangled(bare[0]),
            "another library that exports them came first at link time: put -lstdc++ before -ltorch_cpu");
    }
  }
  if (!w || !w->name || arch.empty()) return;
  const ManylinuxFit fit = manylinux_fit(v.facts.binaries, arch);
  for (const Tag& t : w->name->tags()) {
    const Platform platform = Platform::of(t.platform);
    if (platform.kind == Platform::kLinux) {
      v.add("E3.untagged", "",
            t.platform + " promises nothing about glibc" +
                (fit.policy.empty() ? "" : "; the libraries fit " + fit.policy),
            fit.policy.empty() ? "" : "python -m wheel tags --platform-tag " + fit.policy);
    }
    const ManylinuxPolicy* fits = fit.policy.empty() ? nullptr : tables().policy(fit.policy);
    if (policy && fits && platform.kind == Platform::kManylinux && fits->minor < policy->minor &&
        w->name->tags().size() == 1) {
      v.add("E3.strict", "", "tagged " + t.platform + ", fits the older " + fit.policy);
    }
  }
}

}  // namespace clary::tool
