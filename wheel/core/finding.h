// What verify found: which rule, where, and the sentence about it.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/text.h"

namespace clary::tool {

enum class Severity : uint8_t { kOff, kNote, kWarning, kError };
const char* severity_name(Severity severity);  // "error"

struct Rule {
  const char* id;     // "W3.traversal"
  Severity severity;  // unless the policy says otherwise
  const char* title;  // what holds in a good wheel
};
std::span<const Rule> rules();
const Rule* find_rule(std::string_view id);

struct Finding {
  const Rule* rule;
  Severity severity;
  std::string where;  // a member, a library; may be empty
  std::string text;
  std::string hint;
};

struct FileFindings {
  std::string path, sha256;
  uint64_t size = 0;
  std::vector<Finding> findings;
  size_t count(Severity severity) const;
};

// Everything found in all files, one of these each.
std::string findings_text(const FileFindings& file, const std::string& policy, bool colour);
std::string findings_json(const std::vector<FileFindings>& files, const std::string& policy);
std::string findings_sarif(const std::vector<FileFindings>& files);

}  // namespace clary::tool
