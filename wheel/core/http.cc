#include "wheel/core/http.h"

#include <algorithm>
#include <cstdlib>
#include <random>

namespace clary::tool {
namespace {

constexpr int kTries = 5;
constexpr int kRedirects = 5;

bool may_pass(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// One try: an exchange, and those it redirects to.
Result<Response> exchange(Ctx& ctx, const HttpRequest& request, const Url& first, const Sink& sink) {
  Url url = first;
  Request one{request.method, "", request.headers, request.body};
  for (int hops = 0;; hops++) {
    one.url = url.str();
    one.headers = request.headers;
    if (!request.token.empty() && url.origin() == first.origin())
      one.headers.emplace_back("Authorization", "Bearer " + request.token);
    Result<Response> response = ctx.net.send(one, sink);
    if (!response || !request.follow || !is_redirect(response->status)) return response;
    const auto location = response->headers.find("location");
    if (location == response->headers.end()) return response;
    if (hops == kRedirects)
      return Error{"more than 5 redirects: " + first.shown(), "the address leads in a circle: tell its owner"};
    const Result<Url> next = url.resolve(location->second);
    if (!next) return next.error();
    if (next->scheme() != url.scheme() || next->is_loopback() != url.is_loopback())
      return Error{"refused redirect: " + url.shown() + " to " + next->shown(),
                   "it leaves https, or leads into this machine"};
    if (response->status == 303 && one.method != "HEAD") one.method = "GET", one.body = {};
    url = *next;
  }
}

}  // namespace

double backoff(int n, const Response* response) {
  if (response) {
    const auto after = response->headers.find("retry-after");
    if (after != response->headers.end() && is_digits(after->second))
      return std::min(30.0, std::atof(after->second.c_str()));
  }
  const double full = std::min(30.0, 0.5 * static_cast<double>(1 << std::min(n - 1, 6)));
  static std::minstd_rand random(std::random_device{}());
  return full / 2 + full / 2 * std::uniform_real_distribution<>(0, 1)(random);
}

Result<Response> http(Ctx& ctx, const HttpRequest& request, const Sink& sink) {
  const Result<Url> url = Url::parse(request.url);
  if (!url) return url.error();
  bool begun = false;  // a body that has begun is the caller's to resume
  const Sink watched = [&](const Response& head, std::string_view piece) {
    begun = true;
    return sink(head, piece);
  };
  for (int n = 1;; n++) {
    Result<Response> response = exchange(ctx, request, *url, sink ? watched : sink);
    const bool again = response ? may_pass(response->status) : !begun && response.error().hint.empty();
    if (!again) return response;
    if (n == kTries) {
      if (response) return response;
      return Error{response.error().message + format(" (tried %d times)", n), "check the network and the address"};
    }
    ctx.clock.sleep(backoff(n, response ? &*response : nullptr));
  }
}

Error http_error(const Response& response, const std::string& url) {
  const Result<Url> parsed = Url::parse(url);
  const std::string where = parsed ? parsed->shown() : printable(url);
  switch (response.status) {
    case 401:
    case 403:
      return {format("not allowed (%d): ", response.status) + where,
              "set HF_TOKEN (Hugging Face) or GITHUB_TOKEN (GitHub) to a token that may do this"};
    case 404:
      return {"not there (404): " + where, "check the name; a private place needs HF_TOKEN or GITHUB_TOKEN"};
    case 413:
    case 422:
      return {format("refused (%d): ", response.status) + where + ": " + printable(response.body.substr(0, 200)),
              "clary explain '" + printable(response.body.substr(0, 80)) + "'"};
    default:
      return {format("answered %d: ", response.status) + where + ": " + printable(response.body.substr(0, 200)), ""};
  }
}

Result<std::string> http_text(Ctx& ctx, const std::string& url, const std::string& token, size_t at_most) {
  std::string body;
  const HttpRequest request{.url = url, .token = token};
  const Sink sink = [&](const Response&, std::string_view piece) {
    body += piece;
    return body.size() <= at_most;
  };
  const Result<Response> response = http(ctx, request, sink);
  if (body.size() > at_most) return Error{"larger than " + human_bytes(at_most) + ": " + url, ""};
  if (!response) return response.error();
  if (response->status != 200) return http_error(*response, url);
  return body;
}

}  // namespace clary::tool
