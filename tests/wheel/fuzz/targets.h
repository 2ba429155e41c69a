// What is fuzzed: every parser that reads bytes from outside. One table, two drivers: driver.cc mutates seeds under any
// compiler, libfuzzer.cc hands the same functions to clang's libFuzzer.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "wheel/core/bytes.h"

namespace clary::tool::fuzz {

struct Target {
  const char* name;
  void (*run)(Bytes input);             // must return, whatever the input; aborts when an invariant fails
  std::vector<std::string> (*seeds)();  // good inputs, small
  bool text;                            // mutations insert words rather than integers
};
std::span<const Target> targets();
const Target* find_target(const std::string& name);

}  // namespace clary::tool::fuzz
