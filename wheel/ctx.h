// The world as a verb sees it. Everything a verb reads, runs, asks the network or prints goes through here, so that each
// verb is tested in memory (os/memory.h) and runs for real (os/posix.h) with the same code.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/bytes.h"
#include "wheel/core/result.h"
#include "wheel/core/text.h"

namespace clary::tool {

// A whole file, read-only; its bytes live as long as any copy of this.
struct Mapping {
  Bytes bytes;
  std::shared_ptr<const void> keep;
};

struct FileInfo {
  uint64_t size = 0;
  bool is_dir = false;
  int64_t modified = 0;  // seconds since 1970
  bool is_link = false;  // the path itself; the rest is of what it points to
};

// A file that grows piece by piece: what a download writes.
class Appender {
 public:
  virtual ~Appender() = default;
  virtual Result<Done> append(std::string_view piece) = 0;
  virtual Result<Done> finish() = 0;  // on the disk for good
};

// Held until the last copy goes, or the process ends.
using Lock = std::shared_ptr<const void>;

class Disk {
 public:
  virtual ~Disk() = default;
  virtual Result<Mapping> map(const std::string& path) = 0;
  virtual Result<std::string> read(const std::string& path, uint64_t at_most = 1 << 20) = 0;  // also of /proc and /sys
  virtual std::optional<FileInfo> info(const std::string& path) = 0;                          // follows links
  virtual Result<Strings> list(const std::string& dir) = 0;                                   // names, sorted
  virtual std::optional<uint64_t> free_bytes(const std::string& path) = 0;

  // The file holds the old content or the new, whenever the machine stops.
  virtual Result<Done> write(const std::string& path, std::string_view content) = 0;
  virtual Result<Done> make_dirs(const std::string& path) = 0;
  virtual Result<Done> link_or_copy(const std::string& from, const std::string& to) = 0;  // replaces `to`, atomically
  virtual Result<Done> symlink(const std::string& target, const std::string& path) = 0;   // the same
  virtual Result<Done> rename(const std::string& from, const std::string& to) = 0;        // the same; also of folders
  // A file with its mode and its times; a link as a link. Replaces `to`.
  virtual Result<Done> copy(const std::string& from, const std::string& to) = 0;
  virtual Result<Done> append(const std::string& path, std::string_view content) = 0;  // of a log
  virtual Result<Done> remove(const std::string& path) = 0;  // a file, a link, a whole tree; nothing there is fine
  virtual Result<Done> touch(const std::string& path) = 0;   // modified now
  virtual Result<Done> write_secret(const std::string& path, std::string_view content) = 0;  // new; for this user alone
  // Keeps the first `keep` bytes of what is there.
  virtual Result<std::unique_ptr<Appender>> append_to(const std::string& path, uint64_t keep) = 0;
  // One process at a time, or several that share; an error that says so when others keep it for `seconds`.
  virtual Result<Lock> lock(const std::string& path, int seconds, bool shared = false) = 0;
};

struct Request {
  std::string method = "GET", url{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string_view body{};  // REQUIRES: outlives the call
};

struct Response {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // empty when a sink took it
};

// The body of a 200 or 206, piece by piece; false stops the transfer, which is then an error.
using Sink = std::function<bool(const Response& head, std::string_view piece)>;

// One exchange: no redirect is followed, nothing is tried twice (core/http.h does that). Any status is an answer; an error
// is a connection that failed.
class Net {
 public:
  virtual ~Net() = default;
  virtual Result<Response> send(const Request& request, const Sink& sink = nullptr) = 0;
};

struct Finished {
  int exit_code = 0;
  std::string out, err;
};

// A program to run. It sees the few variables that every child gets (os/posix_proc.cc), and `env` on top.
struct Job {
  Strings argv;
  int seconds = 60;
  std::string folder{};                          // where it runs; empty: here
  std::map<std::string, std::string> env{};      // an empty value: not set
  std::function<void(std::string_view)> hear{};  // both outputs as they come; they are still in Finished
};

class Proc {
 public:
  virtual ~Proc() = default;
  virtual std::optional<std::string> env(const std::string& name) = 0;
  virtual std::optional<std::string> find(const std::string& program) = 0;  // on PATH
  // No shell, no standard input; an error when it cannot start or outlives its seconds. Its own children end with it.
  virtual Result<Finished> run(const Job& job) = 0;
  Result<Finished> run(const Strings& argv, int seconds) { return run(Job{argv, seconds}); }
  virtual int cores() = 0;  // this process may use
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now() = 0;  // seconds since 1970
  virtual void sleep(double seconds) = 0;
};

class Out {
 public:
  virtual ~Out() = default;
  virtual void write(std::string_view text) = 0;
  bool terminal = false;
  bool colour = false;
};

struct Ctx {
  Disk& disk;
  Net& net;
  Proc& proc;
  Clock& clock;
  Out& out;  // data
  Out& err;  // talk
};

// What a command returns: uv's convention.
enum ExitCode { kFine = 0, kFinding = 1, kUsage = 2 };

// "error: message", then "hint: ..." after an empty line. Returns kUsage for convenience.
int fail(Ctx& ctx, const Error& error, int code = kUsage);

}  // namespace clary::tool
