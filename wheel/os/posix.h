// The real world, on Linux.
#pragma once
#include "wheel/ctx.h"

namespace clary::tool {

class PosixDisk : public Disk {
 public:
  Result<Mapping> map(const std::string& path) override;
  Result<std::string> read(const std::string& path, uint64_t at_most) override;
  std::optional<FileInfo> info(const std::string& path) override;
  Result<Strings> list(const std::string& dir) override;
  std::optional<uint64_t> free_bytes(const std::string& path) override;
  Result<Done> write(const std::string& path, std::string_view content) override;
  Result<Done> make_dirs(const std::string& path) override;
  Result<Done> link_or_copy(const std::string& from, const std::string& to) override;
  Result<Done> symlink(const std::string& target, const std::string& path) override;
  Result<Done> rename(const std::string& from, const std::string& to) override;
  Result<Done> copy(const std::string& from, const std::string& to) override;
  Result<Done> append(const std::string& path, std::string_view content) override;
  Result<Done> remove(const std::string& path) override;
  Result<Done> touch(const std::string& path) override;
  Result<Done> write_secret(const std::string& path, std::string_view content) override;
  Result<std::unique_ptr<Appender>> append_to(const std::string& path, uint64_t keep) override;
  Result<Lock> lock(const std::string& path, int seconds, bool shared) override;

  // Called before each system call that changes the disk: a test ends the process there.
  std::function<void()> before_change;

 private:
  void changing() const {
    if (before_change) before_change();
  }
  int create_beside(const std::string& path, std::string* name) const;
  Result<Done> write_as(const std::string& path, std::string_view content, int mode);
};

class PosixProc : public Proc {
 public:
  std::optional<std::string> env(const std::string& name) override;
  std::optional<std::string> find(const std::string& program) override;
  using Proc::run;
  Result<Finished> run(const Job& job) override;
  int cores() override;
};

class SystemClock : public Clock {
 public:
  int64_t now() override;
  void sleep(double seconds) override;
};

class FdOut : public Out {
 public:
  // Colour on a terminal, unless NO_COLOR is set and not empty (https://no-color.org) or TERM is dumb.
  FdOut(int fd, Proc& proc);
  ~FdOut() override { flush(); }
  void write(std::string_view text) override;
  void flush();
  bool failed() const { return failed_; }  // the reader went away, or the disk is full

 private:
  int fd_;
  std::string pending_;
  bool failed_ = false;
};

}  // namespace clary::tool
