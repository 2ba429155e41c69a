// Builds on the real disk with real programs: patches that git applies, and a build that is stopped and goes on. The compiler is
// a shell script.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "support.h"
#include "wheel/core/engine.h"
#include "wheel/core/sources.h"
#include "wheel/os/posix.h"

namespace clary::tool::test {
namespace {

namespace fs = std::filesystem;

// ---- patches ----------------------------------------------------------------------------------------------------------------

struct PatchTest : testing::Test {
  PosixDisk disk;
  MemoryNet net;
  PosixProc proc;
  SystemClock clock;
  MemoryOut out, err;
  Ctx ctx{disk, net, proc, clock, out, err};
  const std::string root = fresh_folder("patch"), folder = root + "/copy/source";

  void SetUp() override {
    if (!proc.find("git")) GTEST_SKIP() << "no git here";
    put(folder + "/csrc/a.cu", "one\ntwo\nthree\n");
    put(root + "/out.cu", "one\ntwo\nthree\n");
  }
  void put(const std::string& path, const std::string& content) {
    fs::create_directories(dir_name(path));
    ASSERT_TRUE(disk.write(path, content));
  }
  std::string get(const std::string& path) { return *disk.read(path, 1 << 20); }
  // Changes "two" of a file.
  std::string patch_of(const std::string& file) {
    const std::string path = root + "/" + base_name(file) + ".patch";
    put(path, "--- a/" + file + "\n+++ b/" + file + "\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n");
    return path;
  }
};

TEST_F(PatchTest, GitAppliesItOnce) {
  const std::string patch = patch_of("csrc/a.cu");
  const Result<Applied> first = apply_patch(ctx, folder, patch);
  ASSERT_TRUE(first) << first.error().message << first.error().hint;
  EXPECT_FALSE(first->already);
  EXPECT_EQ(get(folder + "/csrc/a.cu"), "one\nTWO\nthree\n");
  const Result<Applied> again = apply_patch(ctx, folder, patch);
  ASSERT_TRUE(again) << again.error().message << again.error().hint;
  EXPECT_TRUE(again->already);
  put(folder + "/csrc/a.cu", "one\n2\nthree\n");
  const Result<Applied> other = apply_patch(ctx, folder, patch);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message, "the patch does not fit: " + patch);
  EXPECT_NE(other.error().hint.find("csrc/a.cu"), std::string::npos) << other.error().hint;
  EXPECT_EQ(get(folder + "/csrc/a.cu"), "one\n2\nthree\n");
}

TEST_F(PatchTest, FilesComeAndGo) {
  const std::string patch = root + "/files.patch";
  put(patch,
      "diff --git a/new/b.cu b/new/b.cu\nnew file mode 100755\n--- /dev/null\n+++ b/new/b.cu\n@@ -0,0 +1 @@\n+made\n"
      "diff --git a/csrc/a.cu b/csrc/a.cu\ndeleted file mode 100644\n--- a/csrc/a.cu\n+++ /dev/null\n@@ -1,3 +0,0 @@\n"
      "-one\n-two\n-three\n");
  const Result<Applied> done = apply_patch(ctx, folder, patch);
  ASSERT_TRUE(done) << done.error().message << done.error().hint;
  EXPECT_EQ(get(folder + "/new/b.cu"), "made\n");
  EXPECT_NE(fs::status(folder + "/new/b.cu").permissions() & fs::perms::owner_exec, fs::perms::none);
  EXPECT_FALSE(fs::exists(folder + "/csrc/a.cu"));
}

TEST_F(PatchTest, NothingOutsideTheCopyIsTouched) {
  fs::create_directory_symlink("../..", folder + "/up");
  for (const std::string& file : {std::string("../../out.cu"), std::string("up/out.cu"), root + "/out.cu"}) {
    EXPECT_FALSE(apply_patch(ctx, folder, patch_of(file))) << file;
    EXPECT_EQ(get(root + "/out.cu"), "one\ntwo\nthree\n") << file;
  }
}

// A copy of a checkout holds its .git: a repository of its own, or a file that names the original's.
TEST_F(PatchTest, ItsRepositoryIsNotAsked) {
  put(root + "/checkout/csrc/a.cu", "one\ntwo\nthree\n");
  ASSERT_EQ(proc.run({.argv = {"git", "init", "-q", "."}, .folder = root + "/checkout"})->exit_code, 0);
  ASSERT_EQ(proc.run({.argv = {"git", "config", "core.worktree", root + "/checkout"}, .folder = root + "/checkout"})
                ->exit_code,
            0);
  put(folder + "/.git", "gitdir: " + root + "/checkout/.git\n");
  const Result<Applied> done = apply_patch(ctx, folder, patch_of("csrc/a.cu"));
  ASSERT_TRUE(done) << done.error().message << done.error().hint;
  EXPECT_EQ(get(folder + "/csrc/a.cu"), "one\nTWO\nthree\n");
  EXPECT_EQ(get(root + "/checkout/csrc/a.cu"), "one\ntwo\nthree\n");
}

// ---- a Python of a folder of its own -------------------------------------------------------------------------------------------

TEST(Engine, APythonsOwnFolderStaysOutOfModules) {
  MemoryWorld world;
  const std::string program = "/p/bin/python3.12";
  world.proc.act = [&](const Job& job) -> std::optional<Finished> {
    const std::string line = join(job.argv, " ");
    if (line.find("'LDSHARED'") != line.npos)
      return Finished{0, "gcc -shared -L/p/lib -Wl,-rpath,/p/lib  -Wl,-z,now -Wl,-rpath=/p/lib\n", ""};
    return Finished{0, line.find("'LDCXXSHARED'") != line.npos ? "g++ -shared\n" : "", ""};
  };
  BuildSite site;
  site.source = "/s", site.work = "/w", site.out = "/w/out", site.prefix = "/env", site.python.program = program;
  const Result<std::vector<Step>> steps = find_engine("local")->steps(world.ctx, site);
  ASSERT_TRUE(steps);
  EXPECT_EQ(steps->back().job.env.at("LDSHARED"), "gcc -shared -L/p/lib -Wl,-z,now");
  EXPECT_FALSE(steps->back().job.env.contains("LDCXXSHARED"));
  site.env["LDSHARED"] = "mine";
  EXPECT_EQ(find_engine("local")->steps(world.ctx, site)->back().job.env.at("LDSHARED"), "mine");
}

// ---- a build that is stopped --------------------------------------------------------------------------------------------------

struct HomeProc : PosixProc {
  explicit HomeProc(std::string root) : root(std::move(root)) {}
  std::optional<std::string> env(const std::string& name) override {
    if (name == "CLARY_CACHE") return root + "/cache";
    return name == "PATH" ? PosixProc::env(name) : std::nullopt;
  }
  std::string root;
};

// Compiles kept.o, which takes a minute the first time, then makes the wheel.
struct StoppedBuild : testing::Test {
  const std::string root = fresh_folder("stopped"), wheel = root + "/out/demo-1.0-cp312-cp312-linux_x86_64.whl";

