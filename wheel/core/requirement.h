// A dependency as PEP 508 writes it: `torch[opt]>=2.8,<2.9; platform_system == "Linux"`.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/specifier.h"
#include "wheel/core/text.h"

namespace clary::tool {

// "Foo.Bar_baz" and "foo-bar-baz" are one project; this is the second.
std::string normal_name(std::string_view name);
bool is_project_name(std::string_view name);

// What stands before a dependency's semicolon decides nothing; what stands after is this.
class Marker {
 public:
  using Environment = std::map<std::string, std::string>;  // python_version, sys_platform, extra ...
  static Result<Marker> parse(std::string_view text);
  bool holds(const Environment& environment) const;  // no marker: true
  bool empty() const { return !root_; }
  struct Node;

 private:
  std::shared_ptr<const Node> root_;
};

struct Requirement {
  std::string name;  // as written
  Strings extras;
  Specifier versions;
  std::string url;  // instead of versions
  Marker marker;
  std::string marker_text;
  static Result<Requirement> parse(std::string_view text);
};

}  // namespace clary::tool
