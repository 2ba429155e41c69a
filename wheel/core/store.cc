#include "wheel/core/store.h"

#include <algorithm>

#include "wheel/core/http.h"
#include "wheel/core/python.h"

namespace clary::tool {
namespace {

// A manifest somewhere on the web: what it names lies beside it.
class WebStore : public Store {
 public:
  WebStore(Ctx& ctx, Url manifest) : ctx_(ctx), manifest_(std::move(manifest)) {}
  std::string name() const override { return manifest_.shown(); }
  std::string manifest_name() const override { return base_name(manifest_.shown()); }
  Result<Snapshot> look() override { return Snapshot{"web", {}}; }

  Result<std::optional<std::string>> read(const Snapshot&, const std::string& file) override {
    const std::string url = address({}, file);
    std::string body;
    const Result<Response> response = http(ctx_, {.url = url}, [&](const Response&, std::string_view piece) {
      body += piece;
      return body.size() < (64u << 20);
    });
    if (!response) return response.error();
    // Where nobody may list, what is not there is forbidden.
    const bool absent = response->status == 404 || (response->status == 403 && file != manifest_name());
    if (absent) return std::optional<std::string>();
    if (response->status != 200) return http_error(*response, url);
    return std::optional<std::string>(std::move(body));
  }
  std::string address(const Snapshot&, const std::string& file) const override {
    if (file == manifest_name()) return manifest_.str();
    const Result<Url> url = manifest_.resolve(replace_all(percent(file), "%2F", "/"));
    return url ? url->str() : "";
  }
  Result<bool> commit(const Snapshot&, const Change&) override {
    return Error{"cannot publish to an address: " + name(), "publish to a folder, hf:OWNER/NAME or github:OWNER/NAME"};
  }

 private:
  Ctx& ctx_;
  Url manifest_;
};

}  // namespace

const StoredFile* Snapshot::find(const std::string& name) const {
  const auto found = std::find_if(files.begin(), files.end(), [&](const StoredFile& f) { return f.name == name; });
  return found == files.end() ? nullptr : &*found;
}

std::string default_store(Ctx& ctx) {
  const std::string repo = ctx.proc.env("HF_REPO_ID").value_or("");
  return repo.empty() ? "" : "hf:" + repo;
}

Result<std::unique_ptr<Store>> open_store(Ctx& ctx, const std::string& where) {
  if (where.starts_with("hf:")) return hub_store(ctx, where.substr(3));
  if (where.starts_with("github:")) return github_store(ctx, where.substr(7));
  if (where.find("://") != where.npos) {
    Result<Url> url = Url::parse(where);
    if (!url) return url.error();
    return std::unique_ptr<Store>(std::make_unique<WebStore>(ctx, *std::move(url)));
  }
  return folder_store(ctx, absolute(ctx, where));  // what is remembered of it holds in every folder
}

}  // namespace clary::tool