  void SetUp() override {
    PosixDisk disk;
    for (const char* folder : {"/source", "/env/bin"}) fs::create_directories(root + folder);
    ASSERT_TRUE(disk.write(root + "/source/clary.toml",
                           "[package]\nname = \"demo\"\nversion = \"1.0\"\n[matrix]\npython = [\"3.12\"]\nplatform = "
                           "[\"linux_x86_64\"]\ntorch-abi = \"none\"\n[build]\ncuda = \"no\"\n"));
    ASSERT_TRUE(disk.write(root + "/source/setup.py", "# the script below stands for it\n"));
    WheelSpec spec;
    spec.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(module_spec())});
    ASSERT_TRUE(disk.write(root + "/" + spec.file_name(), make_wheel(spec)));
    const std::string python = root + "/env/bin/python";
    ASSERT_TRUE(disk.write(python, "#!/bin/sh\ncase \"$*\" in\n*'import sys,sysconfig'*) echo 3.12.3 " + root +
                                       "/env/site 0 cpython ;;\n*'pip wheel'*)\n  echo $$ > " + root +
                                       "/pid\n  echo run >> " + root +
                                       "/runs\n  [ -e kept.o ] || { echo object > kept.o; touch " + root +
                                       "/compiled; sleep 60; }\n  cp " + root + "/" + spec.file_name() + " " +
                                       "\"$(echo \"$*\" | sed 's/.*--wheel-dir \\([^ ]*\\).*/\\1/')\" ;;\nesac\n"));
    fs::permissions(python, fs::perms::owner_all);
  }
  int build(const std::string& cap, std::string* said = nullptr) const {
    PosixDisk disk;
    MemoryNet net;
    HomeProc proc(root);
    SystemClock clock;
    MemoryOut out, err;
    Ctx ctx{disk, net, proc, clock, out, err};
    const int code = run_clary(ctx, {"build", "--source", root + "/source", "--out", root + "/out", "--environment",
                                     root + "/env", "--cap", cap});
    if (said) *said = out.text + err.text;
    return code;
  }
  void expect_no_more_compiling() {
    fs::remove(root + "/compiled");
    std::string said;
    EXPECT_EQ(build("30s", &said), kFine) << said;
    EXPECT_FALSE(fs::exists(root + "/compiled"));
  }
  // The object of the stopped run is there, and the next run takes it: else it would take a minute again.
  void expect_goes_on() {
    EXPECT_TRUE(fs::exists(root + "/compiled"));
    EXPECT_FALSE(fs::exists(wheel));
    std::string said;
    ASSERT_EQ(build("30s", &said), kFine) << said;
    EXPECT_TRUE(fs::exists(wheel));
    EXPECT_EQ(*PosixDisk().read(root + "/runs", 100), "run\nrun\n");
    ASSERT_EQ(build("30s", &said), kFine) << said;
    EXPECT_NE(said.find("up to date"), std::string::npos) << said;
  }
  void expect_goes_on_after(int signal) {
    const pid_t pid = fork();
    if (pid == 0) _exit(build("6h"));
    for (int i = 0; i < 3000 && !fs::exists(root + "/compiled"); i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ::kill(pid, signal);
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal);
    EXPECT_TRUE(processes_end(root + "/pid"));
    expect_goes_on();
  }
};

TEST_F(StoppedBuild, ByItsTimeCap) {
  std::string said;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(build("1s", &said), kFinding);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(25));
  EXPECT_NE(said.find("out of time: "), std::string::npos) << said;
  EXPECT_NE(said.find("error: the time cap is reached; what is compiled is kept\n\nhint: the same command goes on"),
            std::string::npos)
      << said;
  expect_goes_on();
}

// Build tools would take the object for up to date: they compare times.
TEST_F(StoppedBuild, OtherOptionsBeginAnew) {
  EXPECT_EQ(build("2s"), kFinding);
  EXPECT_TRUE(fs::exists(root + "/compiled"));
  fs::remove(root + "/compiled");
  ASSERT_TRUE(PosixDisk().append(root + "/source/clary.toml", "env = { OPTION = \"1\" }\n"));
  EXPECT_EQ(build("2s"), kFinding);
  EXPECT_TRUE(fs::exists(root + "/compiled"));
  expect_no_more_compiling();
}

TEST_F(StoppedBuild, ByCtrlC) { expect_goes_on_after(SIGINT); }
TEST_F(StoppedBuild, ByTheMachine) { expect_goes_on_after(SIGKILL); }

}  // namespace
}  // namespace clary::tool::test
