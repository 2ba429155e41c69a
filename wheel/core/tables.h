// What the data files in wheel/data say, as types: GPU architectures, CUDA toolkits, PyTorch releases, manylinux policies,
// libraries, and the symbol lists of stable ABIs. Parsed once, on first use.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "wheel/core/text.h"
#include "wheel/core/version.h"

namespace clary::tool {

struct ArchInfo {
  int sm = 0;
  Version since;                    // first toolkit that compiles for it
  std::optional<Version> until;     // first that no longer does
  std::optional<Version> specific;  // first with the `a` form
  std::vector<int> family;          // devices that run the `f` form; empty: there is none
  std::string name;                 // "Hopper"
};

struct Toolkit {
  Version version;     // 12.8
  Version ptx;         // 8.7
  std::string driver;  // first branch that compiles that PTX
};

struct CudaMajor {
  int cuda = 0;
  std::string driver, driver_windows;  // that run its SASS
  std::string zstd;                    // that unpack Zstandard images; empty: none
};

struct TorchRelease {
  Version version;
  Strings cuda, cuda_limited, cuda_aarch64;  // "12.8"
  std::string cuda_default;
  Strings python;         // "3.12", "3.13t"
  bool cxx11abi = false;  // on Linux x86-64, for every CUDA version ...
  Strings cxx11abi_cuda;  // ... or for these
  std::string glibc;
  int cxx = 17;
  std::string torchvision, torchaudio, triton;
  bool has_cxx11abi(const std::string& cuda_version) const;
  std::string line() const;  // "2.8"
};

// The newest version of each library ("GLIBC", "GLIBCXX" ...) that a manylinux tag allows on one architecture.
struct ManylinuxPolicy {
  std::string name, alias;
  int minor = 0;  // manylinux_2_<minor>
  struct Limit {
    Strings archs;
    std::map<std::string, Version> newest;
    Strings also;  // "CXXABI_TM_1": allowed although they are no numbers
  };
  std::vector<Limit> limits;
  const Limit* limit(std::string_view arch) const;
};

struct RefusedSymbols {
  std::string library, first, last;  // policies
  Strings symbols;
};

enum class Owner { kSystem, kTorch, kCuda, kDriver, kPython, kOther };
const char* owner_name(Owner owner);

struct Tables {
  std::vector<ArchInfo> archs;
  std::vector<Toolkit> toolkits;  // oldest first
  std::vector<CudaMajor> majors;
  std::vector<TorchRelease> torch;            // oldest first
  std::string torch_index, torch_nightly;     // with {cuda}
  std::map<std::string, std::string> images;  // builder image by machine, with {cuda}
  std::vector<ManylinuxPolicy> manylinux;     // oldest first
  std::vector<RefusedSymbols> refused;
  std::map<Owner, Strings> libraries;                                 // patterns of sonames
  std::unordered_map<std::string_view, std::string_view> python_abi;  // symbol -> "3.2"
  std::unordered_map<std::string_view, std::string_view> torch_shim;  // symbol -> "2.10"

  const ArchInfo* arch(int sm) const;
  const Toolkit* toolkit(const Version& version) const;     // by major.minor
  const Toolkit* toolkit_of_ptx(const Version& isa) const;  // the oldest that writes it
  const CudaMajor* major(uint64_t cuda) const;
  const TorchRelease* release(const Version& version) const;
  const ManylinuxPolicy* policy(std::string_view name) const;  // by name or alias, with or without the architecture
  Owner owner_of(std::string_view soname) const;
};

const Tables& tables();

std::string cuda_tag(std::string_view version);                        // "12.8" -> "cu128"
bool is_nightly(std::string_view torch);                               // a version, "2.16.0.dev20261121"
std::string torch_index(const Version& torch, std::string_view cuda);  // the address of its wheels, nightly or not

}  // namespace clary::tool
