// A Hugging Face repository as a store. One commit carries everything, and names the commit it was made on: readers see the
// old files or the new, and of two publishers one is told to look again. https://huggingface.co/docs/hub/api
#include <openssl/evp.h>

#include <algorithm>

#include "wheel/core/http.h"
#include "wheel/core/json.h"
#include "wheel/core/progress.h"
#include "wheel/core/requirement.h"
#include "wheel/core/store.h"

namespace clary::tool {
namespace {

std::string base64(std::string_view text) {
  std::string out(4 * ((text.size() + 2) / 3) + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(out.data()), reinterpret_cast<const uint8_t*>(text.data()),
                                static_cast<int>(text.size()));
  out.resize(static_cast<size_t>(n));
  return out;
}

std::string path_percent(const std::string& path) { return replace_all(percent(path), "%2F", "/"); }

class HubStore : public Store {
 public:
  HubStore(Ctx& ctx, std::string repo, std::string revision)
      : ctx_(ctx), repo_(std::move(repo)), revision_(std::move(revision)) {
    const auto value = [&](const char* name) { return ctx.proc.env(name).value_or(""); };
    endpoint_ = value("HF_ENDPOINT");
    if (endpoint_.empty()) endpoint_ = "https://huggingface.co";
    while (endpoint_.ends_with('/')) endpoint_.pop_back();
    token_ = value("HF_TOKEN");
    if (!token_.empty()) return;
    const std::string cache = value("XDG_CACHE_HOME").empty() ? value("HOME") + "/.cache" : value("XDG_CACHE_HOME");
    const std::string home = value("HF_HOME").empty() ? cache + "/huggingface" : value("HF_HOME");
    const std::string path = value("HF_TOKEN_PATH").empty() ? home + "/token" : value("HF_TOKEN_PATH");
    if (const Result<std::string> file = ctx.disk.read(path, 1000)) token_ = std::string(trim(*file));
  }
  std::string name() const override { return "hf:" + repo_; }
  std::string token() const override { return token_; }

  Result<Snapshot> look() override {
    const std::string url = api("revision/" + percent(revision_));
    const Result<Response> head = http(ctx_, {.url = url, .token = token_});
    if (!head) return head.error();
    if (head->status == 404) return Snapshot{};
    if (head->status != 200) return http_error(*head, url);
    const Result<Json> json = parse_json(head->body, url);
    if (!json) return json.error();
    Snapshot out{.revision = text_of(*json, "sha")};
    if (out.revision.empty()) return Error{"no commit in the answer of " + url, ""};
    std::string next = api("tree/" + out.revision + "?recursive=true");
    for (int pages = 0; !next.empty() && pages < 1000; pages++) {  // a thousand files a page
      const Result<Response> tree = http(ctx_, {.url = next, .token = token_for(next)});
      if (!tree) return tree.error();
      if (tree->status != 200) return http_error(*tree, next);
      const Result<Json> list = parse_json(tree->body, next);
      if (!list) return list.error();
      for (const Json& f : *list) {
        if (!f.is_object() || text_of(f, "type") != "file") continue;
        const auto lfs = f.find("lfs");
        const std::string sha = lfs != f.end() && lfs->is_object() ? text_of(*lfs, "oid") : "";
        out.files.push_back({text_of(f, "path"), sha, static_cast<uint64_t>(number_of(f, "size"))});
      }
      next = next_page(*tree);
    }
    return out;
  }

  Result<std::optional<std::string>> read(const Snapshot& at, const std::string& file) override {
    if (!at.find(file)) return std::optional<std::string>();
    Result<std::string> text = http_text(ctx_, address(at, file), token_);
    if (!text) return text.error();
    return std::optional<std::string>(*std::move(text));
  }
  std::string address(const Snapshot& at, const std::string& file) const override {
    return endpoint_ + "/" + repo_ + "/resolve/" + at.revision + "/" + path_percent(file);
  }

