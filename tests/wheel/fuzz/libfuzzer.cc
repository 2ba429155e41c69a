// The same targets under clang's libFuzzer, one program for all: CLARY_FUZZ_TARGET names the one.
#include <cstdio>
#include <cstdlib>

#include "targets.h"

namespace {

const clary::tool::fuzz::Target& chosen() {
  const char* name = std::getenv("CLARY_FUZZ_TARGET");
  const auto* target = clary::tool::fuzz::find_target(name ? name : "");
  if (target) return *target;
  std::fprintf(stderr, "CLARY_FUZZ_TARGET must name one of:");
  for (const auto& t : clary::tool::fuzz::targets()) std::fprintf(stderr, " %s", t.name);
  std::fprintf(stderr, "\n");
  std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& target = chosen();
  target.run({data, size});
  return 0;
}
