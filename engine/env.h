// The environment, read once: the only getenv of the engine.
#pragma once

namespace clary {

struct Env {
  char force[64];   // CLARY_FORCE: "", "cpu", "cpu:avx2", ...
  int threads;      // CLARY_THREADS: 0 = unset
  bool trace_plan;  // CLARY_TRACE contains "plan"
};
const Env& env();

// Tests only: replaces CLARY_FORCE for the calls that follow, on all threads; nullptr restores the environment's.
void set_force_for_test(const char* force);

}  // namespace clary
