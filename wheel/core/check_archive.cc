// W1, W2, W3: the name, RECORD and the archive itself.
#include <algorithm>
#include <map>

#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

void check_name(Verifier& v, const WheelFacts& w) {
  if (!w.name) {
    v.add("W1.name", "", w.name_fault, "a wheel is called NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl");
    return;
  }
  const Version& version = w.name->version();
  if (w.name->version_text() != version.str()) {
    v.add("W1.name", "", "version `" + w.name->version_text() + "` is not in normal form", "write " + version.str());
  }
  if (w.name->name() != replace_all(normal_name(w.name->name()), "-", "_") &&
      w.name->name().find_first_of("-.") != std::string::npos) {
    v.add("W1.name", "", "project `" + w.name->name() + "` is not escaped",
          "write " + replace_all(normal_name(w.name->name()), "-", "_"));
  }
  if (!w.dist_info.empty()) {
    const std::string stem = w.dist_info.substr(0, w.dist_info.size() - std::string_view(".dist-info").size());
    const size_t dash = stem.rfind('-');
    const std::string project = stem.substr(0, dash), text = dash == stem.npos ? "" : stem.substr(dash + 1);
    const Result<Version> inner = Version::parse(text);
    if (normal_name(project) != normal_name(w.name->name()) || !inner || *inner != version) {
      v.add("W1.agree", w.dist_info, "the file is called " + w.name->name() + "-" + w.name->version_text());
    }
  }
  if (w.has_metadata) {
    const Result<Version> inner = Version::parse(w.metadata.version);
    if (normal_name(w.metadata.name) != normal_name(w.name->name())) {
      v.add("W1.agree", "METADATA", "Name is " + w.metadata.name + ", the file is called " + w.name->name());
    }
    if (inner && *inner != version) {
      v.add("W1.agree", "METADATA",
            "Version is " + w.metadata.version + ", the file is called " + w.name->version_text(),
            "pip refuses such a wheel: build it again, renaming is not enough");
    }
  }
}

void check_wheel_file(Verifier& v, const WheelFacts& w) {
  if (w.dist_infos.size() != 1) {
    v.add("W1.info", "",
          w.dist_infos.empty() ? "no .dist-info folder" : "several .dist-info folders: " + join(w.dist_infos, ", "));
    return;
  }
  if (!w.has_metadata) v.add("W1.info", w.dist_info, "no METADATA");
  if (!w.has_wheel) v.add("W1.info", w.dist_info, "no WHEEL");
  if (!w.has_record) v.add("W1.info", w.dist_info, "no RECORD");
  if (!w.has_wheel) return;

  const std::string format = w.wheel.get("Wheel-Version");
  if (!format.starts_with("1.")) v.add("W1.format", "WHEEL", "Wheel-Version is `" + format + "`, not 1.x");
  const std::string pure = lower(w.wheel.get("Root-Is-Purelib"));
  if (pure != "true" && pure != "false") v.add("W1.format", "WHEEL", "Root-Is-Purelib is neither true nor false");
  if (pure == "true" && !v.facts.binaries.empty()) {
    v.add("W1.pure", "WHEEL", "Root-Is-Purelib is true beside " + v.facts.binaries[0].path,
          "set it to false: distributions keep the two apart");
  }
  if (!w.name) return;
  std::vector<Tag> inner, outer = w.name->tags();
  for (const std::string& text : w.wheel.all("Tag")) {
    const Result<std::vector<Tag>> tags = parse_tags(text);
    if (!tags)
      v.add("W1.format", "WHEEL", tags.error().message);
    else
      inner.insert(inner.end(), tags->begin(), tags->end());
  }
  std::sort(inner.begin(), inner.end());
  std::sort(outer.begin(), outer.end());
  if (inner != outer) {
    Strings said;
    for (const Tag& tag : inner) said.push_back(tag.str());
    v.add("W1.tag", "WHEEL",
          "Tag is " + (said.empty() ? "missing" : join(said, ", ")) + ", the file name says " + w.name->tag_text(),
          "a wheel that was renamed by hand; `python -m wheel tags` changes both");
  }
}

bool signs_itself(const WheelFacts& w, const std::string& path) {
  return path == w.dist_info + "/RECORD" || path == w.dist_info + "/RECORD.jws" || path == w.dist_info + "/RECORD.p7s";
}

void check_record(Verifier& v, const WheelFacts& w) {
  if (!w.has_record) return;
  if (!w.record_fault.empty()) {
    v.add("W2.syntax", "RECORD", w.record_fault);
    return;
  }
  std::map<std::string, const RecordRow*> rows;
  for (const RecordRow& row : w.record) {
    if (!rows.emplace(row.path, &row).second) v.add("W2.absent", row.path, "listed twice");
  }
  for (const MemberFacts& m : w.members) {
    if (m.name.ends_with('/')) continue;
    const auto found = rows.find(m.name);
    if (found == rows.end()) {
      if (!signs_itself(w, m.name))
        v.add("W2.unlisted", m.name, "not in RECORD", "pip would leave it behind when it uninstalls");
      continue;
    }
    const RecordRow& row = *found->second;
    rows.erase(found);
    if (signs_itself(w, m.name)) continue;
    if (row.size.empty() || row.size != std::to_string(m.size)) {
      v.add("W2.size", m.name, thousands(m.size) + " bytes, RECORD says " + (row.size.empty() ? "nothing" : row.size));
    }
    if (row.algorithm.empty())
      v.add("W2.weak", m.name, "no hash");
    else if (row.algorithm == "md5" || row.algorithm == "sha1")
      v.add("W2.weak", m.name, "its hash is " + row.algorithm);
    else if (row.algorithm == "sha256" && !m.digest.empty() && row.digest != m.digest) {
      v.add("W2.hash", m.name, "SHA-256 is " + m.digest + ", RECORD says " + row.digest,
            "the file was changed after the wheel was made");
    }
  }
  for (const auto& [path, row] : rows) {
    if (!signs_itself(w, path)) v.add("W2.absent", path, "in RECORD, not in the wheel");
  }
}

}  // namespace

void check_archive(Verifier& v) {
  const WheelFacts* w = v.wheel();
  if (!w) return;
  for (const Fault& fault : w->zip_faults) v.add(fault.rule, fault.where, fault.text);
  for (const MemberFacts& m : w->members) {
    if (!m.fault.empty()) v.add("W3.data", m.name, m.fault);
  }
  check_name(v, *w);
  if (w->members.empty()) return;
  check_wheel_file(v, *w);
  check_record(v, *w);
}

}  // namespace clary::tool
