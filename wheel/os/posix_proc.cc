#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "wheel/os/posix.h"

extern char** environ;

namespace clary::tool {
namespace {

constexpr size_t kMostOutput = 16 << 20;

// A child sees these and no others: no token of ours is another program's business.
constexpr std::string_view kPassed[] = {"PATH=", "HOME=", "LANG=",   "LC_",          "LD_LIBRARY_PATH=", "TMPDIR=",
                                        "XDG_",  "CUDA_", "NVIDIA_", "DOCKER_HOST=", "DOCKER_CONFIG="};

std::vector<char*> child_environment() {
  std::vector<char*> out;
  for (char** entry = environ; *entry; entry++) {
    const bool passed = std::any_of(std::begin(kPassed), std::end(kPassed),
                                    [&](std::string_view p) { return std::string_view(*entry).starts_with(p); });
    if (passed) out.push_back(*entry);
  }
  out.push_back(nullptr);
  return out;
}

struct Pipe {
  int fd[2] = {-1, -1};
  bool open() { return ::pipe2(fd, O_CLOEXEC) == 0; }
  void close(int end) {
    if (fd[end] >= 0) ::close(fd[end]);
    fd[end] = -1;
  }
  ~Pipe() { close(0), close(1); }
};

}  // namespace

std::optional<std::string> PosixProc::env(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (!value) return std::nullopt;
  return value;
}

std::optional<std::string> PosixProc::find(const std::string& program) {
  for (std::string_view dir : split(env("PATH").value_or("/usr/bin:/bin"), ':')) {
    const std::string path = (dir.empty() ? "." : std::string(dir)) + "/" + program;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return std::nullopt;
}

Result<Finished> PosixProc::run(const Strings& argv, int seconds) {
  Pipe out, err;
  if (argv.empty() || !out.open() || !err.open()) return Error{"cannot start a program", ""};
  std::vector<char*> args;
  for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  std::vector<char*> environment = child_environment();

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.fd[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err.fd[1], 2);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // its own group, so that its children end with it
  pid_t pid = -1;
  const int rc = ::posix_spawnp(&pid, args[0], &actions, &attributes, args.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (rc != 0) return Error{"cannot start " + argv[0] + ": " + std::strerror(rc), ""};
  out.close(1), err.close(1);

  Finished done;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  bool late = false;
  while (out.fd[0] >= 0 || err.fd[0] >= 0) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd fds[] = {{out.fd[0], POLLIN, 0}, {err.fd[0], POLLIN, 0}};
    if (left <= 0 || ::poll(fds, 2, static_cast<int>(left)) == 0) {
      late = true;
      break;
    }
    for (int i = 0; i < 2; i++) {
      if (!fds[i].revents) continue;
      char block[65536];
      const ssize_t n = ::read(fds[i].fd, block, sizeof block);
      std::string& to = i ? done.err : done.out;
      if (n > 0 && to.size() < kMostOutput) to.append(block, static_cast<size_t>(n));
      if (n == 0 || (n < 0 && errno != EINTR)) (i ? err : out).close(0);
    }
  }
  if (late) ::kill(-pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (late) return Error{argv[0] + format(" did not end within %d s", seconds), ""};
  done.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return done;
}

int PosixProc::cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

int64_t SystemClock::now() { return static_cast<int64_t>(std::time(nullptr)); }

FdOut::FdOut(int fd, Proc& proc) : fd_(fd) {
  terminal = ::isatty(fd);
  colour = terminal && proc.env("NO_COLOR").value_or("").empty() && proc.env("TERM").value_or("") != "dumb";
}

void FdOut::write(std::string_view text) {
  pending_ += text;
  if (terminal || pending_.size() > (64 << 10)) flush();
}

void FdOut::flush() {
  size_t done = 0;
  while (done < pending_.size() && !failed_) {
    const ssize_t n = ::write(fd_, pending_.data() + done, pending_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    failed_ = n <= 0;
    if (n > 0) done += static_cast<size_t>(n);
  }
  pending_.clear();
}

}  // namespace clary::tool
