// Whose manifests are believed, and which were seen: what makes a swapped, rolled back or suddenly unsigned manifest an error.
//
//   <config>/keys/*.pub     public keys believed for every source
//   <config>/sources.json   for each source: its keys, and the serial and hash of the newest manifest seen
//
// The first signed manifest of a source brings its key with it, unless keys are given; from then on only that key counts, or
// those that a manifest signed by it names in `keys`.
#pragma once
#include <functional>
#include <map>

#include "wheel/core/manifest.h"
#include "wheel/core/minisign.h"

namespace clary::tool {

class Trust {
 public:
  // `key`: a public key or its file, given for this run; empty: none. An error when what is remembered cannot be read: taken
  // for empty, it would let an old manifest pass for the first.
  static Result<Trust> open(Ctx& ctx, const std::string& key);

  struct Seen {
    int64_t serial = 0;
    std::string sha256;
    Strings keys;  // empty: it was never signed
    bool operator==(const Seen&) const = default;
  };
  Seen seen(const std::string& source) const;  // nothing of a source that is new

  // The keys of which one must have signed; empty: none is known yet, so what comes with the manifest is believed.
  Result<std::vector<PublicKey>> keys_for(const std::string& source) const;
  bool expects_signature(const std::string& source) const;

  // An error when the manifest is older than one that was seen, or no longer valid. `signer`: the key that signed it.
  Result<Done> check(const std::string& source, const Manifest& manifest, const std::string& sha256) const;
  Result<Done> remember(const std::string& source, const Manifest& manifest, const std::string& sha256,
                        const PublicKey* signer);
  Result<bool> forget(const std::string& source);

 private:
  explicit Trust(Ctx& ctx) : ctx_(ctx) {}
  std::string file() const;
  Result<Done> load();
  // Changes what is remembered, with no other process between reading and writing; false from `change`: nothing is written.
  Result<bool> update(const std::function<bool(std::map<std::string, Seen>&)>& change);

  Ctx& ctx_;
  std::optional<PublicKey> given_;
  std::vector<PublicKey> believed_;
  std::map<std::string, Seen> sources_;
};

}  // namespace clary::tool
