#include "wheel/core/repair.h"

#include <algorithm>
#include <set>

namespace clary::tool {
namespace {

std::string machine_of(const FileFacts& facts) {
  for (const BinaryFacts& b : facts.binaries) {
    if (b.format == "ELF") return b.machine;
  }
  return "";
}

int minor_of(const std::string& policy) { return Platform::of(policy).minor; }

}  // namespace

std::optional<Error> platform_fault(const FileFacts& facts, const std::string& platform) {
  const Platform promised = Platform::of(platform);
  const std::string machine = machine_of(facts);
  if (machine.empty()) return std::nullopt;
  if (promised.arch != machine) return Error{"the libraries are for " + machine + ", the tag says " + platform, ""};
  if (promised.kind != Platform::kManylinux) return std::nullopt;
  const ManylinuxFit fit = manylinux_fit(facts.binaries, machine);
  if (!fit.policy.empty() && minor_of(fit.policy) <= promised.minor) return std::nullopt;
  return Error{"the libraries do not keep " + platform + ": " + fit.why,
               "they fit " + (fit.policy.empty() ? "no manylinux tag" : fit.policy) +
                   ": build in a manylinux image (--engine docker) or with a compiler for the older C library"};
}

Strings foreign_libraries(const FileFacts& facts) {
  std::set<std::string> inside, foreign;
  for (const BinaryFacts& b : facts.binaries) inside.insert(b.soname.empty() ? base_name(b.path) : b.soname);
  for (const BinaryFacts& b : facts.binaries) inside.insert(base_name(b.path));
  for (const BinaryFacts& b : facts.binaries) {
    for (const std::string& soname : b.needed) {
      if (b.format == "ELF" && !inside.contains(soname) && tables().owner_of(soname) == Owner::kOther)
        foreign.insert(soname);
    }
  }
  return {foreign.begin(), foreign.end()};
}

std::map<std::string, std::string> mend_run_paths(const std::vector<BinaryFacts>& binaries) {
  std::map<std::string, std::string> out;
  for (const BinaryFacts& b : binaries) {
    const std::vector<std::string_view> all = split_any(b.runpath.empty() ? b.rpath : b.runpath, ":");
    Strings inside;
    for (std::string_view path : all) {
      if (below_origin(path)) inside.emplace_back(path);
    }
    if (inside.size() < all.size()) out[b.path] = join(inside, ":");
  }
  return out;
}

Result<RepairPlan> plan_repair(const FileFacts& facts, const std::string& wanted, bool bundle) {
  RepairPlan plan;
  const std::string machine = machine_of(facts);
  if (machine.empty())
    return Error{"no ELF library in " + facts.path, "a wheel without compiled code needs no platform tag"};
  const ManylinuxFit fit = manylinux_fit(facts.binaries, machine);
  if (fit.policy.empty())
    return Error{"no manylinux tag fits " + facts.path + ": " + fit.why,
                 "build it on an older system or in a manylinux image"};
  const ManylinuxPolicy* policy = wanted == "auto" ? tables().policy(fit.policy) : tables().policy(wanted);
  if (!policy) return Error{"unknown platform: `" + printable(wanted) + "`", "such as manylinux_2_28, or auto"};
  if (policy->minor < minor_of(fit.policy))
    return Error{facts.path + " does not keep " + policy->name + ": " + fit.why,
                 "it fits " + fit.policy + "; no repair lowers what a library needs: build it on an older system"};
  plan.platform = policy->name + "_" + machine;
  plan.why.push_back("its libraries fit " + fit.policy + (fit.why.empty() ? "" : ": " + fit.why));
  plan.foreign = foreign_libraries(facts);
  std::set<std::string> left_out;
  for (const BinaryFacts& b : facts.binaries) {
    for (const std::string& soname : b.needed) {
      const Owner owner = tables().owner_of(soname);
      if (owner != Owner::kSystem && owner != Owner::kOther) left_out.insert(soname + " (" + owner_name(owner) + ")");
    }
  }
  plan.run_paths = mend_run_paths(facts.binaries);
  if (!left_out.empty())
    plan.why.push_back((bundle ? "taken in: " : "left to their own packages: ") +
                       join(Strings(left_out.begin(), left_out.end()), ", "));
  if (bundle) plan.foreign.insert(plan.foreign.end(), left_out.begin(), left_out.end());
  const bool tagged = facts.wheel.name && facts.wheel.name->tags()[0].platform == plan.platform;
  plan.nothing_to_do = tagged && plan.foreign.empty() && plan.run_paths.empty();
  return plan;
}

}  // namespace clary::tool
