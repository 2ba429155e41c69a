// One file from the network to the disk: known by its SHA-256, resumed where it was cut, tried at several addresses.
#pragma once
#include "wheel/core/http.h"

namespace clary::tool {

struct Download {
  Strings urls{};  // in the order to try
  std::string sha256{};
  uint64_t size = 0;    // 0: not known
  std::string token{};  // for the host of each address
};

// `to` is the whole file with the right hash, or was not touched. What came so far lies in `to`.part and is resumed next time.
// REQUIRES: the caller holds the lock of `to`.
Result<Done> download(Ctx& ctx, const Download& what, const std::string& to);

}  // namespace clary::tool
