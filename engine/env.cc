// Environment variables: parsed on first use, never again.
#include "env.h"

#include <cstdlib>
#include <cstring>

namespace clary {
namespace {
void copy(char* to, size_t capacity, const char* from) {
  if (!from) from = "";
  const size_t length = strnlen(from, capacity - 1);
  std::memcpy(to, from, length);
  to[length] = 0;
}
Env read() {
  Env e{};
  copy(e.force, sizeof e.force, std::getenv("CLARY_FORCE"));
  copy(e.device, sizeof e.device, std::getenv("CLARY_DEVICE"));
  const char* threads = std::getenv("CLARY_THREADS");
  e.threads = threads ? static_cast<int>(std::strtol(threads, nullptr, 10)) : 0;
  if (e.threads < 0) e.threads = 0;
  const char* trace = std::getenv("CLARY_TRACE");
  e.trace_plan = trace && std::strstr(trace, "plan");
  return e;
}
Env& state() {
  static Env e = read();
  return e;
}
}  // namespace

const Env& env() { return state(); }

void set_force_for_test(const char* force) { copy(state().force, sizeof state().force, force ? force : read().force); }

void set_device_for_test(const char* device) {
  copy(state().device, sizeof state().device, device ? device : read().device);
}

}  // namespace clary
