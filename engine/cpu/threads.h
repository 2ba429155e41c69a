// The pool: workers that spin a little, then park. A job is "run task(i) for i in [0, count)"; work is shared inside the task
// by an atomic counter, so a job is right whatever number of workers comes.
#pragma once
#include <cstdint>

#include "clary/clary.h"

namespace clary::cpu {

// CPUs this process may use: affinity, cgroup quota.
int usable_cpus();

// Threads a call may use now: the executor's concurrency, or the pool's size. A null executor is the one of use_openmp().
int concurrency(const clary_executor* executor);

// Runs task(context, i) for every i in [0, count) and returns when all are done. On the executor if there is one, else on the
// pool; if the pool is busy with another caller's job, on this thread.
void parallel(const clary_executor* executor, int count, void (*task)(void* context, int32_t index), void* context);

// 0 = default. Returns the number in force, on an OpenMP runtime too.
int set_pool_size(int count);

// Calls without an executor run on the OpenMP runtime of `library` (openmp.h), or on the pool again if null. False if there is
// none: nothing changes then.
bool use_openmp(const char* library);

}  // namespace clary::cpu
