// What a wheel is held to: a file (docs/cli/verify.md says its keys), of which wheel/data/policy-*.toml are built in.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "wheel/core/arch.h"
#include "wheel/core/finding.h"
#include "wheel/ctx.h"

namespace clary::tool {

struct DeadCode {
  std::string match;       // of a library's path
  std::vector<Arch> only;  // architectures it may hold
};

struct Policy {
  std::string name, about;
  std::string manylinux = "tag";      // hold libraries to the tag, or to this one whatever the tag
  std::string local_version = "any";  // any, forbid
  std::string torch = "auto";         // auto, none, locked, stable-2.10
  Strings providers;                  // torch, cuda, driver, python: whose libraries may be needed
  Strings needed;                     // more sonames, with *
  Strings startup;                    // .pth files it may hold
  uint64_t max_size = 0;              // bytes; 0: none
  std::string driver;                 // promised; empty: none
  std::vector<int> require_sass;
  std::string require_ptx = "no";  // no, plain
  std::vector<DeadCode> dead;
  std::map<std::string, Severity> severity;  // by rule or family

  Severity severity_of(const Rule& rule) const;
};

// Of a built-in name, or a path.
Result<Policy> load_policy(Ctx& ctx, const std::string& name);
Result<Policy> parse_policy(std::string_view text, const std::string& name);
Strings policy_names();

Result<uint64_t> parse_size(std::string_view text);          // "100 MB", "2GiB", "1.5 kB"
Result<Done> check_driver_version(const std::string& text);  // digits and dots; none is fine
// -1, 0, 1 as driver versions: 525.60.13 < 550 .
int compare_drivers(std::string_view a, std::string_view b);

}  // namespace clary::tool
