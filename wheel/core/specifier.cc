#include "wheel/core/specifier.h"

#include <algorithm>

#include "wheel/core/text.h"

namespace clary::tool {
namespace {

// 1.2 is a prefix of 1.2.3, 1.2rc1 and 1.2.0.post1; zeros are added where the version is shorter.
bool has_prefix(const Version& version, const Version& prefix) {
  for (size_t i = 0; i < prefix.release().size(); i++) {
    if (version.release(i) != prefix.release()[i]) return false;
  }
  return true;
}

}  // namespace

Result<Specifier> Specifier::parse(std::string_view text) {
  static constexpr std::string_view kOps[] = {"===", "==", "!=", "<=", ">=", "~=", "<", ">"};
  Specifier out;
  for (std::string_view part : split(text, ',')) {
    part = trim(part);
    if (part.empty()) continue;
    const auto* op =
        std::find_if(std::begin(kOps), std::end(kOps), [&](std::string_view o) { return part.starts_with(o); });
    const Error bad{"not a version specifier: `" + printable(part) + "`",
                    "one of == != <= >= < > ~= === before a version"};
    if (op == std::end(kOps)) return bad;
    Clause clause;
    clause.op = *op;
    std::string_view rest = trim(part.substr(op->size()));
    clause.text = rest;
    if (rest.empty()) return bad;
    if (clause.op == "===") {
      out.clauses_.push_back(clause);
      continue;
    }
    clause.prefix = rest.ends_with(".*");
    if (clause.prefix) rest.remove_suffix(2);
    Result<Version> version = Version::parse(rest);
    if (!version) return bad;
    clause.version = *version;
    const bool equality = clause.op == "==" || clause.op == "!=";
    const bool plain = version->local().empty() && !version->is_prerelease() && !version->is_postrelease();
    if (clause.prefix && (!equality || !plain)) return bad;
    if (!equality && !version->local().empty()) return bad;
    if (clause.op == "~=" && version->release().size() < 2) return bad;
    out.clauses_.push_back(clause);
  }
  return out;
}

bool Specifier::Clause::admits(const Version& candidate) const {
  if (op == "===") return lower(candidate.str()) == lower(text);
  const Version plain = candidate.without_local();
  if (op == "==" || op == "!=") {
    bool equal;
    if (!prefix) {
      equal = (version.local().empty() ? plain : candidate) == version;
    } else {
      equal = plain.epoch_ == version.epoch_ && has_prefix(plain, version);
    }
    return equal == (op == "==");
  }
  if (op == "<=") return plain <= version;
  if (op == ">=") return plain >= version;
  if (op == "~=") {
    Version stem = version.base();
    stem.release_.pop_back();
    return plain >= version && plain.epoch_ == stem.epoch_ && has_prefix(plain, stem);
  }
  if (op == "<") {  // <1.0 does not admit 1.0rc1, unless it names a pre-release itself
    if (!(candidate < version)) return false;
    const bool its_own = candidate.base() == version.base() && candidate.post_ == version.post_;
    return version.is_prerelease() || !candidate.is_prerelease() || !its_own;
  }
  // >1.0 does not admit 1.0.post1 or 1.0+local
  if (!(candidate > version)) return false;
  const bool its_own = candidate.base() == version.base() && candidate.pre_phase_ == version.pre_phase_;
  if (!version.is_postrelease() && candidate.is_postrelease() && its_own) return false;
  return candidate.local().empty() || candidate.without_local() != version;
}

bool Specifier::admits(const Version& version, bool pre) const {
  if (version.is_prerelease() && !pre) {
    const bool named = std::any_of(clauses_.begin(), clauses_.end(), [](const Clause& c) {
      return c.op != "!=" && c.op != "===" && c.version.is_prerelease();
    });
    if (!named) return false;
  }
  return std::all_of(clauses_.begin(), clauses_.end(), [&](const Clause& c) { return c.admits(version); });
}

std::string Specifier::str() const {
  Strings parts;
  for (const Clause& c : clauses_) parts.push_back(c.op + c.text);
  return join(parts, ",");
}

std::string Specifier::pinned() const {
  if (clauses_.size() != 1 || clauses_[0].op != "==") return "";
  return clauses_[0].version.str();
}

}  // namespace clary::tool
