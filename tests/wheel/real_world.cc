#include "real_world.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "wheel/core/digest.h"
#include "wheel/core/zip.h"

namespace clary::tool::test {

namespace fs = std::filesystem;

std::string python_answer(const std::string& prefix) {
  return "{\"version\":\"3.12.3\",\"implementation\":\"cpython\",\"nogil\":false,\"site\":\"" + prefix +
         "/lib/python3.12/site-packages\",\"prefix\":\"" + prefix +
         "\",\"machine\":\"x86_64\",\"system\":\"linux\",\"soabi\":\"\",\"executable\":\"" + prefix +
         "/bin/python\",\"libc\":\"glibc 2.36\"}";
}

Result<Finished> FakePython::run(const Job& job) {
  const Strings& argv = job.argv;
  const std::string line = join(argv, " ");
  if (line.find("import json,platform") != line.npos) return Finished{0, python_answer(prefix_), ""};
  if (line.ends_with("pip --version")) return Finished{0, "pip 26.3", ""};
  const auto option = [&](const char* name) {
    const auto found = std::find(argv.begin(), argv.end(), name);
    return found == argv.end() ? std::string() : *(found + 1);
  };
  const std::string to = option("--prefix") + "/lib/python3.12/site-packages", list = *disk_.read(option("-r"), 10'000);
  const size_t begin = list.find("file://") + 7;
  std::string wheel = list.substr(begin, list.find(' ', begin) - begin);
  wheel = replace_all(wheel, "%2B", "+");
  const Result<Mapping> file = disk_.map(wheel);
  if (!file) return Finished{1, "", "ERROR: " + file.error().message};
  const std::string sha256 = hex(sha256_of(file->bytes));
  if (list.find("sha256:" + sha256) == list.npos)
    return Finished{1, "", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"};
  const Zip zip = Zip::open(file->bytes);
  std::string info;
  for (const ZipMember& m : zip.members()) {
    const Result<Buffer> content = zip.read(m);
    const std::string path = to + "/" + std::string(m.name);
    if (!disk_.make_dirs(dir_name(path)) || !disk_.write(path, text(content->bytes())))
      return Finished{1, "", "ERROR: disk"};
    if (m.name.ends_with("/RECORD")) info = dir_name(path);
  }
  (void)disk_.write(info + "/direct_url.json",
                    "{\"archive_info\": {\"hashes\": {\"sha256\": \"" + sha256 + "\"}}, \"url\": \"file\"}");
  return Finished{0, "", ""};
}

void copy_tree(const std::string& from, const std::string& to) {
  fs::remove_all(to);
  fs::copy(from, to, fs::copy_options::recursive);
}

bool stopped_at(int n, const std::string& root, const std::function<void(RealWorld&)>& act) {
  const pid_t pid = fork();
  if (pid == 0) {
    RealWorld world(root);
    int left = n;
    world.disk.before_change = [&left] {
      if (left-- == 0) _exit(99);
    };
    act(world);
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by a signal";
  return WEXITSTATUS(status) == 99;
}

std::vector<int> at_once(const std::string& root, const std::vector<std::function<int(RealWorld&)>>& acts) {
  std::vector<pid_t> pids;
  for (const auto& act : acts) {
    const pid_t pid = fork();
    if (pid == 0) {
      RealWorld world(root);
      const int code = act(world);
      if (code) fputs(world.err.text.c_str(), stderr);
      _exit(code);
    }
    pids.push_back(pid);
  }
  std::vector<int> codes;
  for (const pid_t pid : pids) {
    int status = 0;
    waitpid(pid, &status, 0);
    codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }
  return codes;
}

}  // namespace clary::tool::test
