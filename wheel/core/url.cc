#include "wheel/core/url.h"

#include <curl/curl.h>

#include <memory>

#include "wheel/core/text.h"

namespace clary::tool {
namespace {

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

std::string part(CURLU* url, CURLUPart what, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, what, &text, flags) != CURLUE_OK) return "";
  std::string out(text);
  curl_free(text);
  return out;
}

}  // namespace

Result<Url> Url::parse(std::string_view text) { return Url().resolve(text); }

Result<Url> Url::resolve(std::string_view reference) const {
  const Handle url(curl_url(), &curl_url_cleanup);
  const bool base = text_.empty() || curl_url_set(url.get(), CURLUPART_URL, text_.c_str(), 0) == CURLUE_OK;
  if (!base || curl_url_set(url.get(), CURLUPART_URL, std::string(reference).c_str(), 0) != CURLUE_OK)
    return Error{"not an address: " + printable(reference), "such as https://example.org/latest.json"};
  Url out;
  out.text_ = part(url.get(), CURLUPART_URL);
  out.scheme_ = part(url.get(), CURLUPART_SCHEME);
  const std::string host = part(url.get(), CURLUPART_HOST);
  out.loopback_ = host == "localhost" || host == "127.0.0.1" || host == "[::1]";
  out.origin_ = out.scheme_ + "://" + lower(host) + ":" + part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  if (!part(url.get(), CURLUPART_USER).empty() || !part(url.get(), CURLUPART_PASSWORD).empty())
    return Error{"an address with a password in it: " + out.scheme_ + "://" + host,
                 "set HF_TOKEN or GITHUB_TOKEN instead"};
  if (out.scheme_ != "https" && !(out.scheme_ == "http" && out.loopback_))
    return Error{"not https: " + out.shown(), "only this machine itself may be asked without encryption"};
  return out;
}

std::string Url::shown() const { return printable(text_.substr(0, text_.find('?'))); }

bool is_url(std::string_view text) { return text.starts_with("https://") || text.starts_with("http://"); }

}  // namespace clary::tool
