// Threads: callers at once, sizes that change, a fork, other people's executors, and the CPUs a process may use. What is computed is
// one problem with many work items whose result is known.
#include <gtest/gtest.h>

#include <dlfcn.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "engine/cpu/threads.h"
#include "tests/support.h"

namespace clary::test {
namespace {

const Case kWork{
    .B = 2, .Hq = 4, .Hkv = 2, .Lq = 150, .Lk = 400, .D = 32, .Dv = 32, .causal = CLARY_CAUSAL_LOWER_RIGHT};

// ---- the pool itself --------------------------------------------------------------------------------------------------------

struct Count {
  std::atomic<int> runs[64] = {};
  static void task(void* context, int32_t index) { static_cast<Count*>(context)->runs[index].fetch_add(1); }
};

TEST(Pool, RunsEveryTaskOnce) {
  for (int threads = 1; threads <= 5; threads++) {
    Threads pool(threads);
    for (int repeat = 0; repeat < 500; repeat++) {
      const int tasks = 1 + repeat % 9;  // fewer and more than there are workers, alternating
      Count count;
      cpu::parallel(nullptr, tasks, Count::task, &count);
      for (int i = 0; i < 64; i++)
        ASSERT_EQ(count.runs[i].load(), i < tasks) << "task " << i << " of " << tasks << ", " << threads << " threads";
    }
  }
}

TEST(Pool, NoTaskRunsAfterTheCallReturns) {
  Threads pool(4);
  struct Late {
    std::atomic<bool> over{false};
    std::atomic<int> late{0};
  };
  std::vector<Late> jobs(1500);
  for (size_t n = 0; n < jobs.size(); n++) {
    cpu::parallel(
        nullptr, 1 + static_cast<int>(n % 4),
        [](void* context, int32_t) {
          Late& job = *static_cast<Late*>(context);
          for (int spin = 0; spin < 50; spin++) job.late.fetch_add(job.over.load());
        },
        &jobs[n]);
    jobs[n].over = true;
  }
  cpu::set_pool_size(1);  // joins the workers
  for (const Late& job : jobs) ASSERT_EQ(job.late.load(), 0);
}

TEST(Pool, ConcurrentCallersAllFinish) {
  Threads pool(3);
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; c++)
    callers.emplace_back([] {
      for (int repeat = 0; repeat < 500; repeat++) {
        Count count;
        cpu::parallel(nullptr, 1 + repeat % 5, Count::task, &count);
        for (int i = 0; i < 64; i++) ASSERT_EQ(count.runs[i].load(), i < 1 + repeat % 5);
      }
    });
  for (std::thread& t : callers) t.join();
}

TEST(Pool, SizesChangeWhileOthersWork) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (int c = 0; c < 2; c++)
    callers.emplace_back([&] {
      while (!stop) {
        Count count;
        cpu::parallel(nullptr, 3, Count::task, &count);
        for (int i = 0; i < 3; i++) ASSERT_EQ(count.runs[i].load(), 1);
      }
    });
  for (int n = 0; n < 200; n++) EXPECT_EQ(clary_set_threads(1 + n % 4), 1 + n % 4);
  stop = true;
  for (std::thread& t : callers) t.join();
  clary_set_threads(0);
}

TEST(Pool, SizesAreBounded) {
  const int32_t natural = clary_set_threads(0);
  EXPECT_GE(natural, 1);
  EXPECT_EQ(clary_set_threads(-5), natural);
  const int32_t most = clary_set_threads(1 << 30);
  EXPECT_GE(most, 64);
  EXPECT_LE(most, 4096);
  EXPECT_EQ(clary_set_threads(0), natural);
}

// ---- attention on it --------------------------------------------------------------------------------------------------------

TEST(Pool, ConcurrentAttention) {
  Instance one(kWork);
  const Result want = one.run();
  ASSERT_EQ(want.status, CLARY_OK) << want.error;
  Threads pool(3);
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; c++)
    callers.emplace_back([&] {
      Instance mine(kWork);
      for (int repeat = 0; repeat < 10; repeat++) {
        const Result r = mine.run();
        ASSERT_EQ(r.status, CLARY_OK) << r.error;
        ASSERT_EQ(r.damage, "");
        ASSERT_TRUE(same_bits(want.out, r.out) && same_bits(want.lse, r.lse));
      }
    });
  for (std::thread& t : callers) t.join();
}

// A failure on one thread is no news on another.
TEST(Pool, ErrorsStayOnTheirThread) {
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; c++)
    callers.emplace_back([c] {
      Instance mine(kWork);
      for (int repeat = 0; repeat < 20; repeat++) {
        if (c % 2) {
          mine.args.causal = 100 + c;
          EXPECT_EQ(mine.run().error, "causal is " + std::to_string(100 + c));
        } else {
          EXPECT_EQ(mine.run().status, CLARY_OK);
        }
      }
    });
  for (std::thread& t : callers) t.join();
}

TEST(Pool, AChildOfForkHasAPoolOfItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "thread sanitizer does not follow a fork with threads";
#endif
  Threads pool(3);
  Instance instance(kWork);
  const Result want = instance.run();
  ASSERT_EQ(want.status, CLARY_OK) << want.error;
  for (int repeat = 0; repeat < 3; repeat++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // a child that waits for its parent's threads would wait forever
      const Result r = instance.run();
      _exit(r.status == CLARY_OK && same_bits(want.out, r.out) && clary_set_threads(2) == 2 &&
                    instance.run().status == CLARY_OK
                ? 0
                : 1);
    }
    ASSERT_GT(child, 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_TRUE(same_bits(want.out, instance.run().out));
  }
}

