// METADATA, WHEEL and RECORD of a wheel.
// https://packaging.python.org/en/latest/specifications/core-metadata/ and .../recording-installed-packages/
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wheel/core/requirement.h"
#include "wheel/core/result.h"

namespace clary::tool {

// "Key: value" lines up to an empty one, continuation lines joined; names compare without case.
class Headers {
 public:
  static Headers parse(std::string_view text);
  std::string get(std::string_view name) const;  // the first, or empty
  Strings all(std::string_view name) const;
  bool has(std::string_view name) const;
  const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }
  const Strings& strange() const { return strange_; }  // lines that are neither

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
  Strings strange_;
};

struct Metadata {
  std::string metadata_version, name, version, summary, license, requires_python;
  std::vector<Requirement> requirements;
  Strings requirement_texts;  // as written
  Strings provides_extra;
  Strings faults;  // what the specification refuses
  static Metadata parse(std::string_view text);
  // The requirement on `name` that holds without extras, if there is one.
  const Requirement* requirement(std::string_view name) const;
};

struct RecordRow {
  std::string path;
  std::string algorithm, digest;  // "sha256", base64 without padding; empty: none
  std::string size;               // digits, or empty
};

// RECORD is CSV: quotes where a path holds a comma or a quote.
Result<std::vector<RecordRow>> parse_record(std::string_view text);

}  // namespace clary::tool
