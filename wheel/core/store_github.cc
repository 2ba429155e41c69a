// The assets of a GitHub release as a store. An asset cannot be replaced in one step, so a manifest is found by its number:
// manifest-000012.json is uploaded whole or does not exist, and the highest counts. GitHub refuses a second asset of one name,
// which is what tells the later of two publishers to look again. A new release is a draft until everything is there.
// https://docs.github.com/rest/releases
#include <algorithm>

#include "wheel/core/http.h"
#include "wheel/core/json.h"
#include "wheel/core/requirement.h"
#include "wheel/core/store.h"

namespace clary::tool {
namespace {

constexpr uint64_t kMostAsset = 2147483647;

class GithubStore : public Store {
 public:
  GithubStore(Ctx& ctx, std::string repo, std::string tag) : ctx_(ctx), repo_(std::move(repo)), tag_(std::move(tag)) {
    const auto value = [&](const char* name) { return ctx.proc.env(name).value_or(""); };
    endpoint_ = value("GITHUB_API_URL").empty() ? "https://api.github.com" : value("GITHUB_API_URL");
    token_ = value("GH_TOKEN").empty() ? value("GITHUB_TOKEN") : value("GH_TOKEN");
  }
  std::string name() const override { return "github:" + repo_ + (tag_.empty() ? "" : "@" + tag_); }
  std::string token() const override { return token_; }

  Result<Snapshot> look() override {
    Result<Json> release = find_release();
    if (!release) return release.error();
    Snapshot out;
    if (release->is_null()) return out;
    out.revision = std::to_string(number_of(*release, "id"));
    const Result<Json> assets = all(api("releases/" + out.revision + "/assets"));
    if (!assets) return assets.error();
    assets_ = *assets;
    for (const Json& a : assets_) {
      const bool shown = !bool_of(*release, "draft") ||
                         text_of(a, "name").ends_with(".whl");  // of a draft, only what need not be sent again
      if (text_of(a, "state") != "uploaded" || !shown) continue;
      const std::string digest = text_of(a, "digest");
      out.files.push_back({text_of(a, "name"), digest.starts_with("sha256:") ? digest.substr(7) : "",
                           static_cast<uint64_t>(number_of(a, "size"))});
    }
    return out;
  }

  // latest.json and its signature are those of the highest number.
  Result<std::optional<std::string>> read(const Snapshot& at, const std::string& file) override {
    const std::string name = file.starts_with("latest.json") ? highest(at, file.substr(11)) : file;
    const Json* asset = find_asset(name);
    if (!asset || !at.find(name)) return std::optional<std::string>();
    const HttpRequest get{
        .url = text_of(*asset, "url"), .headers = {{"Accept", "application/octet-stream"}}, .token = token_};
    std::string body;
    const Result<Response> response = http(ctx_, get, [&](const Response&, std::string_view piece) {
      body += piece;
      return body.size() < (64u << 20);
    });
    if (!response) return response.error();
    if (response->status != 200) return http_error(*response, get.url);
    return std::optional<std::string>(std::move(body));
  }
  std::string address(const Snapshot&, const std::string& file) const override {
    const Json* asset = find_asset(file);
    return asset ? text_of(*asset, "browser_download_url") : "";
  }

  Result<bool> commit(const Snapshot& at, const Change& change) override {
    if (token_.empty()) return Error{"no token for " + name(), "export GH_TOKEN=... (a token that may write releases)"};
    for (const Blob& blob : change.blobs) {
      if (blob.size > kMostAsset)
        return Error{"too large for a GitHub release: " + blob.name + " has " + human_bytes(blob.size),
                     "clary explain release-too-large"};
    }
    Result<Json> release = find_release();
    if (release && release->is_null()) release = create(change.message);
    if (!release) return release.error();
    const std::string id = std::to_string(number_of(*release, "id"));
    if (!at.revision.empty() && at.revision != id) return false;
    const std::string upload = text_of(*release, "upload_url"), to = upload.substr(0, upload.find('{'));
    const Result<Json> assets = all(api("releases/" + id + "/assets"));
    if (!assets) return assets.error();
    assets_ = *assets;
    for (const Blob& blob : change.blobs) {
      const Result<Mapping> file = ctx_.disk.map(blob.path);
      if (!file) return file.error();
      const Result<bool> sent = put(to, blob.name, text(file->bytes), blob.sha256, "application/octet-stream");
      if (!sent || !*sent) return sent;  // false: of that name by another
    }
    for (const auto& [file, content] : change.texts) {
      // For readers that know no numbers; and what an interrupted publisher left in its draft.
      const bool replaced = file.starts_with("latest.json") || bool_of(*release, "draft");
      if (const Json* old = replaced ? find_asset(file) : nullptr) {
        if (Result<Done> done = remove(*old); !done) return done.error();
      }
      const Result<bool> sent = put(to, file, content, "", "application/json");
      if (!sent) return sent;
      if (!*sent && !replaced) return false;
    }
    for (const std::string& file : change.removed) {
      if (const Json* old = find_asset(file)) {
        if (Result<Done> done = remove(*old); !done) return done.error();
      }
    }
    if (!bool_of(*release, "draft")) return true;
    const std::string url = api("releases/" + id);
    const Result<Response> shown = send("PATCH", url, dump_line({{"draft", false}}), "application/json");
    if (!shown) return shown.error();
    if (shown->status != 200) return http_error(*shown, url);
    return true;
  }

 private:
  std::string api(const std::string& rest) const { return endpoint_ + "/repos/" + repo_ + "/" + rest; }

