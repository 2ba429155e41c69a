// A Windows DLL or .pyd, as far as a wheel is concerned: machine, the libraries it imports, whether it exports PyInit_*, and
// its GPU code. Microsoft's PE/COFF specification.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/bytes.h"
#include "wheel/core/gpu.h"
#include "wheel/core/result.h"

namespace clary::tool {

struct PeImport {
  std::string_view library;
  std::vector<std::string_view> symbols;  // those imported by name
  bool delayed = false;
};

struct Pe {
  static bool looks_like(Bytes file);
  static Result<Pe> parse(Bytes file);
  std::string machine;  // x86_64, aarch64, i686
  std::vector<PeImport> imports;
  std::vector<std::string_view> exports;
  GpuCode gpu;
  Strings faults;
};

}  // namespace clary::tool
