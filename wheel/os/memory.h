// A world in memory: what a test puts into it, and a record of what a command did to it.
#pragma once
#include <map>
#include <set>

#include "wheel/ctx.h"

namespace clary::tool {

class MemoryDisk : public Disk {
 public:
  std::map<std::string, std::string> files;  // by path; folders are implied
  std::map<std::string, int64_t> modified;
  uint64_t free = uint64_t{100} << 30;
  std::set<std::string> written;  // every path a command wrote
  int fail_after = -1;            // that many writes succeed, then every one fails: a full disk

  Result<Mapping> map(const std::string& path) override;
  Result<std::string> read(const std::string& path, uint64_t at_most) override;
  std::optional<FileInfo> info(const std::string& path) override;
  Result<Strings> list(const std::string& dir) override;
  std::optional<uint64_t> free_bytes(const std::string&) override { return free; }
  Result<Done> write(const std::string& path, std::string_view content) override;
  Result<Done> make_dirs(const std::string&) override { return Done{}; }
  Result<Done> link_or_copy(const std::string& from, const std::string& to) override;
  Result<Done> symlink(const std::string& target, const std::string& path) override;  // a copy; `links` says of what
  Result<Done> rename(const std::string& from, const std::string& to) override;
  Result<Done> copy(const std::string& from, const std::string& to) override;
  Result<Done> append(const std::string& path, std::string_view content) override;
  Result<Done> remove(const std::string& path) override;
  Result<Done> write_secret(const std::string& path, std::string_view content) override { return write(path, content); }
  Result<std::unique_ptr<Appender>> append_to(const std::string& path, uint64_t keep) override;
  Result<Done> touch(const std::string& path) override;
  Result<Lock> lock(const std::string& path, int seconds, bool shared) override;

  std::map<std::string, std::string> links;  // path -> target
  std::set<std::string> locked;              // by another process
};

class MemoryProc : public Proc {
 public:
  std::map<std::string, std::string> environment;
  std::map<std::string, Finished> programs;  // by the whole command line, joined with spaces
  // Programs that do something; asked first. Nothing: not one of them.
  std::function<std::optional<Finished>(const Job&)> act;
  Strings ran;
  std::vector<Job> jobs;  // the same, whole
  int core_count = 4;

  std::optional<std::string> env(const std::string& name) override;
  std::optional<std::string> find(
      const std::string& program) override;  // the first word of a command line in `programs`
  using Proc::run;
  Result<Finished> run(const Job& job) override;
  int cores() override { return core_count; }
};

class MemoryNet : public Net {
 public:
  std::map<std::string, Response> pages;                  // by URL
  std::function<Result<Response>(const Request&)> serve;  // asked where there is no page
  std::vector<Request> requests;                          // without their bodies
  Result<Response> send(const Request& request, const Sink& sink) override;
};

class MemoryClock : public Clock {
 public:
  int64_t time = 1795219200;  // 2026-11-21
  double slept = 0;
  int64_t now() override { return time; }
  void sleep(double seconds) override { slept += seconds, time += static_cast<int64_t>(seconds + 1); }
};

class MemoryOut : public Out {
 public:
  std::string text;
  void write(std::string_view more) override { text += more; }
};

struct MemoryWorld {
  MemoryDisk disk;
  MemoryNet net;
  MemoryProc proc;
  MemoryClock clock;
  MemoryOut out, err;
  Ctx ctx{disk, net, proc, clock, out, err};
};

}  // namespace clary::tool
