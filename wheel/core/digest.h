// SHA-256, and the two ways wheels write it.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "wheel/core/bytes.h"

namespace clary::tool {

using Sha256 = std::array<uint8_t, 32>;

Sha256 sha256_of(Bytes bytes);

// Of bytes that come piece by piece.
class Sha256Stream {
 public:
  Sha256Stream();
  void add(std::string_view piece);
  Sha256 finish();

 private:
  std::shared_ptr<void> state_;
};

std::string hex(const Sha256& digest);
std::string base64url(const Sha256& digest);  // without padding: RECORD's form

}  // namespace clary::tool
