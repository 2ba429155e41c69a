// The environment, read once: the only getenv of the engine.
#pragma once

namespace clary {

struct Env {
  char force[64];   // CLARY_FORCE: "", "cpu", "cpu:avx2", ...
  char device[64];  // CLARY_DEVICE: "", or a GPU to plan for that need not be here, by the name of its data sheet
  int threads;      // CLARY_THREADS: 0 = unset
  bool trace_plan;  // CLARY_TRACE contains "plan"
};
const Env& env();

// Tests only: replaces CLARY_FORCE for the calls that follow, on all threads; nullptr restores the environment's.
void set_force_for_test(const char* force);
void set_device_for_test(const char* device);  // CLARY_DEVICE alike

}  // namespace clary
