// A store's offer, believed: its manifest, verified before it is parsed and not older than the last one.
//
// <manifest>.minisig is the signed pointer: its trusted comment, itself signed, names the file it covers
// (manifest-000012.json). That file never changes, so a publisher stopped anywhere leaves a pair that fits. <manifest> itself
// is for readers that know no signatures.
#pragma once
#include "wheel/core/store.h"
#include "wheel/core/trust.h"

namespace clary::tool {

struct Offer {
  std::unique_ptr<Store> store;
  Snapshot at;
  Manifest manifest;
  std::string text;     // of the manifest; empty: a folder of wheels without one
  std::string signer;   // name of the key; empty: not signed
  std::string warning;  // for people; may be empty
};

struct SourceOptions {
  std::string from{};  // as open_store takes it; empty: default_store
  std::string key{};
  bool signed_only = false;
  bool remember = true;  // what was seen; not on a dry run
};
Result<Offer> read_offer(Ctx& ctx, const SourceOptions& options);
// The same, but nothing where nothing was ever published. An error: a source that is not reached, or not believed.
Result<std::optional<Offer>> find_offer(Ctx& ctx, const SourceOptions& options);
Error nothing_offered(Ctx& ctx, const SourceOptions& options);

// Of a store that is looked at: nothing when it has no manifest.
struct Believed {
  Manifest manifest;
  std::string text, signer, warning;
};
Result<std::optional<Believed>> read_manifest(Ctx& ctx, Store& store, const Snapshot& at, const SourceOptions& options);

std::string manifest_file(int64_t serial);  // "manifest-000012.json"

}  // namespace clary::tool
