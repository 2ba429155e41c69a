#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "wheel/os/posix.h"

namespace clary::tool {
namespace {

Error failed(const char* verb, const std::string& path) {
  return {std::string("cannot ") + verb + " " + path + ": " + std::strerror(errno), ""};
}

struct Fd {
  int fd;
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
};

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

// A name beside `path` that nobody has, for a link or a file to be renamed to it.
std::string name_beside(const std::string& path) {
  static std::atomic<int> count{0};
  return path + format(".part-%d-%d", static_cast<int>(::getpid()), 1000 + count++);
}

// After this the new name survives a power cut.
void sync_dir(const std::string& path) {
  const Fd dir{::open(dir_name(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (dir.fd >= 0) ::fsync(dir.fd);
}

class PosixAppender : public Appender {
 public:
  PosixAppender(int fd, std::string path, const std::function<void()>& before_change)
      : file_{fd}, path_(std::move(path)), before_change_(before_change) {}
  Result<Done> append(std::string_view piece) override {
    if (before_change_) before_change_();
    if (!write_all(file_.fd, piece)) return failed("write", path_);
    return Done{};
  }
  Result<Done> finish() override {
    if (before_change_) before_change_();
    if (::fsync(file_.fd) < 0) return failed("write", path_);
    return Done{};
  }

 private:
  Fd file_;
  std::string path_;
  const std::function<void()>& before_change_;
};

}  // namespace

// A name beside `path` that nobody has; created empty.
int PosixDisk::create_beside(const std::string& path, std::string* name) const {
  changing();
  for (int i = 0; i < 100; i++) {
    *name = path + format(".part-%d-%d", static_cast<int>(::getpid()), i);
    const int fd = ::open(name->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

Result<Mapping> PosixDisk::map(const std::string& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat st{};
  if (file.fd < 0 || ::fstat(file.fd, &st) < 0) return failed("open", path);
  if (S_ISDIR(st.st_mode)) return Error{"a folder, not a file: " + path, ""};
  if (!S_ISREG(st.st_mode)) return Error{"not a regular file: " + path, ""};
  const size_t size = static_cast<size_t>(st.st_size);
  if (!size) return Mapping{{}, nullptr};
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (at == MAP_FAILED) return failed("map", path);
  return Mapping{{static_cast<const uint8_t*>(at), size},
                 std::shared_ptr<const void>(at, [size](const void* p) { ::munmap(const_cast<void*>(p), size); })};
}

Result<std::string> PosixDisk::read(const std::string& path, uint64_t at_most) {
  // A socket, which standard input is under some parents, cannot be opened by name.
  const Fd file{path == "/dev/stdin" ? ::fcntl(0, F_DUPFD_CLOEXEC, 0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return failed("open", path);
  std::string out;
  char block[65536];
  while (out.size() < at_most) {
    const ssize_t n = ::read(file.fd, block, std::min<uint64_t>(sizeof block, at_most - out.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("read", path);
    if (n == 0) break;
    out.append(block, static_cast<size_t>(n));
  }
  return out;
}

std::optional<FileInfo> PosixDisk::info(const std::string& path) {
  struct stat st{};
  struct stat itself{};
  if (::stat(path.c_str(), &st) < 0 || ::lstat(path.c_str(), &itself) < 0) return std::nullopt;
  return FileInfo{static_cast<uint64_t>(st.st_size), S_ISDIR(st.st_mode), static_cast<int64_t>(st.st_mtime),
                  S_ISLNK(itself.st_mode)};
}

Result<Strings> PosixDisk::list(const std::string& dir) {
  DIR* handle = ::opendir(dir.c_str());
  if (!handle) return failed("list", dir);
  Strings names;
  while (const dirent* entry = ::readdir(handle)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(handle);
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<uint64_t> PosixDisk::free_bytes(const std::string& path) {
  struct statvfs st{};
  if (::statvfs(path.c_str(), &st) < 0) return std::nullopt;
  return uint64_t{st.f_bavail} * st.f_frsize;
}

Result<Done> PosixDisk::write(const std::string& path, std::string_view content) {
  return write_as(path, content, 0644);
}

Result<Done> PosixDisk::write_secret(const std::string& path, std::string_view content) {
  if (info(path)) return Error{"already there: " + path, "a secret is not overwritten: move it away first"};
  return write_as(path, content, 0600);
}

Result<Done> PosixDisk::write_as(const std::string& path, std::string_view content, int mode) {
  std::string part;
  Fd file{create_beside(path, &part)};
  if (file.fd < 0) return failed("create", path);
  const size_t half = content.size() / 2;  // two steps, so that a test can stop between
  bool whole = (mode == 0644 || ::fchmod(file.fd, static_cast<mode_t>(mode)) == 0);
  changing();
  whole = whole && write_all(file.fd, content.substr(0, half));
  changing();
  whole = whole && write_all(file.fd, content.substr(half)) && ::fsync(file.fd) == 0;
  changing();
  if (!whole || ::rename(part.c_str(), path.c_str()) < 0) {
    const Error error = failed("write", path);
    ::unlink(part.c_str());
    return error;
  }
  sync_dir(path);
  return Done{};
}

Result<Done> PosixDisk::make_dirs(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    changing();
    if (::mkdir(part.c_str(), 0755) < 0 && errno != EEXIST) return failed("create", part);
    if (slash == path.npos) break;
  }
  const std::optional<FileInfo> made = info(path);
  if (!made || !made->is_dir) return Error{"not a folder: " + path, ""};
  return Done{};
}

Result<Done> PosixDisk::link_or_copy(const std::string& from, const std::string& to) {
  std::string part;
  {
    const Fd reserve{create_beside(to, &part)};
    if (reserve.fd < 0) return failed("create", to);
  }
  ::unlink(part.c_str());
  changing();
  if (::link(from.c_str(), part.c_str()) < 0) {  // another file system, or links not allowed
    Result<Mapping> content = map(from);
    if (!content) return content.error();
    return write(to, text(content->bytes));
  }
  changing();
  if (::rename(part.c_str(), to.c_str()) < 0) {
    const Error error = failed("write", to);
    ::unlink(part.c_str());
    return error;
  }
  ::unlink(part.c_str());  // rename() of two names of one file does nothing and leaves both
  sync_dir(to);
  return Done{};
}

Result<Done> PosixDisk::symlink(const std::string& target, const std::string& path) {
  const std::string part = name_beside(path);
  if (::symlink(target.c_str(), part.c_str()) < 0 || ::rename(part.c_str(), path.c_str()) < 0) {
    const Error error = failed("link", path);
    ::unlink(part.c_str());
    return error;
  }
  return Done{};
}

Result<std::unique_ptr<Appender>> PosixDisk::append_to(const std::string& path, uint64_t keep) {
  changing();
  Fd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644)};
  if (file.fd < 0) return failed("create", path);
  if (::ftruncate(file.fd, static_cast<off_t>(keep)) < 0 || ::lseek(file.fd, 0, SEEK_END) < 0)
    return failed("write", path);
  return std::unique_ptr<Appender>(std::make_unique<PosixAppender>(std::exchange(file.fd, -1), path, before_change));
}

Result<Done> PosixDisk::rename(const std::string& from, const std::string& to) {
  changing();
  if (::rename(from.c_str(), to.c_str()) < 0) return failed("write", to);
  sync_dir(to);
  return Done{};
}

Result<Done> PosixDisk::copy(const std::string& from, const std::string& to) {
  const std::string part = name_beside(to);
  struct stat st{};
  std::error_code error;
  if (::lstat(from.c_str(), &st) < 0) return failed("read", from);
  std::filesystem::copy(from, part, std::filesystem::copy_options::copy_symlinks, error);
  const timespec times[] = {st.st_atim, st.st_mtim};
  if (!error && ::utimensat(AT_FDCWD, part.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0 &&
      ::rename(part.c_str(), to.c_str()) == 0)
    return Done{};
  if (error) errno = error.value();
  const Error said = failed("write", to);
  ::unlink(part.c_str());
  return said;
}

Result<Done> PosixDisk::append(const std::string& path, std::string_view content) {
  const Fd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644)};
  if (file.fd < 0 || !write_all(file.fd, content)) return failed("write", path);
  return Done{};
}

Result<Done> PosixDisk::remove(const std::string& path) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) < 0) return errno == ENOENT ? Result<Done>(Done{}) : failed("remove", path);
  if (S_ISDIR(st.st_mode)) {
    const Result<Strings> names = list(path);
    if (!names) return names.error();
    for (const std::string& name : *names) {
      if (Result<Done> done = remove(path + "/" + name); !done) return done;
    }
  }
  changing();
  if (::remove(path.c_str()) < 0 && errno != ENOENT) return failed("remove", path);
  return Done{};
}

Result<Done> PosixDisk::touch(const std::string& path) {
  if (::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW) < 0) return failed("touch", path);
  return Done{};
}

Result<Lock> PosixDisk::lock(const std::string& path, int seconds, bool shared) {
  changing();
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) return failed("lock", path);
  Lock held(this, [fd](const void*) { ::close(fd); });
  for (int tries = 0; ::flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0; tries++) {
    if (errno != EWOULDBLOCK && errno != EINTR) return failed("lock", path);
    if (tries >= seconds * 10) return Error{"in use by another process: " + path, "wait for it, or end it"};
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return held;
}

}  // namespace clary::tool
