// Broken wheels, a row for each way: what verify_test.cc judges and corpus_test.cc hands to every verb that takes wheels.
#pragma once
#include <string>
#include <vector>

#include "support.h"
#include "wheel/core/verify.h"

namespace clary::tool::test {

struct Broken {
  const char* rule;  // that refuses it
  std::string file_name, bytes;
  std::string policy = "";                                     // TOML; empty: the default policy
  std::vector<std::pair<std::string, std::string>> disk = {};  // other files, for --torch
};
std::vector<Broken> broken_wheels();

// What verify finds, by its own policy and torch.
FileFindings judge(const Broken& c);
Strings ids(const FileFindings& found);

Broken wheel(const char* rule, const WheelSpec& spec, const std::string& policy = "");
SymbolSpec torch_cxx(const std::string& name = "_ZN3c106detail14torchCheckFailEPKcS2_jS2_");  // of libtorch

}  // namespace clary::tool::test
