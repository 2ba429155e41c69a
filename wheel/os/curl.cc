#include "wheel/os/curl.h"

#include <curl/curl.h>

#include "clary/clary.h"

namespace clary::tool {
namespace {

constexpr size_t kMostBody = 64 << 20;  // of an answer that no sink takes

struct Transfer {
  CURL* curl;
  const Sink& sink;
  Response response;
  bool stopped = false;

  void read_status() {
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    response.status = static_cast<int>(status);
  }
};

size_t on_header(char* data, size_t, size_t size, void* to) {
  Response& response = static_cast<Transfer*>(to)->response;
  const std::string_view line(data, size);
  if (line.starts_with("HTTP/")) response.headers.clear();  // of a proxy's answer, or a 100
  const size_t colon = line.find(':');
  if (colon != line.npos) response.headers[lower(line.substr(0, colon))] = std::string(trim(line.substr(colon + 1)));
  return size;
}

size_t on_body(char* data, size_t, size_t size, void* to) {
  Transfer& t = *static_cast<Transfer*>(to);
  t.read_status();
  if (t.sink && (t.response.status == 200 || t.response.status == 206)) {
    t.stopped = !t.sink(t.response, {data, size});
    return t.stopped ? 0 : size;
  }
  if (t.response.body.size() + size > kMostBody) return 0;
  t.response.body.append(data, size);
  return size;
}

struct Headers {
  curl_slist* list = nullptr;
  void add(const std::string& line) { list = curl_slist_append(list, line.c_str()); }
  ~Headers() { curl_slist_free_all(list); }
};

}  // namespace

Result<Response> CurlNet::send(const Request& request, const Sink& sink) {
  static const bool started = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  if (!curl_ && started) curl_ = std::shared_ptr<void>(curl_easy_init(), [](void* c) { curl_easy_cleanup(c); });
  if (!curl_) return Error{"libcurl does not start", "reinstall libcurl"};
  CURL* curl = curl_.get();
  curl_easy_reset(curl);
  Transfer transfer{curl, sink, {}};
  Headers headers;
  headers.add("Expect:");
  for (const auto& [name, value] : request.headers) headers.add(name + ": " + value);

  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "clary/" CLARY_VERSION);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https,http");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 20L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 100L);  // bytes a second, for a minute: a dead connection
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  // The variables that curl, pip and uv read.
  std::string no_proxy = "localhost,127.0.0.1,::1";
  for (const char* name : {"no_proxy", "NO_PROXY"}) {
    if (const auto value = proc_.env(name); value && !value->empty()) {
      no_proxy += "," + *value;
      break;
    }
  }
  curl_easy_setopt(curl, CURLOPT_NOPROXY, no_proxy.c_str());
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}) {
    if (const auto value = proc_.env(name); value && !value->empty()) {
      curl_easy_setopt(curl, CURLOPT_CAINFO, value->c_str());
      break;
    }
  }
  if (request.method == "HEAD") {
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  } else if (request.method != "GET") {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data() ? request.body.data() : "");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.list);

  const CURLcode code = curl_easy_perform(curl);
  if (transfer.stopped)
    return Error{"stopped: " + request.url.substr(0, request.url.find('?')), "the receiver refused it"};
  if (code != CURLE_OK) {
    const bool lasting = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    return Error{std::string(curl_easy_strerror(code)) + ": " + request.url.substr(0, request.url.find('?')),
                 lasting ? "set SSL_CERT_FILE to this system's certificates" : ""};
  }
  transfer.read_status();
  return std::move(transfer.response);
}

}  // namespace clary::tool
