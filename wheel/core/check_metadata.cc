// W4, W5, W6, S1, S2: what the wheel says of itself, and what it carries along.
#include <algorithm>

#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

bool uses_torch_cxx(const FileFacts& facts) {
  return std::any_of(facts.binaries.begin(), facts.binaries.end(),
                     [](const BinaryFacts& b) { return b.owners[static_cast<size_t>(SymbolOwner::kTorch)] > 0; });
}

// "2.8" of ==2.8.*, ==2.8.0 and ~=2.8.0; empty when more than one line of torch fits.
std::string torch_line(const Specifier& versions) {
  std::string only;
  if (const Result<Version> exact = Version::parse(versions.pinned()); exact && exact->is_prerelease())
    return std::to_string(exact->release(0)) + "." + std::to_string(exact->release(1));  // a nightly
  for (int major = 1; major <= 3; major++) {
    for (int minor = 0; minor <= 40; minor++) {
      const std::string line = std::to_string(major) + "." + std::to_string(minor);
      bool fits = false;
      for (int patch = 0; patch <= 9; patch++)
        fits |= versions.admits(*Version::parse(line + "." + std::to_string(patch)));
      if (!fits) continue;
      if (!only.empty()) return "";
      only = line;
    }
  }
  return only;
}

void check_torch_pin(Verifier& v, const WheelFacts& w) {
  if (!w.name || !w.has_metadata || normal_name(w.name->name()) == "torch") return;
  const Requirement* torch = w.metadata.requirement("torch");
  const StackLabel label = StackLabel::of(w.name->version().local());
  const bool locked =
      v.policy.torch == "locked" || !label.torch.empty() || (v.policy.torch == "auto" && uses_torch_cxx(v.facts));
  if (!locked) return;
  const std::string line = torch ? torch_line(torch->versions) : "";
  const std::string labelled = label.torch.substr(0, label.torch.find('.', label.torch.find('.') + 1));
  const std::string wanted = labelled.empty() ? "torch==X.Y.*" : "torch==" + labelled + ".*";
  if (!torch) {
    v.add("W4.torch", "METADATA", "no Requires-Dist on torch",
          "add `Requires-Dist: " + wanted + "`: without it pip installs this wheel beside any torch");
  } else if (line.empty()) {
    v.add("W4.torch", "METADATA", "Requires-Dist admits several torch versions: torch" + torch->versions.str(),
          "write " + wanted);
  } else if (!labelled.empty() && line != labelled) {
    v.add("W4.disagree", "METADATA",
          "Requires-Dist is torch" + torch->versions.str() + ", the file name says torch " + label.torch);
  }
}

void check_carried(Verifier& v, const WheelFacts& w) {
  static constexpr std::string_view kShadowed[] = {"python", "python3", "python2", "pythonw", "pip",
                                                   "pip3",   "uv",      "sh",      "bash"};
  for (const MemberFacts& m : w.members) {
    const std::string& name = m.name;
    const size_t scripts = name.find(".data/scripts/");
    if (scripts != name.npos && name.find('/') == scripts + 5) {
      std::string script = lower(base_name(name));
      if (script.ends_with(".exe")) script.resize(script.size() - 4);
      const bool shadows = std::find(std::begin(kShadowed), std::end(kShadowed), script) != std::end(kShadowed) ||
                           matches("python3.*", script);
      if (shadows)
        v.add("W6.script", name, "would replace `" + script + "` in the environment", "uv refuses such a wheel");
    }
    const bool top = name.find('/') == name.npos || name.find(".data/purelib/") != name.npos ||
                     name.find(".data/platlib/") != name.npos;
    const Strings& startup = v.policy.startup;
    if (name.ends_with(".pth") && top && std::find(startup.begin(), startup.end(), base_name(name)) == startup.end())
      v.add("W6.pth", name, "its lines run at every start of Python");
    if (name.ends_with(".pyc")) v.add("W6.bytecode", name, "bytecode of one Python, stale when its source is newer");
  }
}

void check_leaks(Verifier& v, const std::string& where, const std::vector<Leak>& leaks) {
  size_t paths = 0;
  std::string first;
  for (const Leak& leak : leaks) {
    if (leak.kind == Leak::kToken)
      v.add("S2.token", where, "looks like an access token: " + leak.text, "revoke it first, then build without it");
    else if (!paths++)
      first = leak.text;
  }
  if (paths) {
    v.add("S2.path", where, "a path of the build machine: " + first + (paths > 1 ? " and others" : ""),
          "compile with -ffile-prefix-map");
  }
}

}  // namespace

void check_metadata(Verifier& v) {
  if (v.policy.max_size && v.facts.size > v.policy.max_size) {
    v.add("S1.size", "", human_bytes(v.facts.size) + ", the policy allows " + human_bytes(v.policy.max_size),
          "`clary inspect` shows what is large; F5 and F6 say what is superfluous");
  }
  for (const BinaryFacts& b : v.facts.binaries) check_leaks(v, b.path, b.leaks);
  const WheelFacts* w = v.wheel();
  if (!w) return;
  for (const MemberFacts& m : w->members) check_leaks(v, m.name, m.leaks);
  for (const std::string& fault : w->metadata.faults) {
    if (w->has_metadata) v.add("W4.syntax", "METADATA", fault);
  }
  check_torch_pin(v, *w);
  if (w->name && v.policy.local_version == "forbid" && !w->name->version().local().empty()) {
    v.add("W5.local", "", "local version +" + w->name->version().local(),
          "the package index refuses it; serve such wheels from `clary index`");
  }
  check_carried(v, *w);
}

}  // namespace clary::tool