  Result<bool> commit(const Snapshot& at, const Change& change) override {
    if (token_.empty()) return Error{"no token for " + name(), "export HF_TOKEN=... (a token that may write)"};
    if (at.revision.empty()) {
      if (Result<Done> done = create(); !done) return done.error();
      return false;  // look again: it has a first commit now
    }
    std::string lines =
        dump_line({{"key", "header"},
                   {"value", {{"summary", change.message}, {"description", ""}, {"parentCommit", at.revision}}}});
    for (const Blob& blob : change.blobs) {
      if (Result<Done> done = upload(blob); !done) return done.error();
      lines +=
          "\n" +
          dump_line({{"key", "lfsFile"},
                     {"value", {{"path", blob.name}, {"algo", "sha256"}, {"oid", blob.sha256}, {"size", blob.size}}}});
    }
    for (const auto& [file, content] : change.texts)
      lines += "\n" + dump_line({{"key", "file"},
                                 {"value", {{"content", base64(content)}, {"path", file}, {"encoding", "base64"}}}});
    for (const std::string& file : change.removed)
      lines += "\n" + dump_line({{"key", "deletedFile"}, {"value", {{"path", file}}}});
    const std::string url = api("commit/" + percent(revision_));
    const Result<Response> done = http(ctx_, {.method = "POST",
                                              .url = url,
                                              .headers = {{"Content-Type", "application/x-ndjson"}},
                                              .body = lines,
                                              .token = token_});
    if (!done) return done.error();
    if (done->status == 412 || done->status == 409) return false;
    if (done->status != 200 && done->status != 201) return http_error(*done, url);
    return true;
  }

 private:
  std::string api(const std::string& rest) const { return endpoint_ + "/api/models/" + repo_ + "/" + rest; }

  // Link: <https://...>; rel="next"
  static std::string next_page(const Response& response) {
    const auto link = response.headers.find("link");
    if (link == response.headers.end() || link->second.find("rel=\"next\"") == std::string::npos) return "";
    const size_t open = link->second.find('<'), close = link->second.find('>');
    return open < close && close != std::string::npos ? link->second.substr(open + 1, close - open - 1) : "";
  }

  Result<Response> post(const std::string& url, const Json& body, const char* type = "application/json") {
    const std::string text = dump_line(body);
    return http(ctx_, {.method = "POST",
                       .url = url,
                       .headers = {{"Content-Type", type}, {"Accept", type}},
                       .body = text,
                       .token = token_for(url)});
  }

  std::string token_for(const std::string& url) const { return url.starts_with(endpoint_ + "/") ? token_ : ""; }

  Result<Done> create() {
    const size_t slash = repo_.find('/');
    const std::string url = endpoint_ + "/api/repos/create";
    const bool open = ctx_.proc.env("HF_REPO_PUBLIC").value_or("") == "1";
    const Result<Response> made = post(url, {{"name", repo_.substr(slash + 1)},
                                             {"organization", repo_.substr(0, slash)},
                                             {"type", "model"},
                                             {"private", !open}});
    if (!made) return made.error();
    if (made->status != 200 && made->status != 201 && made->status != 409) return http_error(*made, url);
    return Done{};
  }

