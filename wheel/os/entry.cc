// main(): the real world, handed to run_clary().
#include <csignal>

#include "wheel/command.h"
#include "wheel/os/curl.h"
#include "wheel/os/posix.h"

int main(int argc, char** argv) {
  using namespace clary::tool;
  std::signal(SIGPIPE, SIG_IGN);  // `clary plan | head` ends quietly
  PosixDisk disk;
  PosixProc proc;
  CurlNet net(proc);
  SystemClock clock;
  FdOut out(1, proc), err(2, proc);
  Ctx ctx{disk, net, proc, clock, out, err};
  const int code = run_clary(ctx, Strings(argv + 1, argv + argc));
  out.flush();
  err.flush();
  return out.failed() && code == kFine ? kUsage : code;
}
