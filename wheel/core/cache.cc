#include "wheel/core/cache.h"

#include "wheel/core/digest.h"
#include "wheel/core/python.h"
#include "wheel/core/tag.h"

namespace clary::tool {
namespace {

constexpr int kPatience = 1800;  // seconds another process may take to download

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string hash_of(Ctx& ctx, const std::string& path) {
  const Result<Mapping> file = ctx.disk.map(path);
  return file ? hex(sha256_of(file->bytes)) : "";
}

}  // namespace

Cache::Cache(Ctx& ctx) : ctx_(ctx), dir_(cache_folder(ctx)) {}

std::string Cache::path_of(const std::string& sha256, const std::string& file) const {
  return dir_ + "/wheels/" + sha256 + "/" + file;
}

bool Cache::has(const std::string& sha256, const std::string& file) const {
  return ctx_.disk.info(path_of(sha256, file)).has_value();
}

// Shared while it is used; exclusive while it is filled.
template <class Fill>
Result<Cache::Held> Cache::fill(const std::string& sha256, const std::string& file, const Fill& how) {
  if (!is_sha256(sha256)) return Error{"not a SHA-256: `" + printable(sha256) + "`", ""};
  if (const Result<WheelName> name = WheelName::parse(file); !name) return name.error();
  const std::string path = path_of(sha256, file);
  for (const std::string& dir : {dir_name(path), dir_ + "/locks"}) {
    if (Result<Done> done = ctx_.disk.make_dirs(dir); !done) return done.error();
  }
  for (int tries = 0; tries < 3; tries++) {
    Result<Lock> shared = ctx_.disk.lock(lock_of(sha256), kPatience, true);
    if (!shared) return shared.error();
    if (ctx_.disk.info(path) && hash_of(ctx_, path) == sha256) {
      (void)ctx_.disk.touch(path);
      return Held{path, *std::move(shared)};
    }
    shared = Error{};  // given back
    const Result<Lock> alone = ctx_.disk.lock(lock_of(sha256), kPatience);
    if (!alone) return alone.error();
    if (ctx_.disk.info(path) && hash_of(ctx_, path) == sha256) continue;  // another process was first
    if (Result<Done> done = ctx_.disk.make_dirs(dir_name(path)); !done) return done.error();
    if (Result<Done> done = how(path); !done) return done.error();
  }
  return Error{"the cache loses what is put into it: " + path, "clary cache verify"};
}

Result<Cache::Held> Cache::get(const Download& what, const std::string& file) {
  return fill(what.sha256, file, [&](const std::string& path) { return download(ctx_, what, path); });
}

Result<Cache::Held> Cache::add(const std::string& from, const std::string& sha256) {
  return fill(sha256, base_name(from), [&](const std::string& path) -> Result<Done> {
    if (hash_of(ctx_, from) != sha256)
      return Error{"not the announced file: " + from + ": its SHA-256 is not " + sha256,
                   "clary explain download-wrong"};
    const Result<Mapping> content = ctx_.disk.map(from);  // a copy: a link would change with the original
    if (!content) return content.error();
    return ctx_.disk.write(path, text(content->bytes));
  });
}

std::vector<CachedWheel> Cache::list() const {
  std::vector<CachedWheel> out;
  const Result<Strings> hashes = ctx_.disk.list(dir_ + "/wheels");
  for (const std::string& sha256 : hashes ? *hashes : Strings{}) {
    const std::string dir = dir_ + "/wheels/" + sha256;
    const Result<Strings> names = ctx_.disk.list(dir);
    for (const std::string& name : names ? *names : Strings{}) {
      const std::optional<FileInfo> info = ctx_.disk.info(dir + "/" + name);
      if (info && !info->is_dir && !name.ends_with(".etag"))
        out.push_back({sha256, name, dir + "/" + name, info->size, info->modified});
    }
  }
  return out;
}

std::string Cache::fault(const CachedWheel& wheel) const {
  if (wheel.file.ends_with(".part")) return "";  // a download that may go on
  if (!WheelName::parse(wheel.file)) return "not a wheel's name";
  return hash_of(ctx_, wheel.path) == wheel.sha256 ? "" : "changed since it came";
}

Result<bool> Cache::drop(const CachedWheel& wheel) {
  const bool named = is_sha256(wheel.sha256);
  const Result<Lock> lock = ctx_.disk.lock(named ? lock_of(wheel.sha256) : dir_ + "/locks/other", 0);
  if (!lock) return false;
  for (const std::string& path : {wheel.path, wheel.path + ".etag", dir_name(wheel.path)}) {
    if (path == dir_name(wheel.path) && ctx_.disk.list(path) && !ctx_.disk.list(path)->empty()) continue;
    if (Result<Done> done = ctx_.disk.remove(path); !done) return done.error();
  }
  return true;
}

}  // namespace clary::tool
