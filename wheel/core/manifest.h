// What a publisher offers: latest.json. Its top level is what the first installers read (one torch stack, one wheel); the
// list `wheels` holds everything, with what each wheel needs of the machine it goes to. docs/cli/publish.md has the keys.
//
// The file as served is what a signature covers, so it is verified before it is parsed (core/source.h). Unknown keys are
// kept when a manifest is written again; an unknown major schema version is refused.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "wheel/core/facts.h"

namespace clary::tool {

// Exact versions of what must be there before a wheel works.
struct Stack {
  std::string torch, torchvision, torchaudio, triton, index_url;
  bool operator==(const Stack&) const = default;
};
// TORCH_VERSION, TORCHVISION_VERSION, TORCHAUDIO_VERSION, TRITON_VERSION override; the names of those that did.
Strings pin_from_environment(Ctx& ctx, Stack& stack);
// What PyTorch released together, on the index of that CUDA; empty fields where the tables do not know.
Stack released_stack(const std::string& torch, const std::string& cuda);

struct WheelEntry {
  WheelName name;
  std::string file{}, sha256{};
  uint64_t size = 0;
  Strings urls{};  // empty: beside the manifest
  std::string requires_python{};
  std::string glibc{};       // "2.28": newest GLIBC_ asked for; empty: none
  int isa_level = 1;         // x86-64-v<n>
  std::string torch_mode{};  // "none", "locked", "stable"
  std::string torch_spec{};  // "==2.8.*"; empty: any
  std::optional<bool> cxx11abi{};
  std::string cuda{};        // "12.8"; empty: does not say
  std::string cudart{};      // "libcudart.so.12"; empty: not linked
  std::string driver_min{};  // on Linux
  std::vector<Arch> sass{}, ptx{};
  bool has_gpu() const { return !sass.empty() || !ptx.empty(); }
  Stack stack{};
  std::string yanked{};  // the reason
};

class Manifest {
 public:
  Manifest();
  ~Manifest();
  Manifest(Manifest&&) noexcept;
  Manifest& operator=(Manifest&&) noexcept;

  // Also the first installers' latest.json, of one wheel.
  static Result<Manifest> parse(std::string_view text, const std::string& name);

  int64_t serial = 0, expires = 0;  // 0: none
  Strings keys;                     // public keys that sign from now on; empty: no change
  Stack stack;                      // of the top level
  std::vector<WheelEntry> wheels;
  Strings unreadable;  // entries left out, with the reason

  // Adds, or replaces the entry of the same file name. True: something changed.
  bool put(const WheelEntry& entry, const nlohmann::ordered_json& json);
  void yank(const std::string& file, const std::string& reason);
  // With the next serial, that time, and the top level pointing at the newest wheel.
  std::string write(int64_t now, int64_t expires);

 private:
  std::unique_ptr<nlohmann::ordered_json> raw_;
};

// What a wheel needs, from what is in it.
struct Described {
  WheelEntry entry;
  std::shared_ptr<nlohmann::ordered_json> json;
};
// REQUIRES: the facts were read with digests and the wheel has a name.
Described describe(const FileFacts& facts);

}  // namespace clary::tool
