#include "wheel/core/finding.h"

#include <algorithm>

#include "clary/clary.h"
#include "wheel/core/digest.h"
#include "wheel/core/json.h"

namespace clary::tool {
namespace {

constexpr Rule kRules[] = {
#define RULE(family, word, severity, title) {#family "." #word, Severity::severity, title},
#include "wheel/core/rules.def"
#undef RULE
};

const char* colour_of(Severity severity) {
  return severity == Severity::kError ? "\x1b[1;31m" : severity == Severity::kWarning ? "\x1b[1;33m" : "\x1b[1;34m";
}

// SARIF locations are relative URIs: the wheel, and the member inside it as the logical place.
Json sarif_result(const FileFindings& file, const Finding& f) {
  const char* level = f.severity == Severity::kError ? "error" : f.severity == Severity::kWarning ? "warning" : "note";
  Json location = {
      {"physicalLocation", {{"artifactLocation", {{"uri", replace_all(percent(file.path), "%2F", "/")}}}}}};
  if (!f.where.empty())
    location["logicalLocations"] = Json::array({{{"fullyQualifiedName", f.where}, {"kind", "member"}}});
  const std::string key = std::string(f.rule->id) + "\n" + base_name(file.path) + "\n" + f.where + "\n" + f.text;
  return {{"ruleId", f.rule->id},
          {"level", level},
          {"message", {{"text", f.text + (f.hint.empty() ? "" : ". " + f.hint)}}},
          {"locations", Json::array({location})},
          {"partialFingerprints", {{"clary/1", hex(sha256_of(bytes_of(key))).substr(0, 32)}}}};
}

}  // namespace

std::span<const Rule> rules() { return kRules; }

const Rule* find_rule(std::string_view id) {
  for (const Rule& rule : kRules) {
    if (rule.id == id) return &rule;
  }
  for (const Rule& rule : kRules) {  // as people type it
    if (lower(rule.id) == lower(id)) return &rule;
  }
  return nullptr;
}

const char* severity_name(Severity severity) {
  static constexpr const char* kNames[] = {"off", "note", "warning", "error"};
  return kNames[static_cast<int>(severity)];
}

size_t FileFindings::count(Severity severity) const {
  return static_cast<size_t>(
      std::count_if(findings.begin(), findings.end(), [&](const Finding& f) { return f.severity == severity; }));
}

std::string findings_text(const FileFindings& file, const std::string& policy, bool colour) {
  std::string out;
  for (const Finding& f : file.findings) {
    const std::string label = std::string(severity_name(f.severity)) + "[" + f.rule->id + "]";
    out += (colour ? colour_of(f.severity) + label + "\x1b[0m" : label) + " " + printable(f.where) +
           (f.where.empty() ? "" : ": ") + printable(f.text) + "\n";
    if (!f.hint.empty()) out += "  hint: " + printable(f.hint) + "\n";
  }
  Strings sums;
  for (Severity severity : {Severity::kError, Severity::kWarning, Severity::kNote}) {
    if (const size_t n = file.count(severity)) sums.push_back(tool::count(n, severity_name(severity)));
  }
  if (sums.empty()) sums.push_back("nothing to say");
  out += printable(file.path) + ": " + join(sums, ", ") +
         format(" (%zu rules, policy %s)\n", std::size(kRules), policy.c_str());
  return out;
}

std::string findings_json(const std::vector<FileFindings>& files, const std::string& policy) {
  Json list = Json::array();
  for (const FileFindings& file : files) {
    Json findings = Json::array();
    for (const Finding& f : file.findings) {
      findings.push_back({{"rule", f.rule->id},
                          {"severity", severity_name(f.severity)},
                          {"where", f.where},
                          {"text", f.text},
                          {"hint", f.hint}});
    }
    list.push_back({{"path", file.path},
                    {"size", file.size},
                    {"sha256", file.sha256},
                    {"result", file.count(Severity::kError) ? "fail" : "pass"},
                    {"errors", file.count(Severity::kError)},
                    {"warnings", file.count(Severity::kWarning)},
                    {"notes", file.count(Severity::kNote)},
                    {"findings", findings}});
  }
  return dump({{"schema", "clary-verify/1"}, {"tool", "clary " CLARY_VERSION}, {"policy", policy}, {"files", list}});
}

std::string findings_sarif(const std::vector<FileFindings>& files) {
  Json results = Json::array(), used = Json::array();
  for (const Rule& rule : kRules) {
    const bool found = std::any_of(files.begin(), files.end(), [&](const FileFindings& file) {
      return std::any_of(file.findings.begin(), file.findings.end(), [&](const Finding& f) { return f.rule == &rule; });
    });
    if (found)
      used.push_back({{"id", rule.id},
                      {"shortDescription", {{"text", rule.title}}},
                      {"help", {{"text", std::string("clary explain ") + rule.id}}}});
  }
  for (const FileFindings& file : files) {
    for (const Finding& f : file.findings) results.push_back(sarif_result(file, f));
  }
  const Json driver = {{"name", "clary"}, {"semanticVersion", CLARY_VERSION}, {"rules", used}};
  return dump({{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
               {"version", "2.1.0"},
               {"runs", Json::array({{{"tool", {{"driver", driver}}}, {"results", results}}})}});
}

}  // namespace clary::tool
