// A place that offers wheels: a folder, a Hugging Face repository, the assets of a GitHub release, or the address of a
// manifest. Each can be looked at and read; all but the last can be written, so that readers see the old files or the new.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "wheel/ctx.h"

namespace clary::tool {

struct StoredFile {
  std::string name, sha256;  // sha256 empty: the place does not say
  uint64_t size = 0;
};

// What a store held at one moment. Reading and writing name it: nothing is read from another state, nothing is overwritten
// that was not seen.
struct Snapshot {
  std::string revision{};  // empty: there is nothing yet
  std::vector<StoredFile> files{};
  const StoredFile* find(const std::string& name) const;
};

struct Blob {  // a file of this machine that goes into the store
  std::string name, path, sha256;
  uint64_t size = 0;
};

struct Change {
  std::string message{};
  std::vector<Blob> blobs{};                                 // first
  std::vector<std::pair<std::string, std::string>> texts{};  // then these, in this order: what points comes last
  Strings removed{};                                         // at the end
};

class Store {
 public:
  virtual ~Store() = default;
  virtual std::string name() const = 0;  // "hf:owner/name"
  virtual std::string manifest_name() const { return "latest.json"; }
  virtual std::string folder() const { return ""; }  // of wheels: "wheels/", or beside the manifest
  virtual std::string token() const { return ""; }   // for the hosts of its addresses

  virtual Result<Snapshot> look() = 0;
  // Small files; nothing when it is not there.
  virtual Result<std::optional<std::string>> read(const Snapshot& at, const std::string& file) = 0;
  // https address, or a path of this machine, of a wheel.
  virtual std::string address(const Snapshot& at, const std::string& file) const = 0;
  // All of it. False: the store is no longer `at`; nothing that readers see has changed.
  virtual Result<bool> commit(const Snapshot& at, const Change& change) = 0;
};

// `hf:OWNER/NAME[@REVISION]`, `github:OWNER/NAME[@TAG]`, https://.../latest.json, a folder, or a manifest's path.
Result<std::unique_ptr<Store>> open_store(Ctx& ctx, const std::string& where);
// Where to look when nothing was said: HF_REPO_ID.
std::string default_store(Ctx& ctx);

std::unique_ptr<Store> folder_store(Ctx& ctx, const std::string& path);
Result<std::unique_ptr<Store>> hub_store(Ctx& ctx, const std::string& repo);
Result<std::unique_ptr<Store>> github_store(Ctx& ctx, const std::string& repo);

}  // namespace clary::tool
