// What versions a requirement admits: `>=2.6,<2.9,!=2.7.*`. Order and corner cases are PEP 440's.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/version.h"

namespace clary::tool {

class Specifier {
 public:
  // Of the whole list; empty text admits everything.
  static Result<Specifier> parse(std::string_view text);

  // Pre-releases pass only where `pre` says so or a clause names one.
  bool admits(const Version& version, bool pre = false) const;
  bool empty() const { return clauses_.empty(); }
  std::string str() const;  // ">=2.6,<2.9", in the order written

  // The single release line admitted by one == clause: "2.8" of ==2.8.*, "2.8.0" of ==2.8.0; empty otherwise.
  std::string pinned() const;

 private:
  struct Clause {
    std::string op;    // one of == != <= >= < > ~= ===
    std::string text;  // as written, for ===
    Version version;
    bool prefix = false;  // ==1.2.*
    bool admits(const Version& version) const;
  };
  std::vector<Clause> clauses_;
};

}  // namespace clary::tool
