#include "support.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "wheel/os/posix.h"

namespace clary::tool::test {
namespace {

namespace fs = std::filesystem;

// In memory where there is such a place that may hold programs: thousands of fsync() cost minutes on a disk.
struct Scratch {
  std::string path;
  Scratch() {
    struct statvfs memory{};
    const bool fit = statvfs("/dev/shm", &memory) == 0 && !(memory.f_flag & ST_NOEXEC) && access("/dev/shm", W_OK) == 0;
    path = (fit ? "/dev/shm" : fs::temp_directory_path().string()) + "/clary-test-XXXXXX";
    if (!mkdtemp(path.data())) std::abort();
  }
  ~Scratch() { fs::remove_all(path); }
};

const std::string& scratch() {
  static const Scratch one;
  return one.path;
}

}  // namespace

std::string transcript(MemoryWorld& world, const Strings& args) {
  world.out.text.clear(), world.err.text.clear();
  const int code = run_clary(world.ctx, args);
  Strings words;
  for (const std::string& arg : args) words.push_back(shell(arg));
  std::string out = "$ clary " + join(words, " ") + "\nexit " + std::to_string(code) + "\n";
  out += "--- stdout\n" + world.out.text + "--- stderr\n" + world.err.text;
  if (!world.disk.written.empty()) {
    out += "--- written\n";
    for (const std::string& path : world.disk.written) out += path + "\n";
  }
  return out;
}

void expect_snapshot(const std::string& name, const std::string& text) {
  const std::string path = std::string(CLARY_SOURCE_DIR) + "/tests/wheel/snapshots/" + name + ".txt";
  if (std::getenv("CLARY_UPDATE_SNAPSHOTS")) {
    std::ofstream(path, std::ios::binary) << text;
    return;
  }
  std::ifstream file(path, std::ios::binary);
  std::stringstream stored;
  stored << file.rdbuf();
  EXPECT_TRUE(file.is_open()) << "no snapshot " << path << "; CLARY_UPDATE_SNAPSHOTS=1 writes it";
  EXPECT_EQ(stored.str(), text) << "snapshot " << name << " differs; CLARY_UPDATE_SNAPSHOTS=1 rewrites it";
}

std::string run_program(const Strings& argv) {
  PosixProc proc;
  const Result<Finished> done = proc.run(argv, 120);
  return done && done->exit_code == 0 ? done->out : "";
}

bool processes_end(const std::string& file) {
  std::ifstream in(file);
  std::vector<int> pids;
  for (int pid; in >> pid;) pids.push_back(pid);
  if (pids.empty()) return false;
  // One that nobody has waited for yet is gone, too.
  const auto runs = [](int pid) {
    const Result<std::string> stat = PosixDisk().read("/proc/" + std::to_string(pid) + "/stat", 4096);
    const size_t name = stat ? stat->rfind(") ") : std::string::npos;
    return name != std::string::npos && (*stat)[name + 2] != 'Z' && (*stat)[name + 2] != 'X';
  };
  for (int i = 0; i < 2000; i++) {
    if (std::none_of(pids.begin(), pids.end(), runs)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (const int pid : pids) ::kill(pid, SIGKILL);
  return false;
}

std::string fresh_folder(const std::string& name) {
  const std::string path = scratch() + "/" + name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::string temp_file(const std::string& name, const std::string& content) {
  const std::string folder = scratch() + "/files", path = folder + "/" + name;
  fs::create_directories(folder);
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string oracle_python(const std::string& script, const std::string& input) {
  PosixProc proc;
  const std::string given = proc.env("CLARY_TEST_PYTHON").value_or("");
  for (const std::string& python :
       {given, std::string(CLARY_SOURCE_DIR) + "/.venv/bin/python", std::string("python3")}) {
    if (python.empty() ||
        run_program({python, "-c", "import packaging.version, packaging.specifiers; print(1)"}).empty())
      continue;
    const std::string out = run_program({python, temp_file("oracle.py", script), temp_file("oracle.txt", input)});
    EXPECT_FALSE(out.empty()) << "the oracle failed";
    return out;
  }
  return "";
}

void for_each_damage(const std::string& good, size_t flips, const std::function<void(const std::string&)>& see) {
  for (size_t i = 0; i < good.size(); i += good.size() / 400 + 1) see(good.substr(0, i));
  uint64_t seed = 88172645463325252;  // xorshift: the same damage on every machine
  for (size_t i = 0; i < flips; i++) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    std::string bad = good;
    const size_t at = seed % bad.size();
    static constexpr uint8_t kValues[] = {0x00, 0xff, 0x7f, 0x80, 0x01};
    const uint64_t pick = seed >> 40;
    bad[at] =
        static_cast<char>(pick % 6 == 5 ? static_cast<uint8_t>(bad[at]) ^ (1u << (pick >> 8 & 7)) : kValues[pick % 6]);
    if (pick % 3 == 0 && at + 4 < bad.size()) bad[at + 1] = bad[at + 2] = bad[at + 3] = bad[at];
    see(bad);
  }
}

}  // namespace clary::tool::test
