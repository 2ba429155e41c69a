// Clocks for the benches: a thread's own CPU time, which a busy neighbour does not stretch, and the core's frequency.
#pragma once
#include <time.h>

#include <algorithm>
#include <vector>

namespace clary::bench {

inline double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds of one f(): `rounds` windows of at least `window` seconds each, sorted. Reading the clock is a system call, so
// calls are timed in batches.
template <class F>
std::vector<double> sample_seconds(const F& f, int rounds, double window) {
  const auto timed = [&](long calls) {
    const double begin = thread_seconds();
    for (long i = 0; i < calls; i++) f();
    return thread_seconds() - begin;
  };
  long calls = 1;
  while (timed(calls) < window / 2) calls *= 2;
  calls *= 2;
  std::vector<double> samples;
  for (int round = 0; round < rounds; round++) samples.push_back(timed(calls) / static_cast<double>(calls));
  std::sort(samples.begin(), samples.end());
  return samples;
}

// Core clock in Hz, from a chain of dependent instructions of known latency: 64-bit multiply 3 on every x86 since 2011,
// add 1 on every arm64 core.
inline double clock_hz() {
  constexpr long kLength = 4096;
#if defined(__x86_64__)
  constexpr double kLatency = 3;
#else
  constexpr double kLatency = 1;
#endif
  const auto chain = [] {
    long x = 3;
    for (long i = 0; i < kLength / 16; i++) {
#if defined(__x86_64__)
      __asm__ volatile(".rept 16\n\timul %0, %0\n\t.endr" : "+r"(x));
#elif defined(__aarch64__)
      __asm__ volatile(".rept 16\n\tadd %0, %0, #1\n\t.endr" : "+r"(x));
#endif
    }
  };
  return kLatency * kLength / sample_seconds(chain, 10, 5e-3)[0];
}

}  // namespace clary::bench
