// A version as PEP 440 defines it. One that exists is valid, ordered and printable in its normal form.
// https://packaging.python.org/en/latest/specifications/version-specifiers/
#pragma once
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/result.h"

namespace clary::tool {

class Version {
 public:
  static Result<Version> parse(std::string_view text);

  std::string str() const;         // normal form: 1.0rc1+cu128
  std::string public_str() const;  // without the local part
  const std::vector<uint64_t>& release() const { return release_; }
  uint64_t release(size_t i) const { return i < release_.size() ? release_[i] : 0; }
  const std::string& local() const { return local_; }  // normal form: "cu128torch2.8.0"; empty: none
  bool is_prerelease() const { return pre_phase_ || dev_; }
  bool is_postrelease() const { return post_.has_value(); }
  Version base() const;  // epoch and release only
  Version without_local() const;

  std::strong_ordering operator<=>(const Version& other) const;
  bool operator==(const Version& other) const { return (*this <=> other) == 0; }

 private:
  friend class Specifier;
  uint64_t epoch_ = 0;
  std::vector<uint64_t> release_;
  char pre_phase_ = 0;  // 'a', 'b', 'r' (rc) or 0: none
  uint64_t pre_ = 0;
  std::optional<uint64_t> post_, dev_;
  std::string local_;
};

}  // namespace clary::tool
