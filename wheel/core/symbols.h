// Who a symbol belongs to, told by its name and by the library whose version it asks for.
#pragma once
#include <string>
#include <string_view>

namespace clary::tool {

// The outermost namespace of a C++ symbol: "c10" of _ZN3c106detail14torchCheckFailE..., "std" of _ZNSt..., "" of others.
std::string_view first_namespace(std::string_view mangled);

enum class SymbolOwner {
  kLibc,
  kLibstdcxx,
  kTorch,
  kTorchShim,
  kPython,
  kCudaDriver,
  kCudaRuntime,
  kCudaLibrary,
  kOther
};
constexpr int kSymbolOwners = 9;
const char* symbol_owner_name(SymbolOwner owner);  // "libc", "torch C++", "torch shim" ...
SymbolOwner symbol_owner(std::string_view name, std::string_view library);

std::string demangled(std::string_view name);  // the name itself when it is no C++ symbol

}  // namespace clary::tool
