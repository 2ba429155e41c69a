// CLARY_TRACE=plan: one line per call on standard error. The only thing the library ever prints, and only when asked.
#pragma once
#include "plan.h"
#include "problem.h"

namespace clary {
void trace_plan(const Problem& problem, const Plan& plan);
}  // namespace clary
