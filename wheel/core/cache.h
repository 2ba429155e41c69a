// Wheels by their SHA-256: <cache>/wheels/<sha256>/<file name>. What is there was verified when it came and is verified again
// when it is used. A lock per wheel lets one process download while others wait, and keeps prune off what is in use.
#pragma once
#include "wheel/core/download.h"

namespace clary::tool {

struct CachedWheel {
  std::string sha256, file, path;
  uint64_t size = 0;
  int64_t used = 0;  // seconds since 1970
};

class Cache {
 public:
  explicit Cache(Ctx& ctx);
  const std::string& dir() const { return dir_; }

  // The wheel's file, held as long as this lives.
  struct Held {
    std::string path;
    Lock lock;
  };
  // REQUIRES: `file` is a wheel's file name. Downloads what is not there, or is no longer what it was.
  Result<Held> get(const Download& what, const std::string& file);
  Result<Held> add(const std::string& path, const std::string& sha256);  // a local file of that hash
  bool has(const std::string& sha256, const std::string& file) const;

  std::vector<CachedWheel> list() const;
  // "": it is what its folder says.
  std::string fault(const CachedWheel& wheel) const;
  // False: another process uses it.
  Result<bool> drop(const CachedWheel& wheel);

 private:
  template <class Fill>
  Result<Held> fill(const std::string& sha256, const std::string& file, const Fill& how);
  std::string path_of(const std::string& sha256, const std::string& file) const;
  std::string lock_of(const std::string& sha256) const { return dir_ + "/locks/" + sha256; }

  Ctx& ctx_;
  std::string dir_;
};

}  // namespace clary::tool
