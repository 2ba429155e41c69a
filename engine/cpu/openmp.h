// Running on the threads of an OpenMP runtime that another library of this process brought. Its threads stay awake for a
// while after that library's own work; a second set of threads would compete with them for the CPUs and lose milliseconds.
#pragma once
#include "clary/clary.h"

namespace clary::cpu {

// An executor on the runtime that `library` (the name of a loaded shared object: "libtorch_cpu.so") uses; it lives forever.
// Null when no such library is loaded or it uses no OpenMP.
const clary_executor* openmp_executor(const char* library);

}  // namespace clary::cpu
