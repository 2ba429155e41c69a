// A folder as a store: a static site (core/site.h) with the manifest in it. A lock makes publishers wait for each other; every
// file replaces its old one at once, and what points at a file is written after it.
#include "wheel/core/digest.h"
#include "wheel/core/site_folder.h"
#include "wheel/core/store.h"

namespace clary::tool {
namespace {

class FolderStore : public Store {
 public:
  FolderStore(Ctx& ctx, std::string dir, std::string manifest)
      : ctx_(ctx), dir_(std::move(dir)), manifest_(std::move(manifest)) {}
  std::string name() const override { return dir_ + (manifest_ == "latest.json" ? "" : "/" + manifest_); }
  std::string manifest_name() const override { return manifest_; }
  std::string folder() const override { return "wheels/"; }

  Result<Snapshot> look() override {
    Snapshot out;
    for (const std::string prefix : {"", "wheels/"}) {
      const Result<Strings> names = ctx_.disk.list(dir_ + "/" + prefix);
      for (const std::string& name : names ? *names : Strings{}) {
        const std::optional<FileInfo> info = ctx_.disk.info(dir_ + "/" + prefix + name);
        if (info && !info->is_dir) out.files.push_back({prefix + name, "", info->size});
      }
    }
    if (const Result<std::string> manifest = ctx_.disk.read(dir_ + "/" + manifest_, 64 << 20))
      out.revision = hex(sha256_of(bytes_of(*manifest)));
    return out;
  }
  Result<std::optional<std::string>> read(const Snapshot&, const std::string& file) override {
    if (!ctx_.disk.info(dir_ + "/" + file)) return std::optional<std::string>();
    const Result<std::string> text = ctx_.disk.read(dir_ + "/" + file, 64 << 20);
    if (!text) return text.error();
    return std::optional<std::string>(*text);
  }
  std::string address(const Snapshot&, const std::string& file) const override { return dir_ + "/" + file; }

  Result<bool> commit(const Snapshot& at, const Change& change) override {
    if (Result<Done> done = ctx_.disk.make_dirs(dir_ + "/wheels"); !done) return done.error();
    const Result<Lock> lock = ctx_.disk.lock(dir_ + "/.clary-lock", 600);
    if (!lock) return lock.error();
    const Result<Snapshot> now = look();
    if (!now) return now.error();
    if (now->revision != at.revision) return false;
    for (const auto& [name, content] : change.texts) {
      if (now->find(name) && !at.find(name)) return false;
    }
    // From here on nobody else writes. What a stopped publisher had not finished goes.
    for (const StoredFile& f : now->files) {
      if (f.name.find(".part-") == f.name.npos) continue;
      if (Result<Done> done = ctx_.disk.remove(dir_ + "/" + f.name); !done) return done.error();
    }
    for (const Blob& blob : change.blobs) {
      const std::string to = dir_ + "/" + blob.name;
      if (const Result<Mapping> old = ctx_.disk.map(to); old && hex(sha256_of(old->bytes)) == blob.sha256) continue;
      const Result<Mapping> content = ctx_.disk.map(blob.path);
      if (!content) return content.error();
      if (hex(sha256_of(content->bytes)) != blob.sha256)
        return Error{"changed while it was published: " + blob.path, "run the command again"};
      if (Result<Done> done = ctx_.disk.write(to, text(content->bytes)); !done) return done.error();
    }
    if (!change.blobs.empty()) {
      if (Result<Done> done = write_site(ctx_, dir_ + "/wheels", dir_); !done) return done.error();
    }
    for (const auto& [name, content] : change.texts) {
      if (Result<Done> done = ctx_.disk.write(dir_ + "/" + name, content); !done) return done.error();
    }
    for (const std::string& name : change.removed) {
      if (Result<Done> done = ctx_.disk.remove(dir_ + "/" + name); !done) return done.error();
    }
    return true;
  }

 private:
  Ctx& ctx_;
  std::string dir_, manifest_;
};

}  // namespace

std::unique_ptr<Store> folder_store(Ctx& ctx, const std::string& path) {
  const bool file = path.ends_with(".json");
  std::string dir = file ? dir_name(path) : path;
  while (dir.size() > 1 && dir.ends_with('/')) dir.pop_back();
  return std::make_unique<FolderStore>(ctx, dir, file ? base_name(path) : "latest.json");
}

}  // namespace clary::tool
