// Trace lines, written with write(2) so that the library needs no stream.
#include "trace.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "env.h"

namespace clary {
void trace_plan(const Problem& problem, const Plan& plan) {
  if (!env().trace_plan) return;
  char line[512];
  describe(problem, plan, CLARY_TEXT, line, sizeof line - 1);
  std::strcat(line, "\n");
  [[maybe_unused]] ssize_t written = ::write(2, line, std::strlen(line));
}
}  // namespace clary
