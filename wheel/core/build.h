// Building one cell of a plan: sources taken over and patched, the engine's steps run under a log and a time cap, a failure
// explained and where possible repaired, the wheel given its planned name, verified and put into place.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "wheel/core/engine.h"
#include "wheel/core/finding.h"
#include "wheel/core/first_error.h"
#include "wheel/core/sources.h"

namespace clary::tool {

struct BuildOptions {
  std::string source, out = "wheelhouse";  // absolute
  std::string recipe_folder;               // patches are found from there
  std::string engine = "local", python, environment, toolkit = "auto";
  int jobs = 0;  // 0: as planned
  int seconds = 6 * 3600;
  bool fix = false, reuse = true;
};

struct BuildReport {
  enum State { kBuilt, kReused, kFailed, kOutOfTime } state = kFailed;
  Cell cell;
  std::string wheel, sha256;  // the path in `out`
  uint64_t size = 0;
  std::string log;
  int64_t seconds = 0;
  std::string cuda;          // the compiler's version, and where it is from
  std::string torch_sha256;  // of a nightly's wheel, as pip got it; empty: it was there, or is no nightly
  std::vector<Applied> patches;
  std::vector<Fix> fixes;           // applied; the last one only proposed when the build failed
  std::optional<FirstError> error;  // of the log
  std::optional<Error> refusal;     // why it ended, in a sentence
  FileFindings findings;
  const char* state_name() const;
};

BuildReport build_cell(Ctx& ctx, const Recipe& recipe, const Cell& cell, const BuildOptions& options);

std::string report_text(const BuildReport& report);
std::string reports_json(const std::vector<BuildReport>& reports);

// The wheel that a build left in `folder`, renamed, labelled and tagged as `cell` plans it, verified and written to
// `report.wheel`. An error says what the build made instead.
Result<Done> finish_wheel(Ctx& ctx, const Recipe& recipe, const std::string& folder, const BuildOptions& options,
                          BuildReport& report);

}  // namespace clary::tool
