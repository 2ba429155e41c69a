// The real world's implementations: atomic writes, bounded programs, a child's environment.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "support.h"
#include "wheel/os/posix.h"

namespace clary::tool::test {
namespace {

std::string dir_of_temp() { return dir_name(temp_file("x", "")); }

TEST(PosixDisk, WritesAtOnce) {
  PosixDisk disk;
  const std::string dir = dir_of_temp() + "/a/b/c", path = dir + "/f.txt";
  ASSERT_TRUE(disk.make_dirs(dir));
  ASSERT_TRUE(disk.make_dirs(dir));  // again
  ASSERT_TRUE(disk.write(path, "one"));
  const Result<Mapping> old = disk.map(path);
  ASSERT_TRUE(disk.write(path, "two"));
  EXPECT_EQ(text(old->bytes), "one");  // a reader keeps the file it opened
  EXPECT_EQ(*disk.read(path, 100), "two");
  EXPECT_EQ(*disk.list(dir), Strings{"f.txt"});  // nothing left beside it
  EXPECT_EQ(disk.info(path)->size, 3u);
  EXPECT_TRUE(disk.info(dir)->is_dir);
  EXPECT_FALSE(disk.write(dir_of_temp() + "/none/f.txt", "x"));
  EXPECT_FALSE(disk.make_dirs(path + "/below"));
}

TEST(PosixDisk, LinksOrCopies) {
  PosixDisk disk;
  const std::string from = temp_file("from.bin", std::string(100'000, 'q')), to = dir_of_temp() + "/to.bin";
  for (int i = 0; i < 2; i++) {  // also over what is there, and over itself
    ASSERT_TRUE(disk.link_or_copy(from, to));
    EXPECT_EQ(disk.info(to)->size, 100'000u);
  }
  const Strings names = *disk.list(dir_of_temp());
  for (const std::string& name : names) EXPECT_EQ(name.find(".part-"), name.npos) << name;
  EXPECT_FALSE(disk.link_or_copy(dir_of_temp() + "/gone", to));
}

TEST(PosixDisk, SaysWhatItCannotRead) {
  PosixDisk disk;
  EXPECT_EQ(disk.map("/").error().message, "a folder, not a file: /");
  EXPECT_EQ(disk.map("/dev/zero").error().message, "not a regular file: /dev/zero");
  EXPECT_EQ(disk.map("/gone").error().message, "cannot open /gone: No such file or directory");
  EXPECT_TRUE(disk.map(temp_file("empty", ""))->bytes.empty());
  EXPECT_LE(disk.read("/dev/zero", 100)->size(), 100u);
}

// As a shell, a pipe and a program that starts us through a socket give it.
TEST(PosixDisk, ReadsStandardInput) {
  PosixDisk disk;
  const int kept = dup(0);
  const auto read_from = [&](int fd) {
    dup2(fd, 0), close(fd);
    return *disk.read("/dev/stdin", 1 << 20);
  };
  EXPECT_EQ(read_from(open(temp_file("in.txt", "of a file").c_str(), O_RDONLY)), "of a file");
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(write(ends[1], "of a pipe", 9), 9);
  close(ends[1]);
  EXPECT_EQ(read_from(ends[0]), "of a pipe");
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  ASSERT_EQ(write(ends[1], "of a socket", 11), 11);
  close(ends[1]);
  EXPECT_EQ(read_from(ends[0]), "of a socket");
  dup2(kept, 0), close(kept);
}

TEST(PosixDisk, CopiesLinksAndRemovesTrees) {
  PosixDisk disk;
  const std::string dir = dir_of_temp() + "/tree";
  ASSERT_TRUE(disk.make_dirs(dir + "/sub"));
  ASSERT_TRUE(disk.write(dir + "/sub/run.sh", "echo"));
  run_program({"chmod", "755", dir + "/sub/run.sh"});
  run_program({"touch", "-d", "@1000000000", dir + "/sub/run.sh"});
  for (int i = 0; i < 2; i++) {  // also over what is there
    ASSERT_TRUE(disk.symlink("sub", dir + "/link"));
    ASSERT_TRUE(disk.copy(dir + "/sub/run.sh", dir + "/copy.sh"));
    ASSERT_TRUE(disk.copy(dir + "/link", dir + "/link2"));
  }
  EXPECT_EQ(run_program({"stat", "-c", "%a %Y", dir + "/copy.sh"}), "755 1000000000\n");
  EXPECT_EQ(run_program({"readlink", dir + "/link2"}), "sub\n");
  EXPECT_TRUE(disk.info(dir + "/link2")->is_link && disk.info(dir + "/link2")->is_dir);
  EXPECT_FALSE(disk.info(dir + "/sub")->is_link);
  ASSERT_TRUE(disk.append(dir + "/log", "a") && disk.append(dir + "/log", "b"));
  EXPECT_EQ(*disk.read(dir + "/log", 9), "ab");
  ASSERT_TRUE(disk.rename(dir + "/log", dir + "/log2"));
  EXPECT_FALSE(disk.rename(dir + "/log", dir + "/log2"));
  ASSERT_TRUE(disk.remove(dir + "/link"));  // the link, not the folder
  EXPECT_TRUE(disk.info(dir + "/sub/run.sh"));
  ASSERT_TRUE(disk.remove(dir) && disk.remove(dir));
  EXPECT_FALSE(disk.info(dir));
}

TEST(PosixDisk, LocksAmongProcesses) {
  PosixDisk disk;
  const std::string path = dir_of_temp() + "/lock";
  {
    const Result<Lock> held = disk.lock(path, 0, false);
    ASSERT_TRUE(held);
    EXPECT_EQ(disk.lock(path, 0, false).error().message, "in use by another process: " + path);
  }
  EXPECT_TRUE(disk.lock(path, 0, false));
}

TEST(PosixProc, JobsHaveAFolderVariablesAndAListener) {
  PosixProc proc;
  setenv("CUDA_HOME", "/cuda", 1);
  std::string heard;
  const Result<Finished> done = proc.run({.argv = {"sh", "-c", "pwd; echo $A-$CUDA_HOME >&2"},
                                          .seconds = 10,
                                          .folder = "/",
                                          .env = {{"A", "x"}, {"CUDA_HOME", ""}},
                                          .hear = [&](std::string_view text) { heard += text; }});
  unsetenv("CUDA_HOME");
  ASSERT_TRUE(done);
  EXPECT_EQ(done->out + done->err, "/\nx-\n");
  EXPECT_EQ(heard.size(), done->out.size() + done->err.size()) << heard;  // in the order they came
}

TEST(PosixProc, RunsWithoutAShell) {
  PosixProc proc;
  const Result<Finished> done = proc.run({"printf", "%s|", "a b", "$HOME", "`x`"}, 10);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->out, "a b|$HOME|`x`|");
  EXPECT_EQ(proc.run({"sh", "-c", "echo no >&2; exit 3"}, 10)->exit_code, 3);
  EXPECT_EQ(proc.run({"sh", "-c", "echo no >&2; exit 3"}, 10)->err, "no\n");
  EXPECT_FALSE(proc.run({"no-such-program-here"}, 10));
  EXPECT_TRUE(proc.find("sh"));
  EXPECT_GE(proc.cores(), 1);
}

TEST(PosixProc, EndsWhatDoesNot) {
  PosixProc proc;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(proc.run({"sh", "-c", "sleep 60 & sleep 60"}, 1));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(PosixProc, EndsWhatClosedItsOutputs) {
  PosixProc proc;
  const auto begin = std::chrono::steady_clock::now();
  const Result<Finished> late = proc.run({"sh", "-c", "exec >&- 2>&-; sleep 60"}, 1);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().message, "sh did not end within 1 s");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  // One that ends in time is waited for, and one that does not listen is made to end.
  EXPECT_EQ(proc.run({"sh", "-c", "echo x; exec >&- 2>&-; sleep 0.2; exit 7"}, 30)->exit_code, 7);
  EXPECT_FALSE(proc.run({"sh", "-c", "trap '' TERM; exec >&- 2>&-; while :; do sleep 1; done"}, 1));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(40));
}

// A shell that does not listen, its child, and one that left the group and then lost its parent.
std::string three_processes(const std::string& file) {
  return "trap '' TERM; echo $$ > " + file + "; sleep 60 & echo $! >> " + file + "; setsid sh -c 'echo $$ >> " + file +
         "; sleep 60 & echo $! >> " + file + "; exec sleep 60' & while :; do sleep 1; done";
}

TEST(PosixProc, NothingOutlivesItsTime) {
  PosixProc proc;
  const std::string file = fresh_folder("late") + "/pids";
  EXPECT_FALSE(proc.run({"sh", "-c", three_processes(file)}, 1));
  EXPECT_TRUE(processes_end(file));
  EXPECT_EQ(split(trim(*PosixDisk().read(file, 100)), '\n').size(), 4u);
}

TEST(PosixProc, NothingOutlivesUs) {
  for (const int signal : {SIGKILL, SIGTERM}) {
    const std::string file = fresh_folder("alone") + "/pids";
    const pid_t pid = fork();
    if (pid == 0) {
      PosixProc proc;
      (void)proc.run({"sh", "-c", three_processes(file)}, 60);
      _exit(0);
    }
    const auto lines = [&] {
      const Result<std::string> text = PosixDisk().read(file, 100);
      return text ? split(*text, '\n').size() : 0;
    };
    for (int i = 0; i < 1000 && lines() < 5; i++) usleep(10'000);
    EXPECT_EQ(lines(), 5u);  // four, and what follows the last
    kill(pid, signal);
    waitpid(pid, nullptr, 0);
    EXPECT_TRUE(processes_end(file));
  }
}

// Neither waits for the other's outputs: a job's pipes are its own.
TEST(PosixProc, JobsAtOnce) {
  PosixProc proc;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++) {
    threads.emplace_back([&proc, i] {
      for (int n = 0; n < 10; n++) {
        const Result<Finished> done = proc.run({"sh", "-c", i ? "echo $$" : "sleep 0.5"}, 10);
        EXPECT_TRUE(done && done->exit_code == 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(PosixProc, SaysWhyItCannotStart) {
  PosixProc proc;
  const std::string text = temp_file("text", "no program");
  EXPECT_EQ(proc.run({"no-such-program-here"}, 10).error().message,
            "cannot start no-such-program-here: No such file or directory");
  EXPECT_EQ(proc.run({text}, 10).error().message, "cannot start " + text + ": Permission denied");
  EXPECT_EQ(proc.run({.argv = {"true"}, .folder = "/gone"}).error().message,
            "cannot start true: No such file or directory");
}

TEST(PosixProc, ChildrenSeeNoToken) {
  PosixProc proc;
  setenv("HF_TOKEN", "hf_secret", 1);
  setenv("CUDA_HOME", "/cuda", 1);
  const std::string environment = proc.run({"env"}, 10)->out;
  EXPECT_EQ(environment.find("hf_secret"), std::string::npos);
  EXPECT_NE(environment.find("CUDA_HOME=/cuda"), std::string::npos);
  EXPECT_EQ(proc.env("HF_TOKEN"), "hf_secret");
  unsetenv("HF_TOKEN");
  unsetenv("CUDA_HOME");
}

TEST(FdOut, NoColourWithoutATerminal) {
  PosixProc proc;
  FdOut out(open("/dev/null", 1), proc);
  EXPECT_FALSE(out.terminal);
  EXPECT_FALSE(out.colour);
}

}  // namespace
}  // namespace clary::tool::test
