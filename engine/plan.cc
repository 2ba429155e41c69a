// The planner's front: which backend. What a backend needs to know of a CPU target is in cpu/backend.cc.
#include "plan.h"

#include <cstdio>
#include <cstring>

#include "cpu/backend.h"

namespace clary {

const char* arithmetic_name(Arithmetic a) {
  static const char* const kNames[kArithmetics] = {"int8", "int16", "bf16", "f32", "direct"};
  return kNames[static_cast<int>(a)];
}

namespace {
// `text` as the inside of a JSON string.
template <size_t N>
const char* escaped(const char* text, char (&out)[N]) {
  size_t n = 0;
  for (; *text && n + 7 < N; text++) {
    const unsigned char c = static_cast<unsigned char>(*text);
    if (c == '"' || c == '\\') {
      out[n++] = '\\';
      out[n++] = *text;
    } else if (c < 0x20) {
      n += static_cast<size_t>(std::snprintf(out + n, N - n, "\\u%04x", c));
    } else {
      out[n++] = *text;
    }
  }
  out[n] = 0;
  return out;
}
}  // namespace

Plan choose(const Problem& problem, const Device& device, const char* force, int threads) {
  const bool cuda = std::strncmp(force, "cuda", 4) == 0;
  if (force[0] && !cuda && std::strcmp(force, "cpu") != 0 && std::strncmp(force, "cpu:", 4) != 0) {
    Plan plan;
    plan.why = Status::error(CLARY_INVALID_ARGUMENT, "Names look like cpu, cpu:avx2, cpu:avx2:int8, cuda or cuda:sm80.",
                             "CLARY_FORCE names no backend: \"%.60s\"", force);
    return plan;
  }
  if (problem.device_type == CLARY_CUDA || cuda) {
    Plan plan;
    plan.why =
        Status::error(CLARY_NOT_SUPPORTED, "Move the tensors to the CPU, or use torch's scaled_dot_product_attention.",
                      "this build has no CUDA backend");
    return plan;
  }
  return cpu::choose(problem, device, force[0] ? force + 3 : force, threads);
}

int describe(const Problem& p, const Plan& plan, int32_t format, char* buffer, size_t capacity) {
  char shape[160];
  std::snprintf(shape, sizeof shape, "B%lld Hq%lld Hkv%lld Lq%lld Lk%lld D%d Dv%d %s", static_cast<long long>(p.B),
                static_cast<long long>(p.Hq), static_cast<long long>(p.Hkv), static_cast<long long>(p.Lq),
                static_cast<long long>(p.Lk), p.D, p.Dv, dtype_name(p.q.dtype));
  if (format == CLARY_JSON) {
    char message[512], hint[512];
    if (!plan)
      return std::snprintf(
          buffer, capacity,
          "{\"variant\": null, \"problem\": \"%s\", \"accuracy\": \"%s\", \"error\": \"%s\", \"hint\": \"%s\"}", shape,
          accuracy_name(p.accuracy), escaped(plan.why.message(), message), escaped(plan.why.hint(), hint));
    return std::snprintf(
        buffer, capacity,
        "{\"variant\": \"%s\", \"problem\": \"%s\", \"accuracy\": \"%s\", \"arithmetic\": \"%s\", \"workers\": %d, "
        "\"workspace\": %llu, \"reason\": \"%s\"}",
        plan.variant, shape, accuracy_name(p.accuracy), arithmetic_name(plan.arithmetic), plan.workers,
        static_cast<unsigned long long>(plan.workspace), plan.reason);
  }
  if (!plan)
    return std::snprintf(buffer, capacity, "no variant for %s: %s. %s", shape, plan.why.message(), plan.why.hint());
  return std::snprintf(buffer, capacity, "%s for %s, %s: %s; %d workers, %llu bytes of workspace", plan.variant, shape,
                       accuracy_name(p.accuracy), plan.reason, plan.workers,
                       static_cast<unsigned long long>(plan.workspace));
}

}  // namespace clary
