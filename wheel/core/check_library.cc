// E1, E2: each library by itself, and the libraries it needs.
#include <algorithm>
#include <set>

#include "wheel/core/tables.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

// auditwheel's libcudart-3f3c6934.so.12 and torchvision's libcudart.3eda8113.so.13 are libcudart.so.12 and .13.
std::string without_hash(const std::string& name) {
  const size_t so = name.find(".so");
  if (so == name.npos || so < 10 || (name[so - 9] != '-' && name[so - 9] != '.')) return name;
  const bool hex = name.find_first_not_of("0123456789abcdef", so - 8) == so;
  return hex ? name.substr(0, so - 9) + name.substr(so) : name;
}

// Whose copy this library is, unless the project is the library's own.
Owner grafted_owner(const std::string& file, const std::string& project) {
  const Owner owner = tables().owner_of(without_hash(file));
  const bool own = (owner == Owner::kTorch && project.starts_with("torch")) ||
                   (owner == Owner::kCuda && (project.starts_with("nvidia") || project.starts_with("torch"))) ||
                   (owner == Owner::kDriver && project.starts_with("nvidia"));
  return own || owner == Owner::kSystem ? Owner::kOther : owner;
}

void check_hygiene(Verifier& v, const BinaryFacts& b) {
  for (const std::string& fault : b.faults) v.add("E1.broken", b.path, fault);
  if (b.format != "ELF") return;
  if (b.text_relocations) v.add("E1.textrel", b.path, "text relocations", "compile every object with -fPIC");
  if (b.stack_executable)
    v.add("E1.stack", b.path, "asks for an executable stack",
          "assembly files need `.section .note.GNU-stack,\"\",@progbits`, or link with -z noexecstack");
  if (!b.relro && !b.needed.empty()) v.add("E1.relro", b.path, "no RELRO segment", "link with -z relro");
  for (const std::string& paths : {b.rpath, b.runpath}) {
    for (std::string_view path : split_any(paths, ":")) {
      if (below_origin(path)) continue;
      v.add("E1.runpath", b.path, "searches " + printable(path),
            "only $ORIGIN and paths below it exist on other machines");
    }
  }
}

void check_needed(Verifier& v, const BinaryFacts& b, const std::set<std::string>& own) {
  for (const std::string& name : b.needed) {
    if (name.find('/') != name.npos) {
      v.add("E2.path", b.path, "needs " + printable(name) + " by path");
      continue;
    }
    if (b.format != "ELF" || own.contains(name)) continue;
    const Owner owner = tables().owner_of(name);
    if (owner == Owner::kSystem) continue;
    const auto listed = [&](const Strings& patterns) {
      return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) { return matches(p, name); });
    };
    const bool provided =
        std::find(v.policy.providers.begin(), v.policy.providers.end(), owner_name(owner)) != v.policy.providers.end();
    if (provided || listed(v.policy.needed) || owner == Owner::kPython) continue;  // libpython has its own rule
    v.add("E2.needed", b.path,
          "needs " + printable(name) + (owner == Owner::kOther ? "" : std::string(" of ") + owner_name(owner)),
          owner == Owner::kOther ? "bundle it, link it statically, or allow it in the policy's `needed`"
                                 : "open it with dlopen, or allow its provider in the policy");
  }
}

void check_machine(Verifier& v, const WheelName& name, const BinaryFacts& b) {
  if (b.format == "GPU") return;
  Strings wanted;
  for (const Tag& tag : name.tags()) {
    const Platform platform = Platform::of(tag.platform);
    if (platform.kind == Platform::kAny) {
      v.add("E1.any", b.path, b.machine + " code in a wheel for any platform",
            "tag it for its platform: py3-none-manylinux_2_28_x86_64 or the like");
      return;
    }
    if (platform.kind == Platform::kOther || platform.kind == Platform::kMac) return;
    const bool windows = platform.kind == Platform::kWindows;
    if (platform.arch == b.machine && windows == (b.format == "PE")) return;
    wanted.push_back(tag.platform);
  }
  v.add("E1.machine", b.path, b.format + " for " + b.machine + " in a wheel for " + join(wanted, ", "));
}

}  // namespace

void check_library(Verifier& v) {
  const WheelFacts* w = v.wheel();
  std::set<std::string> own;
  for (const BinaryFacts& b : v.facts.binaries) {
    own.insert(base_name(b.path));
    if (!b.soname.empty()) own.insert(b.soname);
  }
  for (const BinaryFacts& b : v.facts.binaries) {
    check_hygiene(v, b);
    check_needed(v, b, own);
    if (!w || !w->name) continue;
    check_machine(v, *w->name, b);
    const Owner owner = grafted_owner(base_name(b.path), normal_name(w->name->name()));
    if (owner != Owner::kOther && owner != Owner::kPython) {
      v.add("E2.grafted", b.path,
            std::string("a copy of a library of ") + owner_name(owner) + ", " + human_bytes(b.size),
            "leave it out (auditwheel repair --exclude '" + without_hash(base_name(b.path)) +
                "'): the process would hold two of it");
    }
  }
}

}  // namespace clary::tool
