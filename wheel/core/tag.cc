#include "wheel/core/tag.h"

#include <algorithm>
#include <cstdlib>

#include "wheel/core/requirement.h"

namespace clary::tool {
namespace {

bool is_tag_part(std::string_view part) {
  return !part.empty() &&
         part.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == part.npos;
}

int number(std::string_view digits) { return digits.size() < 7 ? std::atoi(std::string(digits).c_str()) : -1; }

// "manylinux_2_28_x86_64" after "manylinux_": 2, 28, "x86_64".
bool take_version(std::string_view rest, Platform& to) {
  const size_t first = rest.find('_'), second = rest.find('_', first + 1);
  if (first == rest.npos || second == rest.npos) return false;
  const std::string_view major = rest.substr(0, first), minor = rest.substr(first + 1, second - first - 1);
  if (!is_digits(major) || !is_digits(minor)) return false;
  to.major = number(major), to.minor = number(minor), to.arch = rest.substr(second + 1);
  return true;
}

}  // namespace

Result<std::vector<Tag>> parse_tags(std::string_view text) {
  const std::vector<std::string_view> parts = split(text, '-');
  const Error bad{"not a wheel tag: `" + printable(text) + "`",
                  "a tag reads PYTHON-ABI-PLATFORM, such as cp312-cp312-linux_x86_64"};
  if (parts.size() != 3) return bad;
  std::vector<Tag> tags;
  for (std::string_view python : split(parts[0], '.')) {
    for (std::string_view abi : split(parts[1], '.')) {
      for (std::string_view platform : split(parts[2], '.')) {
        if (!is_tag_part(python) || !is_tag_part(abi) || !is_tag_part(platform)) return bad;
        if (tags.size() >= 1000) return Error{"more than 1000 tags in one name", ""};
        tags.push_back({lower(python), lower(abi), lower(platform)});
      }
    }
  }
  return tags;
}

Platform Platform::of(std::string_view tag) {
  static constexpr struct {
    std::string_view name;
    int minor;
  } kLegacy[] = {{"manylinux1_", 5}, {"manylinux2010_", 12}, {"manylinux2014_", 17}};
  Platform out;
  for (const auto& legacy : kLegacy) {
    if (!tag.starts_with(legacy.name)) continue;
    out.kind = kManylinux, out.major = 2, out.minor = legacy.minor, out.arch = tag.substr(legacy.name.size());
    return out;
  }
  static constexpr struct {
    std::string_view name;
    Kind kind;
  } kVersioned[] = {{"manylinux_", kManylinux}, {"musllinux_", kMusllinux}, {"macosx_", kMac}};
  for (const auto& versioned : kVersioned) {
    if (tag.starts_with(versioned.name) && take_version(tag.substr(versioned.name.size()), out)) {
      out.kind = versioned.kind;
      return out;
    }
  }
  if (tag == "any") {
    out.kind = kAny;
  } else if (tag.starts_with("linux_")) {
    out.kind = kLinux, out.arch = tag.substr(6);
  } else if (tag == "win32" || tag.starts_with("win_")) {
    out.kind = kWindows;
    out.arch = tag == "win32"       ? "i686"
               : tag == "win_amd64" ? "x86_64"
               : tag == "win_arm64" ? "aarch64"
                                    : std::string(tag.substr(4));
  }
  return out;
}

std::optional<Interpreter> Interpreter::of(std::string_view tag) {
  size_t letters = 0;
  while (letters < tag.size() && tag[letters] >= 'a' && tag[letters] <= 'z') letters++;
  const std::string_view digits = tag.substr(letters);
  if (!letters || !is_digits(digits)) return std::nullopt;
  Interpreter out;
  out.kind = tag.substr(0, letters);
  out.major = digits[0] - '0';
  if (digits.size() > 1) out.minor = number(digits.substr(1));
  return out;
}

Result<WheelName> WheelName::parse(std::string_view file_name) {
  const Error bad{"not a wheel file name: `" + printable(file_name) + "`",
                  "a wheel is called NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl"};
  if (!file_name.ends_with(".whl")) return bad;
  const std::vector<std::string_view> parts = split(file_name.substr(0, file_name.size() - 4), '-');
  if (parts.size() != 5 && parts.size() != 6) return bad;
  WheelName out;
  out.name_ = parts[0];
  if (!is_project_name(out.name_)) return bad;
  out.version_text_ = parts[1];
  Result<Version> version = Version::parse(parts[1]);
  if (!version || parts[1] != trim(parts[1])) return bad;
  out.version_ = *version;
  if (parts.size() == 6) {
    out.build_ = parts[2];
    if (out.build_.empty() || out.build_[0] < '0' || out.build_[0] > '9') return bad;
  }
  const size_t n = parts.size();
  out.tag_text_ = std::string(parts[n - 3]) + "-" + std::string(parts[n - 2]) + "-" + std::string(parts[n - 1]);
  Result<std::vector<Tag>> tags = parse_tags(out.tag_text_);
  if (!tags) return bad;
  out.tags_ = *tags;
  return out;
}

WheelName WheelName::make(std::string_view name, const Version& version, const std::vector<Tag>& tags) {
  WheelName out;
  out.name_ = replace_all(normal_name(name), "-", "_");
  out.version_ = version;
  out.version_text_ = version.str();
  out.tags_ = tags;
  const auto compressed = [&](std::string Tag::* part) {
    Strings seen;
    for (const Tag& tag : tags) {
      if (std::find(seen.begin(), seen.end(), tag.*part) == seen.end()) seen.push_back(tag.*part);
    }
    return join(seen, ".");
  };
  out.tag_text_ = compressed(&Tag::python) + "-" + compressed(&Tag::abi) + "-" + compressed(&Tag::platform);
  return out;
}

std::string WheelName::str() const {
  return name_ + "-" + version_text_ + (build_.empty() ? "" : "-" + build_) + "-" + tag_text_ + ".whl";
}

StackLabel StackLabel::of(std::string_view local) {
  StackLabel out;
  const auto digits_at = [&](size_t i) {
    std::string found;
    while (i < local.size() && (local[i] == '.' || (local[i] >= '0' && local[i] <= '9'))) found += local[i++];
    while (found.ends_with('.')) found.pop_back();
    while (found.starts_with('.')) found.erase(0, 1);
    return found;
  };
  if (const size_t i = local.find("cu"); i != local.npos) {
    out.cuda = digits_at(i + 2);
    const bool packed = is_digits(out.cuda) && out.cuda.size() >= 3;  // cu128
    if (packed) out.cuda.insert(out.cuda.size() - 1, ".");
  }
  for (std::string_view word : {"torch", "pt"}) {
    const size_t i = local.find(word);
    if (i == local.npos || !out.torch.empty()) continue;
    out.torch = digits_at(i + word.size());
    const bool packed = is_digits(out.torch) && out.torch.size() >= 2;  // pt26, torch210
    if (packed) out.torch.insert(1, ".");
  }
  return out;
}

}  // namespace clary::tool
