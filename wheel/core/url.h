// An address that may be asked: https, or http to this very machine. libcurl takes it apart.
#pragma once
#include <string>
#include <string_view>

#include "wheel/core/result.h"

namespace clary::tool {

class Url {
 public:
  static Result<Url> parse(std::string_view text);
  Result<Url> resolve(std::string_view reference) const;  // "../a.whl", "https://..."; checked as parse() does

  const std::string& str() const { return text_; }
  std::string shown() const;  // without a query: signed addresses carry secrets there
  const std::string& scheme() const { return scheme_; }
  const std::string& origin() const { return origin_; }  // scheme, host and port: what a token is for
  bool is_loopback() const { return loopback_; }

 private:
  std::string text_, scheme_, origin_;
  bool loopback_ = false;
};

bool is_url(std::string_view text);  // begins with https:// or http://

}  // namespace clary::tool
