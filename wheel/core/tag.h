// What interpreter, ABI and platform a wheel is for, and the file name that says so.
// https://packaging.python.org/en/latest/specifications/binary-distribution-format/
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wheel/core/result.h"
#include "wheel/core/text.h"
#include "wheel/core/version.h"

namespace clary::tool {

// cp312-cp312-manylinux_2_28_x86_64; each part lower case, without dots.
struct Tag {
  std::string python, abi, platform;
  std::string str() const { return python + "-" + abi + "-" + platform; }
  auto operator<=>(const Tag&) const = default;
};

// py2.py3-none-any is py2-none-any and py3-none-any, in that order.
Result<std::vector<Tag>> parse_tags(std::string_view text);

// A platform tag taken apart: manylinux_2_28_x86_64, manylinux2014_x86_64, musllinux_1_2_aarch64, linux_x86_64,
// win_amd64, macosx_11_0_arm64, any.
struct Platform {
  enum Kind { kAny, kLinux, kManylinux, kMusllinux, kWindows, kMac, kOther } kind = kOther;
  int major = 0, minor = 0;  // of the C library (or macOS)
  std::string arch;          // x86_64, aarch64 ...; amd64 of Windows reads x86_64
  static Platform of(std::string_view tag);
};

// The interpreter part: cp312 is CPython 3.12, py3 any Python 3.
struct Interpreter {
  std::string kind;  // "cp", "py", "pp" ...
  int major = 0, minor = -1;
  static std::optional<Interpreter> of(std::string_view tag);
};

class WheelName {
 public:
  static Result<WheelName> parse(std::string_view file_name);
  // REQUIRES: a valid project name, and tags.
  static WheelName make(std::string_view name, const Version& version, const std::vector<Tag>& tags);

  const std::string& name() const { return name_; }  // as the file writes it: sage_attention
  const Version& version() const { return version_; }
  const std::string& version_text() const { return version_text_; }
  const std::string& build() const { return build_; }
  const std::string& tag_text() const { return tag_text_; }
  const std::vector<Tag>& tags() const { return tags_; }
  std::string str() const;

 private:
  std::string name_, version_text_, build_, tag_text_;
  Version version_;
  std::vector<Tag> tags_;
};

// A local version in the seeds' convention: +cu128torch2.6.0, also +cu12.8.torch.2.11 and +pt26cu128 read.
struct StackLabel {
  std::string cuda;   // "12.8"; empty: not said
  std::string torch;  // "2.6.0" or "2.6"; empty: not said
  static StackLabel of(std::string_view local);
};

}  // namespace clary::tool
