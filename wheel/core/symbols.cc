#include "wheel/core/symbols.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>

#include "wheel/core/tables.h"

namespace clary::tool {
namespace {

struct Prefix {
  std::string_view text;
  SymbolOwner owner;
};
// The first that fits. C names only; C++ ones are told by namespace.
constexpr Prefix kPrefixes[] = {
    {"aoti_torch_", SymbolOwner::kTorchShim},
    {"torch_", SymbolOwner::kTorchShim},
    {"aoti_", SymbolOwner::kTorchShim},
    {"THP", SymbolOwner::kTorch},
    {"_Py", SymbolOwner::kPython},
    {"Py", SymbolOwner::kPython},
    {"cublas", SymbolOwner::kCudaLibrary},
    {"cudnn", SymbolOwner::kCudaLibrary},
    {"cufft", SymbolOwner::kCudaLibrary},
    {"curand", SymbolOwner::kCudaLibrary},
    {"cusparse", SymbolOwner::kCudaLibrary},
    {"cusolver", SymbolOwner::kCudaLibrary},
    {"nvrtc", SymbolOwner::kCudaLibrary},
    {"nccl", SymbolOwner::kCudaLibrary},
    {"nvJitLink", SymbolOwner::kCudaLibrary},
    {"nvtx", SymbolOwner::kCudaLibrary},
    {"cupti", SymbolOwner::kCudaLibrary},
    {"cuFile", SymbolOwner::kCudaLibrary},
    {"nvml", SymbolOwner::kCudaDriver},
    {"cuda", SymbolOwner::kCudaRuntime},
    {"__cuda", SymbolOwner::kCudaRuntime},
    {"__cxa_", SymbolOwner::kLibstdcxx},
    {"__gxx_", SymbolOwner::kLibstdcxx},
};

constexpr struct {
  std::string_view name;
  SymbolOwner owner;
} kNamespaces[] = {
    {"std", SymbolOwner::kLibstdcxx},
    {"__cxxabiv1", SymbolOwner::kLibstdcxx},
    {"__gnu_cxx", SymbolOwner::kLibstdcxx},
    {"c10", SymbolOwner::kTorch},
    {"at", SymbolOwner::kTorch},
    {"torch", SymbolOwner::kTorch},
    {"caffe2", SymbolOwner::kTorch},
    {"c10d", SymbolOwner::kTorch},
    {"c10_cuda", SymbolOwner::kTorch},
};

}  // namespace

std::string_view first_namespace(std::string_view name) {
  if (!name.starts_with("_Z")) return {};
  name.remove_prefix(2);
  for (std::string_view special : {"GV", "TI", "TS", "TV", "TT", "TC"}) {
    if (name.starts_with(special)) {
      name.remove_prefix(2);
      break;
    }
  }
  if (name.starts_with("Th") || name.starts_with("Tv")) {  // thunks: offsets up to the next _
    const size_t underscore = name.find('_');
    if (underscore == name.npos) return {};
    name.remove_prefix(underscore + 1);
  }
  if (name.starts_with('N')) name.remove_prefix(1);
  while (!name.empty() && std::string_view("rVKRO").find(name[0]) != std::string_view::npos) name.remove_prefix(1);
  if (name.starts_with("nw") || name.starts_with("na") || name.starts_with("dl") || name.starts_with("da"))
    return "std";  // new, delete
  if (name.size() > 1 && name[0] == 'S' && std::string_view("tabsiod").find(name[1]) != std::string_view::npos)
    return "std";
  size_t length = 0, digits = 0;
  while (digits < name.size() && digits < 4 && name[digits] >= '0' && name[digits] <= '9')
    length = length * 10 + static_cast<size_t>(name[digits++] - '0');
  if (!digits || length > name.size() - digits) return {};
  return name.substr(digits, length);
}

const char* symbol_owner_name(SymbolOwner owner) {
  static constexpr const char* kNames[] = {"libc",        "libstdc++",    "torch C++",    "torch shim", "Python",
                                           "CUDA driver", "CUDA runtime", "CUDA library", "other"};
  return kNames[static_cast<int>(owner)];
}

SymbolOwner symbol_owner(std::string_view name, std::string_view library) {
  if (library.starts_with("libstdc++") || library.starts_with("libgcc_s") || library.starts_with("libc++"))
    return SymbolOwner::kLibstdcxx;
  if (library.starts_with("libcudart")) return SymbolOwner::kCudaRuntime;
  if (!library.empty()) {
    const Owner owner = tables().owner_of(library);
    if (owner == Owner::kSystem) return SymbolOwner::kLibc;
    if (owner == Owner::kCuda) return SymbolOwner::kCudaLibrary;
  }
  if (const std::string_view space = first_namespace(name); !space.empty()) {
    for (const auto& row : kNamespaces) {
      if (row.name == space) return row.owner;
    }
    return SymbolOwner::kOther;
  }
  for (const Prefix& row : kPrefixes) {
    if (name.starts_with(row.text)) return row.owner;
  }
  // cuLaunchKernel, but not cube_root
  if (name.size() > 2 && name.starts_with("cu") && name[2] >= 'A' && name[2] <= 'Z') return SymbolOwner::kCudaDriver;
  return SymbolOwner::kOther;
}

// A mangled name repeats earlier parts by reference (S_, S1_, T0_). Each may hold the one before several times, so that a
// few hundred characters describe gigabytes.
constexpr size_t kMostReferences = 40;

std::string demangled(std::string_view name) {
  size_t references = 0;
  for (size_t i = 0; i + 1 < name.size(); i++) {
    if (name[i] != 'S' && name[i] != 'T') continue;
    const size_t end = name.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", i + 1);
    references += end != name.npos && name[end] == '_';
  }
  if (references > kMostReferences) return std::string(name.substr(0, 4096));
  int status = 0;
  const std::string terminated(name.substr(0, 4096));
  char* text = abi::__cxa_demangle(terminated.c_str(), nullptr, nullptr, &status);
  std::string out = status == 0 && text ? text : terminated;
  std::free(text);
  return out;
}

}  // namespace clary::tool
