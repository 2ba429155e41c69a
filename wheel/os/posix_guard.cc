// All of it runs after fork() of a process that may have threads: system calls alone, no memory is asked for.
#include "wheel/os/posix_guard.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>

namespace clary::tool {
namespace {

constexpr int kLifeline = 3, kFailure = 4, kFirstOther = 5;
constexpr int kRounds = 50;  // of 100 ms, from SIGTERM to SIGKILL, and from there to giving up
constexpr timespec kRound = {0, 100'000'000};

void close_others() {
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, kFirstOther, ~0u, 0) == 0) return;
#endif
  rlimit most{};
  ::getrlimit(RLIMIT_NOFILE, &most);
  for (int fd = kFirstOther; fd < static_cast<int>(std::min<rlim_t>(most.rlim_cur, 65536)); fd++) ::close(fd);
}

// Outputs at 1 and 2, the guard's two at 3 and 4, nothing else: another job's pipe must not stay open here.
bool settle_files(const GuardedStart& s) {
  int fds[] = {s.out, s.err, s.lifeline, s.failure};
  for (int& fd : fds) {
    if ((fd = ::fcntl(fd, F_DUPFD, 16)) < 0) return false;  // out of the way of 0 to 4
  }
  const int in = ::open("/dev/null", O_RDONLY);
  if (in < 0 || ::dup2(in, 0) < 0) return false;
  for (int i = 0; i < 4; i++) {
    if (::dup2(fds[i], i + 1) < 0) return false;
  }
  close_others();
  ::fcntl(kFailure, F_SETFD, FD_CLOEXEC);
  ::fcntl(kLifeline, F_SETFD, FD_CLOEXEC);
  return true;
}

[[noreturn]] void cannot_start() {
  const int why = errno;
  (void)!::write(kFailure, &why, sizeof why);
  ::_exit(127);
}

[[noreturn]] void become_program(const GuardedStart& s, pid_t guard) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) std::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // should somebody kill the guard
  if (::getppid() != guard) ::_exit(127);
  if (!s.folder || ::chdir(s.folder) == 0) ::execve(s.program, s.args, s.environment);
  cannot_start();
}

// To the group, which the guard itself survives, and to those of its children that are not in it.
void signal_all(int signal) {
  const int file = ::open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  char text[4096];
  const ssize_t n = file < 0 ? 0 : ::read(file, text, sizeof text);
  if (file >= 0) ::close(file);
  pid_t pid = 0;
  for (ssize_t i = 0; i < n; i++) {
    if (text[i] == ' ') {
      ::kill(pid, signal);
      pid = 0;
    } else {
      pid = pid * 10 + (text[i] - '0');
    }
  }
  if (signal != SIGKILL) ::kill(0, signal);
}

// True: the program ended, and how. Those that lost their parents are children of the guard and are not asked how.
bool reap(pid_t program, int* code, bool* alone) {
  bool ended = false;
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    *alone = pid < 0 && errno == ECHILD;
    if (pid <= 0) return ended;
    if (pid != program) continue;
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ended = true;
  }
}

[[noreturn]] void end_all(pid_t program) {
  int code = 128 + SIGTERM;
  for (int round = 0; round < 2 * kRounds; round++) {
    bool alone = false;
    reap(program, &code, &alone);
    if (alone) break;
    if (round == 0) signal_all(SIGTERM);
    if (round >= kRounds) signal_all(SIGKILL);
    ::nanosleep(&kRound, nullptr);
  }
  ::kill(0, SIGKILL);  // and the guard with them
  ::_exit(code);
}

void wake(int) {}

[[noreturn]] void guard(const GuardedStart& s) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_NAME, "job-guard");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_IGN);
  struct sigaction on_child{};
  on_child.sa_handler = wake;
  ::sigaction(SIGCHLD, &on_child, nullptr);
  sigset_t child, none;
  sigemptyset(&none), sigemptyset(&child), sigaddset(&child, SIGCHLD);
  ::sigprocmask(SIG_SETMASK, &child, nullptr);  // comes only while we wait
  if (!settle_files(s)) ::_exit(127);
  const pid_t self = ::getpid(), program = ::fork();
  if (program == 0) become_program(s, self);
  if (program < 0) cannot_start();
  for (const int fd : {0, 1, 2, kFailure}) ::close(fd);

  for (;;) {
    int code = 0;
    bool alone = false;
    if (reap(program, &code, &alone)) ::_exit(code);
    pollfd line = {kLifeline, POLLIN, 0};
    if (::ppoll(&line, 1, nullptr, &none) > 0) end_all(program);
  }
}

}  // namespace

pid_t start_guarded(const GuardedStart& start) {
  const pid_t pid = ::fork();
  if (pid == 0) guard(start);
  if (pid > 0) ::setpgid(pid, pid);  // here too: whichever comes first
  return pid;
}

}  // namespace clary::tool