TEST(Pool, ForkWhileAnotherThreadCalls) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "thread sanitizer does not follow a fork with threads";
#endif
  Threads pool(2);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    Instance mine(kWork);
    while (!stop) ASSERT_EQ(mine.run().status, CLARY_OK);
  });
  for (int repeat = 0; repeat < 5; repeat++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      Count count;
      cpu::parallel(nullptr, 4, Count::task, &count);
      _exit(count.runs[3].load() == 1 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  stop = true;
  busy.join();
}

// ---- other people's threads ----------------------------------------------------------------------------------------------------

TEST(Pool, RunsOnAnOpenMpRuntime) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "libgomp's barriers are not instrumented";
#endif
  EXPECT_EQ(clary_use_openmp("libnosuch.so"), CLARY_NOT_SUPPORTED);
  EXPECT_EQ(std::string(clary_last_error()), "no OpenMP runtime is loaded with libnosuch.so");
  EXPECT_EQ(clary_use_openmp("libc.so.6"), CLARY_NOT_SUPPORTED);  // loaded, without OpenMP
  if (!dlopen("libgomp.so.1", RTLD_NOW)) GTEST_SKIP() << "no libgomp.so.1 here";
  const int own = clary_set_threads(0);
  ASSERT_EQ(clary_use_openmp("libgomp.so.1"), CLARY_OK);
  const int theirs = cpu::concurrency(nullptr);
  EXPECT_GE(theirs, 1);
  Instance one(kWork);
  const Result want = one.run();
  for (const int threads : {3, 1, 0}) {
    EXPECT_EQ(clary_set_threads(threads), threads ? threads : theirs);
    for (int tasks = 1; tasks <= 9; tasks++) {  // at most concurrency() are asked for; more must be right too
      Count count;
      cpu::parallel(nullptr, tasks, Count::task, &count);
      for (int i = 0; i < 64; i++) ASSERT_EQ(count.runs[i].load(), i < tasks);
    }
    EXPECT_TRUE(same_bits(want.out, Instance(kWork).run().out));
  }
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // OpenMP's threads are the parent's
    Instance mine(kWork);
    _exit(same_bits(want.out, mine.run().out) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  ASSERT_EQ(clary_use_openmp(nullptr), CLARY_OK);
  EXPECT_EQ(clary_set_threads(0), own);
}

// ---- executors ----------------------------------------------------------------------------------------------------------------

struct Recorder {
  int32_t size;
  std::atomic<int> calls{0}, most{0};
  std::atomic<std::thread::id> off_thread{};
  clary_executor executor() {
    return {sizeof(clary_executor), this, [](void* self) { return static_cast<Recorder*>(self)->size; },
            [](void* self, int32_t count, void (*task)(void*, int32_t), void* context) {
              Recorder& r = *static_cast<Recorder*>(self);
              r.calls++;
              if (count > r.most) r.most = count;
              for (int32_t i = 0; i < count; i++) task(context, i);
            }};
  }
};

TEST(Executor, IsAskedForNoMoreThanItHas) {
  Instance instance(kWork);
  const Result want = instance.run();
  for (const int32_t size : {1, 2, 7, 300}) {
    Recorder recorder{size};
    const clary_executor executor = recorder.executor();
    const Result r = instance.run(nullptr, &executor);
    ASSERT_EQ(r.status, CLARY_OK) << r.error;
    EXPECT_TRUE(same_bits(want.out, r.out));
    EXPECT_LE(recorder.most, size);
    if (size > 1) {
      EXPECT_GT(recorder.calls, 0);
    }
  }
}

TEST(Executor, NonsenseConcurrencyIsOneThread) {
  Instance instance(kWork);
  for (const int32_t size : {0, -3}) {
    Recorder recorder{size};
    const clary_executor executor = recorder.executor();
    EXPECT_EQ(instance.run(nullptr, &executor).status, CLARY_OK);
    EXPECT_LE(recorder.most, 1);
  }
}

// A call from within a task of the library's own pool (a nested use) finishes on that thread.
TEST(Executor, NestedCallsFinish) {
  Threads pool(3);
  static Instance* instances[3];
  Instance a(kWork), b(kWork), c(kWork);
  instances[0] = &a, instances[1] = &b, instances[2] = &c;
  std::atomic<int> good{0};
  cpu::parallel(
      nullptr, 3,
      [](void* context, int32_t i) {
        if (instances[i]->run().status == CLARY_OK) static_cast<std::atomic<int>*>(context)->fetch_add(1);
      },
      &good);
  EXPECT_EQ(good.load(), 3);
}

// ---- the CPUs of a process ----------------------------------------------------------------------------------------------------

TEST(Affinity, TheDefaultIsTheCpusThatMayBeUsed) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_LE(cpu::usable_cpus(), CPU_COUNT(&before));
  int first = 0;
  while (!CPU_ISSET(first, &before)) first++;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(cpu::usable_cpus(), 1);
  EXPECT_EQ(clary_set_threads(0), 1);
  Instance instance(kWork);
  EXPECT_EQ(instance.run().status, CLARY_OK);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(clary_set_threads(0), cpu::usable_cpus());
}

}  // namespace
}  // namespace clary::test
