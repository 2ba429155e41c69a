// The pool. One job at a time; a second caller runs its job on its own thread instead of waiting. After fork() the child
// starts a pool of its own on first use: threads do not survive a fork.
#include "engine/cpu/threads.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>

#include "engine/cpu/openmp.h"
#include "engine/env.h"

namespace clary::cpu {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kSpins = 4000;  // about 50 us of pause before a worker parks

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

double read_number(const char* path, double* second) {
  std::FILE* file = std::fopen(path, "re");
  if (!file) return -1;
  char text[64] = {0};
  const size_t got = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  if (got == 0 || std::strncmp(text, "max", 3) == 0) return -1;
  char* end = nullptr;
  const double first = std::strtod(text, &end);
  if (second) *second = std::strtod(end, nullptr);
  return first;
}

// CPUs' worth of time the control group grants, or 0 for no limit. Version 2: the tightest cpu.max from our group up.
double cgroup_cpus() {
  double limit = 0;
  const auto tighten = [&](double quota, double period) {
    if (quota > 0 && period > 0 && (limit == 0 || quota / period < limit)) limit = quota / period;
  };
  char path[512] = {0}, line[400];
  if (std::FILE* file = std::fopen("/proc/self/cgroup", "re")) {
    while (std::fgets(line, sizeof line, file))
      if (std::strncmp(line, "0::", 3) == 0) {
        line[std::strcspn(line, "\n")] = 0;
        std::snprintf(path, sizeof path, "/sys/fs/cgroup%s", line + 3);
      }
    std::fclose(file);
  }
  while (std::strlen(path) >= std::strlen("/sys/fs/cgroup")) {
    char name[560];
    std::snprintf(name, sizeof name, "%s/cpu.max", path);
    double period = 0;
    const double quota = read_number(name, &period);
    tighten(quota, period);
    char* slash = std::strrchr(path, '/');
    if (!slash) break;
    *slash = 0;
  }
  tighten(read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", nullptr),
          read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", nullptr));
  return limit;
}

struct Job {
  void (*task)(void*, int32_t);
  void* context;
  int count;
};

class Pool {
 public:
  explicit Pool(int size) : size_(size) {}

  int size() const { return size_; }

  bool try_run(const Job& job) {
    if (!busy_.try_lock()) return false;
    std::lock_guard<std::mutex> hold(busy_, std::adopt_lock);
    start(job.count - 1);
    job_ = job;
    const int shares = job.count - 1 < started_ ? job.count - 1 : started_;
    left_.store(shares, std::memory_order_relaxed);
    announce(shares);
    job.task(job.context, 0);
    for (int i = shares + 1; i < job.count; i++) job.task(job.context, i);  // threads that could not be had
    // A worker that has not woken by now is not waited for: its share is done here.
    uint32_t call = call_.load(std::memory_order_acquire);
    for (int share = claim(call); share != 0; share = claim(call)) run_share(share);
    for (int spin = 0; left_.load(std::memory_order_acquire) != 0; spin++) {
      if (spin < kSpins)
        relax();
      else
        std::this_thread::yield();
    }
    return true;
  }

  // Ends all workers. Only when no job runs.
  void stop() {
    std::lock_guard<std::mutex> hold(busy_);
    stopping_ = true;
    announce(started_);
    for (int i = 0; i < started_; i++) threads_[i].join();
    started_ = 0;
    stopping_ = false;
  }

  Pool* retired = nullptr;  // the pool this one replaced

 private:
  void start(int wanted) {
    if (wanted > size_ - 1) wanted = size_ - 1;
    while (started_ < wanted) {
      try {
        threads_[started_] = std::thread([this, seen = call_.load()] { serve(seen); });
      } catch (...) {
        return;  // the caller does the missing workers' share
      }
      started_++;
    }
  }

  // One word holds the serial number of the job and how many of its shares nobody has claimed: a late worker cannot mistake
  // one job for the next.
  void announce(int shares) {
    const uint32_t serial = (call_.load(std::memory_order_relaxed) >> kShareBits) + 1;
    call_.store(serial << kShareBits | static_cast<uint32_t>(shares), std::memory_order_release);
    call_.notify_all();
  }

  // The number of a share that is now the caller's to run, 0 when none is left. `call` follows the word.
  int claim(uint32_t& call) {
    while (const uint32_t unclaimed = call & ((1u << kShareBits) - 1))
      if (call_.compare_exchange_weak(call, call - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        call--;
        return static_cast<int>(unclaimed);
      }
    return 0;
  }

  void run_share(int share) {
    job_.task(job_.context, share);
    left_.fetch_sub(1, std::memory_order_release);
  }

  void serve(uint32_t seen) {
    for (;;) {
      uint32_t call;
      for (int spin = 0; (call = call_.load(std::memory_order_acquire)) == seen; spin++) {
        if (spin < kSpins)
          relax();
        else
          call_.wait(seen, std::memory_order_acquire);
      }
      const int share = claim(call);
      seen = call;
      if (share == 0) continue;
      if (stopping_) return;
      run_share(share);
    }
  }

  static constexpr int kShareBits = 9;  // kMaxThreads and one more
  const int size_;
  int started_ = 0;
  bool stopping_ = false;
  Job job_{};
  std::mutex busy_;
  std::atomic<uint32_t> call_{0};
  std::atomic<int> left_{0};
  std::thread threads_[kMaxThreads];
};

std::atomic<Pool*> current{nullptr};
std::atomic<const clary_executor*> openmp{nullptr};
std::atomic<int> chosen{0};  // by set_pool_size(); 0 = nothing chosen
std::mutex changing;

int default_size() {
  const int wanted = env().threads > 0 ? env().threads : usable_cpus();
  return wanted < 1 ? 1 : wanted > kMaxThreads ? kMaxThreads : wanted;
}

// The old pool's threads, and OpenMP's, are gone in the child and locks may be held: forget them.
void forget_in_child() {
  current.store(nullptr);
  openmp.store(nullptr);
  new (&changing) std::mutex;
}

void watch_forks() {
  static const int registered = pthread_atfork(nullptr, nullptr, forget_in_child);
  (void)registered;
}

Pool* pool() {
  if (Pool* p = current.load(std::memory_order_acquire)) return p;
  std::lock_guard<std::mutex> hold(changing);
  if (Pool* p = current.load(std::memory_order_acquire)) return p;
  watch_forks();
  Pool* p = new Pool(default_size());
  current.store(p, std::memory_order_release);
  return p;
}

}  // namespace

int usable_cpus() {
  cpu_set_t set;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    cpus = CPU_COUNT(&set);
  else if (const unsigned n = std::thread::hardware_concurrency())
    cpus = static_cast<int>(n);
  const double quota = cgroup_cpus();
  if (quota > 0 && quota < cpus) cpus = static_cast<int>(std::ceil(quota));
  return cpus < 1 ? 1 : cpus;
}

int concurrency(const clary_executor* executor) {
  if (!executor) {
    executor = openmp.load(std::memory_order_acquire);
    const bool said = chosen.load(std::memory_order_relaxed) > 0 || env().threads > 0;
    if (!executor || said) return pool()->size();
  }
  const int n = executor->concurrency(executor->context);
  return n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n;
}

void parallel(const clary_executor* executor, int count, void (*task)(void*, int32_t), void* context) {
  if (count > 1) {
    if (!executor) executor = openmp.load(std::memory_order_acquire);
    if (executor) return executor->parallel(executor->context, count, task, context);
    if (pool()->try_run({task, context, count})) return;
  }
  for (int i = 0; i < count; i++) task(context, i);
}

int set_pool_size(int count) {
  if (count < 0) count = 0;
  if (count > kMaxThreads) count = kMaxThreads;
  Pool* fresh = new Pool(count ? count : default_size());
  (void)pool();
  Pool* old;
  {
    std::lock_guard<std::mutex> hold(changing);
    old = current.exchange(fresh);
  }
  chosen.store(count, std::memory_order_relaxed);
  old->stop();
  fresh->retired = old;  // a caller may be about to use it: it stays (2 kB per change of size)
  return concurrency(nullptr);
}

bool use_openmp(const char* library) {
  const clary_executor* executor = library ? openmp_executor(library) : nullptr;
  if (library && !executor) return false;
  watch_forks();
  openmp.store(executor, std::memory_order_release);
  return true;
}

}  // namespace clary::cpu
