// The extern "C" boundary: args -> Problem -> check -> plan -> run. The whole engine on one screen.
#include <cstdio>
#include <cstring>
#include <new>

#include "clary/clary.h"
#include "cpu/backend.h"
#include "cpu/threads.h"
#include "cuda/backend.h"
#include "device.h"
#include "env.h"
#include "plan.h"
#include "problem.h"
#include "status.h"
#include "trace.h"

namespace clary {
namespace {

Plan plan_of(const Problem& p) {
  Device device;
  Plan plan;
  if (plan.why = find_device(p.device_type, p.device_id, &device); !plan.why) return plan;
  return choose(p, device, env().force, device.type == CLARY_CPU ? cpu::concurrency(p.executor) : 0);
}

Status attention(const clary_attention_args* args) {
  Problem p;
  if (Status s = Problem::from(args, &p); !s) return s;  // nothing is read from args after this line
  if (Status s = p.check(false); !s) return s;           // from here on: consistent shapes, strides, dtypes
  const Plan plan = plan_of(p);                          // pure; CLARY_TRACE=plan prints it
  if (!plan) return plan.why;
  if (p.device_type == CLARY_CPU)
    if (Status s = p.check_lengths(); !s) return s;
  if (p.device_type == CLARY_CUDA && env().device[0])
    return Status::error(CLARY_NO_DEVICE, "Unset CLARY_DEVICE to run.", "CLARY_DEVICE=%.60s is for planning only",
                         env().device);
  trace_plan(p, plan);
  if (p.workspace_size < plan.workspace || (plan.workspace && !p.workspace))
    return Status::error(CLARY_WORKSPACE_TOO_SMALL, "Ask clary_workspace_size for the size of this call.",
                         "the workspace has %llu bytes; this call needs %llu",
                         static_cast<unsigned long long>(p.workspace_size),
                         static_cast<unsigned long long>(plan.workspace));
  // From here on: no allocation, no decision, only work.
  if (!p.empty())
    if (Status s = plan.backend->run(plan, p); !s) return s;
  report_variant(plan.variant);
  return {};
}

// Nothing in the engine throws by itself; the standard library may, when memory is out.
template <class Fn>
clary_status guarded(const Fn& fn) {
  try {
    return report(fn());
  } catch (const std::bad_alloc&) {
    return report(Status::error(CLARY_OUT_OF_MEMORY, "Free memory and call again.", "memory is out"));
  } catch (...) {
    return report(
        Status::error(CLARY_INTERNAL, "Please report it with the call that caused it.", "unexpected exception"));
  }
}

Status sized(int written, size_t* needed) {
  if (needed) *needed = static_cast<size_t>(written) + 1;
  return {};
}

}  // namespace
}  // namespace clary

using namespace clary;

extern "C" {

clary_status clary_attention(const clary_attention_args* args) {
  return guarded([&] { return attention(args); });
}

clary_status clary_workspace_size(const clary_attention_args* args, uint64_t* bytes) {
  return guarded([&]() -> Status {
    if (!bytes) return Status::error(CLARY_INVALID_ARGUMENT, "Pass where to write the size.", "bytes is null");
    Problem p;
    if (Status s = Problem::from(args, &p); !s) return s;
    if (Status s = p.check(true); !s) return s;
    p.workspace = nullptr;  // what there is must not bound what is asked for
    const Plan plan = plan_of(p);
    if (!plan) return plan.why;
    *bytes = plan.workspace;
    return {};
  });
}

clary_status clary_explain(const clary_attention_args* args, int32_t format, char* buffer, size_t capacity,
                           size_t* needed) {
  return guarded([&]() -> Status {
    Problem p;
    if (Status s = Problem::from(args, &p); !s) return s;
    p.workspace = nullptr;
    Plan plan;
    if (Status s = p.check(true); !s)
      plan.why = s;
    else
      plan = plan_of(p);
    return sized(describe(p, plan, format, buffer, capacity), needed);
  });
}

clary_status clary_info(char* buffer, size_t capacity, size_t* needed) {
  return guarded([&] {
    Text text(buffer, capacity);
    text.add("{\"version\": \"%s\", \"abi\": %d, \"cpu\": ", CLARY_VERSION, CLARY_ABI_VERSION);
    cpu::info(cpu_device(), &text);
    text.add(", \"cuda\": ");
    cuda::info(&text);
    text.add("}");
    return sized(text.length(), needed);
  });
}

const char* clary_version(void) { return CLARY_VERSION; }

const char* clary_status_name(clary_status status) {
  static const char* const kNames[] = {"ok",
                                       "invalid argument",
                                       "invalid shape",
                                       "invalid stride",
                                       "invalid dtype",
                                       "not supported",
                                       "workspace too small",
                                       "no device",
                                       "out of memory",
                                       "device error",
                                       "internal error"};
  return status >= 0 && status <= CLARY_INTERNAL ? kNames[status] : "unknown status";
}
const char* clary_last_variant(void) { return last_variant(); }
const char* clary_last_error(void) { return last_error(); }
const char* clary_last_hint(void) { return last_hint(); }

clary_status clary_use_openmp(const char* library) {
  return guarded([&]() -> Status {
    if (cpu::use_openmp(library)) return {};
    return Status::error(CLARY_NOT_SUPPORTED, "Load it first, or stay with the library's own threads.",
                         "no OpenMP runtime is loaded with %s", library);
  });
}

int32_t clary_set_threads(int32_t count) {
  try {
    return cpu::set_pool_size(count);
  } catch (...) {
    return cpu::concurrency(nullptr);
  }
}

}  // extern "C"
