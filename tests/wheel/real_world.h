// The real disk with a network, a clock and programs in memory: what crash tests stop at every change, and what two commands
// at once share.
#pragma once
#include "support.h"
#include "wheel/core/target.h"
#include "wheel/os/posix.h"

namespace clary::tool::test {

// Answers as an interpreter and as pip would: `pip install --prefix DIR -r FILE` unpacks the wheel, through the same disk.
class FakePython : public MemoryProc {
 public:
  FakePython(Disk& disk, std::string prefix) : disk_(disk), prefix_(std::move(prefix)) {}
  using Proc::run;
  Result<Finished> run(const Job& job) override;
  std::string site() const { return prefix_ + "/lib/python3.12/site-packages"; }

 private:
  Disk& disk_;
  std::string prefix_;
};

struct RealWorld {
  explicit RealWorld(const std::string& root) : proc(disk, root + "/env") {
    proc.environment = {{"HOME", root}, {"CLARY_CACHE", root + "/cache"}, {"CLARY_HOME", root + "/config"}};
  }
  PosixDisk disk;
  MemoryNet net;
  FakePython proc;
  MemoryClock clock;
  MemoryOut out, err;
  Ctx ctx{disk, net, proc, clock, out, err};
};

void copy_tree(const std::string& from, const std::string& to);
std::string python_answer(const std::string& prefix);  // what the interpreter says of itself

// `act` in a process of its own that ends before its n-th change of the disk. False: it came to its end before that.
bool stopped_at(int n, const std::string& root, const std::function<void(RealWorld&)>& act);
// Each in a process of its own, all at once; their exit codes.
std::vector<int> at_once(const std::string& root, const std::vector<std::function<int(RealWorld&)>>& acts);

}  // namespace clary::tool::test
