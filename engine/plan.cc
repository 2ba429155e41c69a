// The planner's front: which backend. What a backend needs to know of a CPU target is in cpu/backend.cc.
#include "plan.h"

#include <cstdio>
#include <cstring>

#include "cpu/backend.h"
#include "cuda/backend.h"
#include "text.h"

namespace clary {

const char* arithmetic_name(Arithmetic a) {
  static const char* const kNames[] = {"int8", "int16", "bf16", "f32", "direct", "int8f16"};
  return kNames[static_cast<int>(a)];
}

namespace {
// `name` or `name:...`.
bool names(const char* force, const char* backend) {
  const size_t n = std::strlen(backend);
  return std::strncmp(force, backend, n) == 0 && (force[n] == 0 || force[n] == ':');
}
}  // namespace

Plan choose(const Problem& problem, const Device& device, const char* force, int threads) {
  const bool cpu = names(force, "cpu"), cuda = names(force, "cuda");
  Plan plan;
  if (force[0] && !cpu && !cuda)
    plan.why = Status::error(CLARY_INVALID_ARGUMENT, "Names look like cpu, cpu:avx2, cpu:avx2:int8, cuda or cuda:sm80.",
                             "CLARY_FORCE names no backend: \"%.60s\"", force);
  else if (problem.device_type != device.type || (device.type == CLARY_CPU ? cuda : cpu))
    plan.why = Status::error(CLARY_NO_DEVICE, "Unset CLARY_FORCE, or move the tensors to the device that it names.",
                             "the tensors are on %s, the backend is for %s", device_type_name(problem.device_type),
                             cuda  ? "a GPU"
                             : cpu ? "the CPU"
                                   : device_type_name(device.type));
  else if (device.type == CLARY_CUDA)
    return cuda::choose(problem, device, force);
  else
    return cpu::choose(problem, device, cpu ? force + 3 : force, threads);
  return plan;
}

int describe(const Problem& p, const Plan& plan, int32_t format, char* buffer, size_t capacity) {
  Text text(buffer, capacity);
  char shape[160];
  std::snprintf(shape, sizeof shape, "B%lld Hq%lld Hkv%lld Lq%lld Lk%lld D%d Dv%d %s", static_cast<long long>(p.B),
                static_cast<long long>(p.Hq), static_cast<long long>(p.Hkv), static_cast<long long>(p.Lq),
                static_cast<long long>(p.Lk), p.D, p.Dv, dtype_name(p.q.dtype));
  const char* accuracy = accuracy_name(p.accuracy);
  const auto workspace = static_cast<unsigned long long>(plan.workspace);
  if (format == CLARY_JSON && !plan) {
    text.add("{\"variant\": null, \"problem\": \"%s\", \"accuracy\": \"%s\", \"error\": \"%s\", \"hint\": \"%s\"}",
             shape, accuracy, Escaped(plan.why.message()).c_str(), Escaped(plan.why.hint()).c_str());
  } else if (format == CLARY_JSON) {
    text.add("{\"variant\": \"%s\", \"problem\": \"%s\", \"accuracy\": \"%s\", \"arithmetic\": \"%s\", ", plan.variant,
             shape, accuracy, arithmetic_name(plan.arithmetic));
    if (plan.workers) text.add("\"workers\": %d, ", plan.workers);
    if (plan.speedup > 0) text.add("\"speedup\": %.2f, ", static_cast<double>(plan.speedup));
    text.add("\"workspace\": %llu, \"reason\": \"%s\"}", workspace, plan.reason);
  } else if (!plan) {
    text.add("no variant for %s: %s. %s", shape, plan.why.message(), plan.why.hint());
  } else {
    text.add("%s for %s, %s: %s; ", plan.variant, shape, accuracy, plan.reason);
    if (plan.workers) text.add("%d workers, ", plan.workers);
    if (plan.speedup > 0)
      text.add("an estimated %.2f times as fast as torch's SDPA, ", static_cast<double>(plan.speedup));
    text.add("%llu bytes of workspace", workspace);
  }
  return text.length();
}

}  // namespace clary
