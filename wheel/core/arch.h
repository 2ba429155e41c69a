// GPU architectures and lists of them, in every spelling people paste: `8.6 9.0 12.0+PTX`, `compute_80;sm_80`, `12.0a`,
// `120f`, `80-real`, `arch=compute_90a,code=sm_90a`, `Ampere`, `native`, `all`, `all-major`.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/result.h"
#include "wheel/core/text.h"
#include "wheel/core/version.h"

namespace clary::tool {

struct Arch {
  int sm = 0;        // 86, 120: compute capability 8.6, 12.0
  char feature = 0;  // 'a': this device alone; 'f': its family; 0: all later devices of the major version

  static std::optional<Arch> parse(std::string_view text);  // "86", "8.6", "120a", "12.0f"
  std::string str() const;                                  // 120f
  std::string sass() const { return "sm_" + str(); }
  std::string ptx() const { return "compute_" + str(); }
  std::string dotted() const;  // 12.0f
  bool sass_runs_on(int device) const;
  bool ptx_runs_on(int device) const;
  auto operator<=>(const Arch&) const = default;
};
std::string dotted(int sm);  // 120 -> "12.0"

struct ArchTarget {
  Arch arch;
  bool sass = false, ptx = false;
};

class ArchList {
 public:
  // What the words that depend on a machine mean. Without devices `native` is an error.
  struct Context {
    std::optional<Version> toolkit{};  // for `all` and check(); none: the newest known
    std::vector<int> devices{};
  };
  static Result<ArchList> parse(std::string_view text, const Context& context);

  const std::vector<ArchTarget>& targets() const { return targets_; }  // sorted, each arch once
  bool empty() const { return targets_.empty(); }

  // The same list for each reader.
  std::string torch() const;  // TORCH_CUDA_ARCH_LIST: "8.0 9.0a 12.0+PTX"
  std::string cmake() const;  // CMAKE_CUDA_ARCHITECTURES, CUDAARCHS: "80-real;90a-real;120"
  Strings nvcc() const;       // "-gencode=arch=compute_80,code=sm_80" ...
  std::string text() const;   // for people: "8.0 9.0a 12.0+PTX"

  // Why `toolkit` cannot build this list, if it cannot.
  std::optional<Error> check(const Version& toolkit) const;
  // Things that are legal and not what they seem: PTX that only one device can use.
  Strings remarks() const;

 private:
  void add(Arch arch, bool sass, bool ptx);
  std::vector<ArchTarget> targets_;
};

}  // namespace clary::tool
