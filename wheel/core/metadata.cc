#include "wheel/core/metadata.h"

namespace clary::tool {

Headers Headers::parse(std::string_view text) {
  Headers out;
  for (std::string_view line : lines(text)) {
    if (trim(line).empty()) break;  // the description follows
    const bool continues = line[0] == ' ' || line[0] == '\t';
    if (continues && !out.fields_.empty()) {
      out.fields_.back().second += "\n" + std::string(trim(line));
      continue;
    }
    const size_t colon = line.find(':');
    const std::string_view name = line.substr(0, colon == line.npos ? 0 : colon);
    if (name.empty() || name.find_first_of(" \t") != name.npos)
      out.strange_.emplace_back(line);
    else
      out.fields_.emplace_back(name, trim(line.substr(colon + 1)));
  }
  return out;
}

std::string Headers::get(std::string_view name) const {
  for (const auto& [key, value] : fields_) {
    if (lower(key) == lower(name)) return value;
  }
  return "";
}

Strings Headers::all(std::string_view name) const {
  Strings out;
  for (const auto& [key, value] : fields_) {
    if (lower(key) == lower(name)) out.push_back(value);
  }
  return out;
}

bool Headers::has(std::string_view name) const { return !all(name).empty(); }

Metadata Metadata::parse(std::string_view text) {
  const Headers headers = Headers::parse(text);
  Metadata out;
  out.metadata_version = headers.get("Metadata-Version");
  out.name = headers.get("Name");
  out.version = headers.get("Version");
  out.summary = headers.get("Summary");
  out.license = headers.has("License-Expression") ? headers.get("License-Expression") : headers.get("License");
  out.requires_python = headers.get("Requires-Python");
  out.requirement_texts = headers.all("Requires-Dist");
  out.provides_extra = headers.all("Provides-Extra");

  for (const std::string& line : headers.strange())
    out.faults.push_back("not a header: `" + printable(line.substr(0, 60)) + "`");
  for (const char* required : {"Metadata-Version", "Name", "Version"}) {
    const size_t n = headers.all(required).size();
    if (n != 1) out.faults.push_back(n ? std::string("more than one ") + required : std::string("no ") + required);
  }
  if (!out.metadata_version.empty() && !out.metadata_version.starts_with("1.") &&
      !out.metadata_version.starts_with("2.")) {
    out.faults.push_back("unknown Metadata-Version: `" + printable(out.metadata_version) + "`");
  }
  if (!out.name.empty() && !is_project_name(out.name))
    out.faults.push_back("not a project name: `" + printable(out.name) + "`");
  if (!out.requires_python.empty()) {
    const Result<Specifier> spec = Specifier::parse(out.requires_python);
    if (!spec) out.faults.push_back("Requires-Python: " + spec.error().message);
  }
  for (const std::string& line : out.requirement_texts) {
    const Result<Requirement> requirement = Requirement::parse(line);
    if (requirement)
      out.requirements.push_back(*requirement);
    else
      out.faults.push_back("Requires-Dist: " + requirement.error().message);
  }
  return out;
}

const Requirement* Metadata::requirement(std::string_view name) const {
  for (const Requirement& r : requirements) {
    const bool optional = r.marker_text.find("extra") != r.marker_text.npos && !r.marker.holds({{"extra", ""}});
    if (normal_name(r.name) == normal_name(name) && !optional) return &r;
  }
  return nullptr;
}

Result<std::vector<RecordRow>> parse_record(std::string_view text) {
  std::vector<RecordRow> rows;
  std::vector<std::string> fields(1);
  bool quoted = false, was_quoted = false;
  const auto end_row = [&]() -> bool {
    const bool blank = fields.size() == 1 && fields[0].empty();
    if (!blank) {
      if (fields.size() != 3) return false;
      RecordRow row;
      row.path = fields[0];
      row.size = fields[2];
      if (const size_t equals = fields[1].find('='); equals != std::string::npos) {
        row.algorithm = lower(fields[1].substr(0, equals));
        row.digest = fields[1].substr(equals + 1);
        while (row.digest.ends_with('=')) row.digest.pop_back();
      } else if (!fields[1].empty()) {
        return false;
      }
      if (row.path.empty() || (!row.size.empty() && !is_digits(row.size))) return false;
      rows.push_back(row);
    }
    fields.assign(1, "");
    was_quoted = false;
    return true;
  };
  for (size_t i = 0; i <= text.size(); i++) {
    const char c = i < text.size() ? text[i] : '\n';
    if (quoted) {
      if (i == text.size()) return Error{"RECORD ends inside quotes", ""};
      if (c != '"')
        fields.back() += c;
      else if (i + 1 < text.size() && text[i + 1] == '"')
        fields.back() += '"', i++;
      else
        quoted = false;
    } else if (c == '"' && fields.back().empty() && !was_quoted) {
      quoted = was_quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
      was_quoted = false;
    } else if (c == '\n') {
      if (fields.back().ends_with('\r')) fields.back().pop_back();
      if (!end_row()) return Error{format("RECORD row %zu is not path,hash,size", rows.size() + 1), ""};
    } else {
      fields.back() += c;
    }
  }
  return rows;
}

}  // namespace clary::tool