  Result<Response> send(const char* method, const std::string& url, std::string_view body, const char* type) {
    HttpRequest request{.method = method,
                        .url = url,
                        .headers = {{"Accept", "application/vnd.github+json"}},
                        .body = body,
                        .token = token_};
    if (*type) request.headers.emplace_back("Content-Type", type);
    return http(ctx_, request);
  }

  // Every page of a list.
  Result<Json> all(const std::string& url) {
    Json out = Json::array();
    for (int page = 1; page < 100; page++) {
      const Result<std::string> text = http_text(ctx_, url + "?per_page=100&page=" + std::to_string(page), token_);
      if (!text) return text.error();
      const Result<Json> json = parse_json(*text, url);
      if (!json) return json.error();
      if (!json->is_array()) return Error{"no list: " + url, ""};
      for (const Json& item : *json) out.push_back(item);
      if (json->size() < 100) break;
    }
    return out;
  }

  // Null: there is none. Drafts have no address of their own; they are in the list, for who may write.
  Result<Json> find_release() {
    const std::string url = api(tag_.empty() ? "releases/latest" : "releases/tags/" + percent(tag_));
    const Result<Response> response = send("GET", url, "", "");
    if (!response) return response.error();
    if (response->status == 200) return parse_json(response->body, url);
    if (response->status != 404) return http_error(*response, url);
    if (token_.empty() || tag_.empty()) return Json();
    const Result<Json> list = all(api("releases"));
    if (!list) return list.error();
    for (const Json& release : *list) {
      if (text_of(release, "tag_name") == tag_) return release;
    }
    return Json();
  }

  Result<Json> create(const std::string& message) {
    if (tag_.empty()) return Error{"no release in " + repo_, "name one to make: github:" + repo_ + "@v1.0"};
    const std::string url = api("releases");
    const Result<Response> made =
        send("POST", url, dump_line({{"tag_name", tag_}, {"name", tag_}, {"body", message}, {"draft", true}}),
             "application/json");
    if (!made) return made.error();
    if (made->status != 201) return http_error(*made, url);
    return parse_json(made->body, url);
  }

  // False: another publisher put that name there. What an interrupted upload left is removed first.
  Result<bool> put(const std::string& to, const std::string& file, std::string_view content, const std::string& sha256,
                   const char* type) {
    if (const Json* old = find_asset(file)) {
      const bool whole =
          text_of(*old, "state") == "uploaded" && static_cast<uint64_t>(number_of(*old, "size")) == content.size();
      const std::string digest = text_of(*old, "digest");
      if (whole && !sha256.empty() && (digest.empty() || digest == "sha256:" + sha256)) return true;
      if (text_of(*old, "state") == "uploaded") {
        if (sha256.empty()) return false;
        return Error{"another file of that name is published: " + file,
                     "give the new wheel its own version or build number"};
      }
      if (Result<Done> done = remove(*old); !done) return done.error();
    }
    const std::string url = to + "?name=" + percent(file);
    const Result<Response> sent = send("POST", url, content, type);
    if (!sent) return sent.error();
    if (sent->status == 422 && sent->body.find("already_exists") != std::string::npos) return false;
    if (sent->status != 201) return http_error(*sent, url);
    const Result<Json> asset = parse_json(sent->body, url);
    if (!asset) return asset.error();
    const std::string digest = text_of(*asset, "digest");
    const bool good = static_cast<uint64_t>(number_of(*asset, "size")) == content.size() &&
                      (sha256.empty() || digest.empty() || digest == "sha256:" + sha256);
    if (!good) return Error{"arrived damaged: " + file, "run the command again"};
    assets_.push_back(*asset);
    return true;
  }

  Result<Done> remove(const Json& asset) {
    const std::string url = text_of(asset, "url");  // `asset` is one of assets_
    const Result<Response> done = send("DELETE", url, "", "");
    if (!done) return done.error();
    Json rest = Json::array();
    for (const Json& a : assets_) {
      if (text_of(a, "url") != url) rest.push_back(a);
    }
    assets_ = std::move(rest);
    return done->status == 204 || done->status == 404 ? Result<Done>(Done{}) : http_error(*done, url);
  }

  const Json* find_asset(const std::string& file) const {
    const Json* found = nullptr;
    for (const Json& a : assets_) {
      if (text_of(a, "name") == file) found = &a;
    }
    return found;
  }

  // manifest-<highest number>.json of those that are whole (with a signature, where any has one) + `end`.
  static std::string highest(const Snapshot& at, const std::string& end) {
    std::string best, best_signed;
    for (const StoredFile& f : at.files) {
      if (!f.name.starts_with("manifest-") || !f.name.ends_with(".json")) continue;
      best = std::max(best, f.name);
      if (at.find(f.name + ".minisig")) best_signed = std::max(best_signed, f.name);
    }
    if (best.empty()) return "latest.json" + end;
    return (best_signed.empty() ? best : best_signed) + end;
  }

  Ctx& ctx_;
  std::string repo_, tag_, endpoint_, token_;
  Json assets_ = Json::array();
};

}  // namespace

Result<std::unique_ptr<Store>> github_store(Ctx& ctx, const std::string& text) {
  const size_t at = text.find('@');
  const std::string repo = text.substr(0, at), tag = at == text.npos ? "" : text.substr(at + 1);
  const size_t slash = repo.find('/');
  if (slash == repo.npos || !is_project_name(repo.substr(0, slash)) || !is_project_name(repo.substr(slash + 1)))
    return Error{"not a GitHub repository: `" + printable(text) + "`", "such as github:someone/wheels@v1.0"};
  return std::unique_ptr<Store>(std::make_unique<GithubStore>(ctx, repo, tag));
}

}  // namespace clary::tool
