// What every request of clary obeys: https, at most five redirects and none to another scheme, a token for one host alone,
// and another try after a failure that may pass.
#pragma once
#include "wheel/core/url.h"
#include "wheel/ctx.h"

namespace clary::tool {

struct HttpRequest {
  std::string method = "GET", url{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string_view body{};  // REQUIRES: outlives the call
  std::string token{};      // sent as "Bearer" to the host of `url`, never to one it redirects to
  bool follow = true;       // redirects
};

// Any status is an answer. An error says which address failed and how often it was tried.
Result<Response> http(Ctx& ctx, const HttpRequest& request, const Sink& sink = nullptr);

// The body of a 200; an error says what the status means. `at_most`: more is an error.
Result<std::string> http_text(Ctx& ctx, const std::string& url, const std::string& token = "",
                              size_t at_most = 64 << 20);
// What a status that is no success means, with the repair.
Error http_error(const Response& response, const std::string& url);

// Seconds before try `n` (1, 2 ...): doubling from half a second, half of it by chance, at most 30; a server's Retry-After counts.
double backoff(int n, const Response* response);

}  // namespace clary::tool
