#include "wheel/core/first_error.h"

#include <algorithm>
#include <span>

namespace clary::tool {
namespace {

// Lines that say what went wrong, wherever they stand; * is anything.
constexpr std::string_view kErrors[] = {
    "*: error: *",
    "*: error #*",
    "*: fatal error: *",
    "*fatal error*: *",
    "nvcc fatal*",
    "ptxas fatal*",
    "ptxas error*",
    "*error*: ld returned*",
    "*cannot find -l*",
    "*undefined reference to *",
    "*multiple definition of *",
    "CMake Error*",
    "*command not found*",
    "*: not found",
    "ninja: error: *",
    "*No space left on device*",
    "*Killed*",
    "ERROR: *",
    "error: *",
    "*Error: *",
    "*Exception: *",
    "AssertionError",
    "KeyError*",
};

// Lines that look like errors and are what follows one, or no error at all.
constexpr std::string_view kConsequences[] = {
    "*ninja: build stopped*",
    "FAILED: *",
    "*subprocess-exited-with-error*",
    "*metadata-generation-failed*",
    "*Failed building wheel*",
    "*Failed to build *",
    "*CalledProcessError*",
    "*Error compiling objects for extension*",
    "*returned non-zero exit status*",
    "*did not run successfully*",
    "*exit code: *",
    "*error: command * failed with exit*",
    "*ld returned * exit status*",
    "*collect2: error*",
    "*gmake*Error*",
    "*make*: *** *",
    "*CMake Error*Generator*",
    "*-Werror*-Wno-error*",
    "*pip's dependency resolver*",
};

constexpr int kNear = 5;  // error lines

bool any(std::span<const std::string_view> patterns, std::string_view line) {
  return std::any_of(patterns.begin(), patterns.end(), [&](std::string_view p) { return matches(p, line); });
}

bool is_error(std::string_view line) { return any(kErrors, line) && !any(kConsequences, line); }

}  // namespace

std::optional<FirstError> first_error(std::string_view log) {
  const std::vector<std::string_view> all = lines(log);
  std::optional<FirstError> first;
  int seen = 0;
  for (size_t i = 0; i < all.size(); i++) {
    const std::string_view line = trim(all[i].substr(0, 2000));
    if (!is_error(line)) continue;
    FirstError found{i + 1, std::string(line), {}, nullptr};
    std::string near(line);
    for (size_t k = i + 1; k < all.size() && k < i + 4; k++) {
      const std::string_view more = all[k].substr(0, 400);
      if (trim(more).empty() || any(kConsequences, trim(more))) break;
      found.context.emplace_back(more);
      near += "\n" + std::string(more);
    }
    // A known error near the first is the answer: a vague one may stand before it (a traceback's chain, a warning in capitals).
    const std::vector<const Entry*> known = recognise(line);
    if (!known.empty()) {
      found.known = known[0];
      return found;
    }
    if (!first) first = std::move(found);
    if (++seen == kNear) break;
  }
  if (first) return first;
  for (const Answer& answer : read_log(log)) return FirstError{answer.line, answer.text, {}, answer.entry};
  return std::nullopt;
}

}  // namespace clary::tool