  // Through the LFS batch protocol; a blob that is there already is not sent again.
  Result<Done> upload(const Blob& blob) {
    const std::string url = endpoint_ + "/" + repo_ + ".git/info/lfs/objects/batch";
    const Result<Response> batch = post(url,
                                        {{"operation", "upload"},
                                         {"transfers", {"basic", "multipart"}},
                                         {"objects", Json::array({{{"oid", blob.sha256}, {"size", blob.size}}})},
                                         {"ref", {{"name", "refs/heads/" + revision_}}},
                                         {"hash_algo", "sha256"}},
                                        "application/vnd.git-lfs+json");
    if (!batch) return batch.error();
    if (batch->status != 200) return http_error(*batch, url);
    const Result<Json> json = parse_json(batch->body, url);
    if (!json) return json.error();
    const Json& objects = list_of(*json, "objects");
    if (objects.empty() || !objects[0].is_object()) return Error{"no object in the answer of " + url, ""};
    const auto problem = objects[0].find("error");
    if (problem != objects[0].end())
      return Error{"refused: " + blob.name + ": " + printable(text_of(*problem, "message")), ""};
    const auto actions = objects[0].find("actions");
    if (actions == objects[0].end() || !actions->is_object() || !actions->contains("upload")) return Done{};
    const Result<Mapping> file = ctx_.disk.map(blob.path);
    if (!file) return file.error();
    if (file->bytes.size() != blob.size)
      return Error{"changed while it was published: " + blob.path, "run the command again"};
    if (Result<Done> done = send(blob, text(file->bytes), (*actions)["upload"]); !done) return done;
    if (!actions->contains("verify")) return Done{};
    const std::string verify = text_of((*actions)["verify"], "href");
    const Result<Response> there =
        post(verify, {{"oid", blob.sha256}, {"size", blob.size}}, "application/vnd.git-lfs+json");
    if (!there) return there.error();
    return there->status == 200 ? Result<Done>(Done{}) : http_error(*there, verify);
  }

  // One PUT, or one for each part of chunk_size bytes and a POST that joins them. The addresses carry their own permission.
  Result<Done> send(const Blob& blob, std::string_view content, const Json& action) {
    const std::string href = text_of(action, "href");
    const Json header = action.contains("header") && action["header"].is_object() ? action["header"] : Json::object();
    const uint64_t chunk = std::strtoull(text_of(header, "chunk_size", "0").c_str(), nullptr, 10);
    Progress progress(ctx_, "uploading " + blob.name, blob.size);
    if (!chunk) {
      HttpRequest put{.method = "PUT", .url = href, .body = content};
      for (const auto& [name, value] : header.items()) {
        if (value.is_string()) put.headers.emplace_back(name, value.get<std::string>());
      }
      const Result<Response> done = http(ctx_, put);
      if (!done) return done.error();
      return done->status / 100 == 2 ? Result<Done>(Done{}) : http_error(*done, href);
    }
    Json parts = Json::array();
    for (uint64_t at = 0, n = 1; at < content.size(); at += chunk, n++) {
      std::string part;
      for (const auto& [name, value] : header.items()) {
        if (is_digits(name) && std::strtoull(name.c_str(), nullptr, 10) == n && value.is_string())
          part = value.get<std::string>();
      }
      const Result<Response> done = http(ctx_, {.method = "PUT", .url = part, .body = content.substr(at, chunk)});
      if (!done) return done.error();
      const auto etag = done->headers.find("etag");
      if (done->status / 100 != 2 || etag == done->headers.end()) return http_error(*done, part);
      parts.push_back({{"partNumber", n}, {"etag", etag->second}});
      progress.at(at);
    }
    const Result<Response> joined =
        post(href, {{"oid", blob.sha256}, {"parts", parts}}, "application/vnd.git-lfs+json");
    if (!joined) return joined.error();
    return joined->status / 100 == 2 ? Result<Done>(Done{}) : http_error(*joined, href);
  }

  Ctx& ctx_;
  std::string repo_, revision_, endpoint_, token_;
};

}  // namespace

Result<std::unique_ptr<Store>> hub_store(Ctx& ctx, const std::string& text) {
  const size_t at = text.find('@');
  const std::string repo = text.substr(0, at), revision = at == text.npos ? "main" : text.substr(at + 1);
  const size_t slash = repo.find('/');
  const bool good =
      slash != repo.npos && is_project_name(repo.substr(0, slash)) && is_project_name(repo.substr(slash + 1));
  if (!good || revision.empty())
    return Error{"not a Hugging Face repository: `" + printable(text) + "`",
                 "such as hf:someone/wheels or HF_REPO_ID=someone/wheels"};
  return std::unique_ptr<Store>(std::make_unique<HubStore>(ctx, repo, revision));
}

}  // namespace clary::tool
