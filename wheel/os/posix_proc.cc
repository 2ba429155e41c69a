#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>

#include "wheel/os/posix.h"
#include "wheel/os/posix_guard.h"

extern char** environ;

namespace clary::tool {
namespace {

constexpr size_t kMostOutput = 16 << 20;

// A child sees these, what its job sets, and no others: no token of ours is another program's business.
constexpr std::string_view kPassed[] = {"PATH=",
                                        "HOME=",
                                        "USER=",
                                        "LANG=",
                                        "LC_",
                                        "LD_LIBRARY_PATH=",
                                        "TMPDIR=",
                                        "XDG_",
                                        "CUDA_",
                                        "PIP_",
                                        "UV_",
                                        "DOCKER_HOST=",
                                        "HTTPS_PROXY=",
                                        "HTTP_PROXY=",
                                        "NO_PROXY=",
                                        "https_proxy=",
                                        "NVIDIA_",
                                        "SSL_CERT_",
                                        "DOCKER_CONFIG=",
                                        "CONTAINER_HOST=",
                                        "http_proxy=",
                                        "no_proxy=",
                                        "CCACHE_",
                                        "CONTAINERS_",
                                        "REGISTRY_AUTH_FILE=",
                                        "CIBW_"};

Strings child_environment(const std::map<std::string, std::string>& more) {
  Strings out;
  for (char** entry = environ; *entry; entry++) {
    const std::string_view text(*entry);
    const bool passed =
        std::any_of(std::begin(kPassed), std::end(kPassed), [&](std::string_view p) { return text.starts_with(p); });
    if (passed && !more.contains(std::string(text.substr(0, text.find('='))))) out.emplace_back(text);
  }
  for (const auto& [name, value] : more) {
    if (!value.empty()) out.push_back(name + "=" + value);
  }
  return out;
}

std::vector<char*> pointers(const Strings& list) {
  std::vector<char*> out;
  for (const std::string& text : list) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

std::optional<std::string> find_in(std::string_view folders, const std::string& program) {
  if (program.find('/') != program.npos)
    return ::access(program.c_str(), X_OK) == 0 ? std::optional(program) : std::nullopt;
  for (std::string_view folder : split(folders, ':')) {
    const std::string path = (folder.empty() ? "." : std::string(folder)) + "/" + program;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return std::nullopt;
}

// When its time is over the guard is told, which ends the program and what it started.
class Deadline {
 public:
  Deadline(int lifeline, int seconds) : lifeline_(lifeline), at_(Clock::now() + std::chrono::seconds(seconds)) {}
  bool late() const { return late_; }
  int wait_ms() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return late_ ? 50 : static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
  }
  void look() {
    if (late_ || Clock::now() < at_) return;
    late_ = true;
    (void)!::write(lifeline_, "", 1);
  }

 private:
  using Clock = std::chrono::steady_clock;
  int lifeline_;
  Clock::time_point at_;
  bool late_ = false;
};

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
  return find_in(env("PATH").value_or("/usr/bin:/bin"), program);
}

Result<Finished> PosixProc::run(const Job& job) {
  Pipe out, err, lifeline, failure;
  if (job.argv.empty() || !out.open() || !err.open() || !lifeline.open() || !failure.open())
    return Error{"cannot start a program", ""};
  const Strings environment = child_environment(job.env);
  const std::vector<char*> args = pointers(job.argv), variables = pointers(environment);
  // The child's PATH decides, as in a shell.
  const auto path = job.env.find("PATH");
  const std::optional<std::string> program =
      path == job.env.end() ? find(job.argv[0]) : find_in(path->second, job.argv[0]);
  const auto cannot = [&](int why) { return Error{"cannot start " + job.argv[0] + ": " + std::strerror(why), ""}; };
  if (!program && job.argv[0].find('/') == std::string::npos) return cannot(ENOENT);
  const pid_t pid = start_guarded({.program = program ? program->c_str() : job.argv[0].c_str(),
                                   .args = args.data(),
                                   .environment = variables.data(),
                                   .folder = job.folder.empty() ? nullptr : job.folder.c_str(),
                                   .out = out.fd[1],
                                   .err = err.fd[1],
                                   .lifeline = lifeline.fd[0],
                                   .failure = failure.fd[1]});
  if (pid < 0) return cannot(errno);
  out.close(1), err.close(1), lifeline.close(0), failure.close(1);

  Finished done;
  Deadline deadline(lifeline.fd[1], job.seconds);
  int status = 0;
  bool ended = false;
  const auto look = [&] {
    deadline.look();
    if (ended) return;
    const pid_t got = ::waitpid(pid, &status, WNOHANG);
    ended = got == pid || (got < 0 && errno != EINTR);
  };
  while ((out.fd[0] >= 0 || err.fd[0] >= 0) && !(deadline.late() && ended)) {
    pollfd fds[] = {{out.fd[0], POLLIN, 0}, {err.fd[0], POLLIN, 0}};
    if (::poll(fds, 2, deadline.wait_ms()) == 0) {
      look();
      continue;
    }
    for (int i = 0; i < 2; i++) {
      if (!fds[i].revents) continue;
      char block[65536];
      const ssize_t n = ::read(fds[i].fd, block, sizeof block);
      std::string& to = i ? done.err : done.out;
      if (n > 0) {
        const std::string_view text(block, static_cast<size_t>(n));
        if (to.size() < kMostOutput) to.append(text);
        if (job.hear) job.hear(text);
      }
      if (n == 0 || (n < 0 && errno != EINTR)) (i ? err : out).close(0);
    }
    look();
  }
  // A child may close its outputs and go on.
  for (int ms = 0; !ended; ms = std::min(2 * ms + 1, 50)) {
    look();
    if (!ended) ::poll(nullptr, 0, std::min(ms, deadline.wait_ms()));
  }
  int why = 0;
  if (::read(failure.fd[0], &why, sizeof why) == sizeof why) return cannot(why);
  if (deadline.late()) return Error{job.argv[0] + format(" did not end within %d s", job.seconds), ""};
  done.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return done;
}

int PosixProc::cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

int64_t SystemClock::now() { return static_cast<int64_t>(std::time(nullptr)); }
void SystemClock::sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

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
