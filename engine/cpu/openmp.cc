// The four entry points are those of GNU's runtime (libgomp manual, "The libgomp ABI"); LLVM's and Intel's export them too.
#include "engine/cpu/openmp.h"

#include <cstdint>
#include <type_traits>

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace clary::cpu {
namespace {

struct Runtime {
  void (*parallel)(void (*task)(void*), void* data, unsigned threads, unsigned flags);
  int (*max_threads)();
  int (*num_threads)();
  int (*thread_num)();
};

struct Job {
  const Runtime* runtime;
  void (*task)(void*, int32_t);
  void* context;
  int32_t count;
};

// The team may be smaller than asked for, inside another parallel region for one: a thread takes every n-th index.
void run_share(void* data) {
  const Job& job = *static_cast<const Job*>(data);
  const int threads = job.runtime->num_threads();
  for (int i = job.runtime->thread_num(); i < job.count; i += threads) job.task(job.context, i);
}

int32_t concurrency(void* context) { return static_cast<const Runtime*>(context)->max_threads(); }

void parallel(void* context, int32_t count, void (*task)(void*, int32_t), void* task_context) {
  const auto* runtime = static_cast<const Runtime*>(context);
  Job job{runtime, task, task_context, count};
  runtime->parallel(run_share, &job, static_cast<unsigned>(count), 0);
}

}  // namespace

const clary_executor* openmp_executor(const char* library) {
#ifdef _WIN32
  (void)library;
  return nullptr;
#else
  void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  if (!handle) return nullptr;
  // A lookup through a handle goes on into what that library was linked against: this finds its runtime among several.
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    return function != nullptr;
  };
  Runtime r{};
  const bool complete = find(r.parallel, "GOMP_parallel") && find(r.max_threads, "omp_get_max_threads") &&
                        find(r.num_threads, "omp_get_num_threads") && find(r.thread_num, "omp_get_thread_num");
  if (!complete) {
    dlclose(handle);
    return nullptr;
  }
  static Runtime runtime;
  static const clary_executor executor{sizeof(clary_executor), &runtime, concurrency, parallel};
  runtime = r;  // the handle stays open, and with it the runtime
  return &executor;
#endif
}

}  // namespace clary::cpu
