// Wheels into a store, with a manifest that names them: all of it or nothing as readers see it, and the same again is nothing.
#pragma once
#include "wheel/core/source.h"

namespace clary::tool {

struct Publication {
  std::vector<FileFacts> wheels;  // read with digests, fit to be served
  std::string to;                 // as open_store takes it
  std::optional<SecretKey> key;
  Strings accept;            // public keys that readers accept from now on; empty: no change
  int64_t expires = 0;       // seconds since 1970; 0: never
  std::string yank, reason;  // a file name to withdraw
  bool renew = false;        // a new serial although nothing changed
  bool dry_run = false;
};

struct Published {
  std::string store{};
  int64_t serial = 0;
  Strings sent{}, there{};  // file names
  Strings written{};
  bool changed = false;
};

Result<Published> publish(Ctx& ctx, const Publication& what);

}  // namespace clary::tool
