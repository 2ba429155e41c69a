#include "wheel/core/version.h"

#include <charconv>

#include "wheel/core/text.h"

namespace clary::tool {
namespace {

// Reads the text from left to right; every take_* either consumes what it names or leaves the position.
struct Cursor {
  std::string_view rest;
  bool overflow = false;

  bool take(std::string_view word) {
    if (!rest.starts_with(word)) return false;
    rest.remove_prefix(word.size());
    return true;
  }
  bool take_separator() { return take("-") || take("_") || take("."); }
  std::optional<uint64_t> take_number() {
    size_t length = 0;
    while (length < rest.size() && rest[length] >= '0' && rest[length] <= '9') length++;
    if (!length) return std::nullopt;
    uint64_t value = 0;
    overflow |= std::from_chars(rest.data(), rest.data() + length, value).ec != std::errc();
    rest.remove_prefix(length);
    return value;
  }
  // [-_.]? one of words [-_.]? number?
  std::optional<uint64_t> take_part(std::initializer_list<std::pair<std::string_view, char>> words, char* which) {
    Cursor look = *this;
    look.take_separator();
    for (const auto& [word, phase] : words) {
      if (!look.take(word)) continue;
      look.take_separator();
      const uint64_t number = look.take_number().value_or(0);
      *this = look;
      *which = phase;
      return number;
    }
    return std::nullopt;
  }
};

// 1.0 and 1.0.0 are equal: compares as if both had zeros without end.
std::strong_ordering compare_release(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  for (size_t i = 0; i < std::max(a.size(), b.size()); i++) {
    const uint64_t x = i < a.size() ? a[i] : 0, y = i < b.size() ? b[i] : 0;
    if (x != y) return x <=> y;
  }
  return std::strong_ordering::equal;
}

// Numbers are greater than words, more parts greater than fewer.
std::strong_ordering compare_local(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return !a.empty() <=> !b.empty();
  const std::vector<std::string_view> x = split(a, '.'), y = split(b, '.');
  for (size_t i = 0; i < std::min(x.size(), y.size()); i++) {
    const bool nx = is_digits(x[i]), ny = is_digits(y[i]);
    if (nx != ny) return nx <=> ny;
    if (nx && x[i].size() != y[i].size()) return x[i].size() <=> y[i].size();  // no leading zeros in normal form
    if (x[i] != y[i]) return x[i] <=> y[i];
  }
  return x.size() <=> y.size();
}

std::optional<std::string> normal_local(std::string_view text) {
  std::string out;
  const std::string dotted = replace_all(replace_all(std::string(text), "-", "."), "_", ".");  // outlives its parts
  for (std::string_view part : split(dotted, '.')) {
    if (part.empty() || part.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") != part.npos)
      return std::nullopt;
    if (is_digits(part)) part.remove_prefix(std::min(part.find_first_not_of('0'), part.size() - 1));
    out += (out.empty() ? "" : ".") + std::string(part);
  }
  return out;
}

}  // namespace

Result<Version> Version::parse(std::string_view text) {
  const std::string low = lower(trim(text));
  const Error bad{"not a PEP 440 version: `" + printable(text) + "`", ""};
  Cursor c{low};
  Version v;
  c.take("v");

  std::optional<uint64_t> number = c.take_number();
  if (!number) return bad;
  if (c.take("!")) {
    v.epoch_ = *number;
    if (!(number = c.take_number())) return bad;
  }
  v.release_.push_back(*number);
  while (c.rest.size() > 1 && c.rest[0] == '.' && c.rest[1] >= '0' && c.rest[1] <= '9') {
    c.take(".");
    v.release_.push_back(*c.take_number());
  }

  char which = 0;
  number = c.take_part(
      {{"alpha", 'a'}, {"a", 'a'}, {"beta", 'b'}, {"b", 'b'}, {"preview", 'r'}, {"pre", 'r'}, {"c", 'r'}, {"rc", 'r'}},
      &which);
  if (number) v.pre_phase_ = which, v.pre_ = *number;

  if (c.rest.size() > 1 && c.rest[0] == '-' && c.rest[1] >= '0' && c.rest[1] <= '9') {
    c.take("-");
    v.post_ = c.take_number();
  } else {
    v.post_ = c.take_part({{"post", 1}, {"rev", 1}, {"r", 1}}, &which);
  }
  v.dev_ = c.take_part({{"dev", 1}}, &which);

  if (c.take("+")) {
    std::optional<std::string> local = normal_local(c.rest);
    if (!local) return bad;
    v.local_ = *local;
    c.rest = {};
  }
  if (!c.rest.empty()) return bad;
  if (c.overflow) return Error{"version number out of range: `" + printable(text) + "`", ""};
  return v;
}

std::string Version::public_str() const {
  std::string out = epoch_ ? std::to_string(epoch_) + "!" : "";
  for (size_t i = 0; i < release_.size(); i++) out += (i ? "." : "") + std::to_string(release_[i]);
  if (pre_phase_) out += (pre_phase_ == 'r' ? "rc" : std::string(1, pre_phase_)) + std::to_string(pre_);
  if (post_) out += ".post" + std::to_string(*post_);
  if (dev_) out += ".dev" + std::to_string(*dev_);
  return out;
}

std::string Version::str() const { return public_str() + (local_.empty() ? "" : "+" + local_); }

Version Version::base() const {
  Version v;
  v.epoch_ = epoch_;
  v.release_ = release_;
  return v;
}

Version Version::without_local() const {
  Version v = *this;
  v.local_.clear();
  return v;
}

std::strong_ordering Version::operator<=>(const Version& o) const {
  if (epoch_ != o.epoch_) return epoch_ <=> o.epoch_;
  if (auto order = compare_release(release_, o.release_); order != 0) return order;

  // 1.0.dev1 < 1.0a1 < 1.0 < 1.0.post1: where a part is missing it counts as below or above all of its kind.
  const auto phase = [](const Version& v) { return v.pre_phase_ ? v.pre_phase_ : !v.post_ && v.dev_ ? '\0' : 'z'; };
  if (phase(*this) != phase(o)) return phase(*this) <=> phase(o);
  if (pre_ != o.pre_) return pre_ <=> o.pre_;
  if (post_ != o.post_) return post_ <=> o.post_;  // nullopt is less
  if (dev_.has_value() != o.dev_.has_value()) return o.dev_.has_value() <=> dev_.has_value();
  if (dev_ != o.dev_) return dev_ <=> o.dev_;
  return compare_local(local_, o.local_);
}

}  // namespace clary::tool
