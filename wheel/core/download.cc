#include "wheel/core/download.h"

#include <cstdlib>

#include "wheel/core/digest.h"
#include "wheel/core/progress.h"

namespace clary::tool {
namespace {

constexpr int kResumes = 10;

struct Part {
  Ctx& ctx;
  std::string path, tag_path;
  uint64_t size = 0;
  std::string tag{};  // the server's name for these bytes
  Sha256Stream digest{};

  Result<Done> load() {
    const std::optional<FileInfo> info = ctx.disk.info(path);
    size = 0, digest = Sha256Stream(), tag = "";
    if (!info || !info->size) return Done{};
    const Result<Mapping> old = ctx.disk.map(path);
    if (!old) return old.error();
    digest.add(text(old->bytes)), size = old->bytes.size();
    if (const Result<std::string> known = ctx.disk.read(tag_path, 1000)) tag = *known;
    return Done{};
  }
  void discard() {
    (void)ctx.disk.remove(path);
    (void)ctx.disk.remove(tag_path);
    size = 0, digest = Sha256Stream(), tag = "";
  }
};

std::string header(const Response& response, const char* name) {
  const auto found = response.headers.find(name);
  return found == response.headers.end() ? "" : found->second;
}

// "bytes 100-999/1000": where the piece begins; none: not such a header.
std::optional<uint64_t> range_begin(const Response& response) {
  const std::string range = header(response, "content-range");
  if (!range.starts_with("bytes ") || range.size() < 7 || !is_digits(range.substr(6, 1))) return std::nullopt;
  return std::strtoull(range.c_str() + 6, nullptr, 10);
}

// One connection: appends what comes to the part. True: the server has no more.
Result<bool> receive(Ctx& ctx, const Download& what, const std::string& url, Part& part, Progress& progress) {
  HttpRequest request{.url = url, .headers = {{"Accept-Encoding", "identity"}}, .token = what.token};
  if (part.size) {
    request.headers.emplace_back("Range", "bytes=" + std::to_string(part.size) + "-");
    if (!part.tag.empty()) request.headers.emplace_back("If-Range", part.tag);
  }
  std::unique_ptr<Appender> file;
  std::optional<Error> trouble;
  const auto begin = [&](const Response& head) -> Result<Done> {
    const bool goes_on = head.status == 206 && range_begin(head) == part.size;
    if (head.status == 206 && !goes_on) return Error{"sent another piece than was asked: " + url, "it is tried again"};
    if (!goes_on && part.size) part.discard();
    const std::string tag = header(head, "etag");
    if (!goes_on && !tag.empty() && !tag.starts_with("W/")) {
      if (Result<Done> done = ctx.disk.write(part.tag_path, tag); !done) return done;
      part.tag = tag;
    }
    Result<std::unique_ptr<Appender>> opened = ctx.disk.append_to(part.path, part.size);
    if (!opened) return opened.error();
    file = *std::move(opened);
    return Done{};
  };
  const Sink sink = [&](const Response& head, std::string_view piece) {
    if (!file) {
      if (Result<Done> done = begin(head); !done) trouble = done.error();
    }
    if (!trouble && what.size && part.size + piece.size() > what.size)
      trouble = Error{"larger than the " + human_bytes(what.size) + " that were announced: " + url,
                      "clary explain download-wrong"};
    if (!trouble) {
      if (Result<Done> done = file->append(piece); !done) trouble = done.error();
    }
    if (trouble) return false;
    part.digest.add(piece), part.size += piece.size();
    progress.at(part.size);
    return true;
  };
  const Result<Response> response = http(ctx, request, sink);
  if (trouble) {
    if (file && what.size && part.size <= what.size && trouble->hint == "clary explain download-wrong") part.discard();
    return *trouble;
  }
  if (file) {
    if (Result<Done> done = file->finish(); !done) return done.error();
  }
  if (!response)
    return part.size && file ? Result<bool>(false) : Result<bool>(response.error());  // cut: go on from there
  if (response->status == 416 && part.size) return true;  // there is nothing after what we have
  if (response->status != 200 && response->status != 206) return http_error(*response, url);
  return true;
}

Result<Done> from(Ctx& ctx, const Download& what, const std::string& url, Part& part, Progress& progress) {
  for (int n = 1;; n++) {
    const bool resumed = part.size > 0;
    Result<bool> whole =
        (what.size && part.size == what.size) ? Result<bool>(true) : receive(ctx, what, url, part, progress);
    if (!whole) return whole.error();
    const bool cut = !*whole || part.size < what.size;
    if (cut && n < kResumes) {
      ctx.clock.sleep(backoff(n, nullptr));
      continue;
    }
    if (cut)
      return Error{"cut off after " + thousands(part.size) + " bytes: " + url,
                   "run the command again: it goes on from there"};
    Sha256Stream digest = std::exchange(part.digest, Sha256Stream());
    const std::string got = hex(digest.finish());
    if (got == what.sha256) return Done{};
    part.discard();
    if (resumed && n < kResumes) continue;  // the old piece was of another file: once more from the start
    return Error{"not the announced file: " + url + ": SHA-256 is " + got + ", not " + what.sha256,
                 "clary explain download-wrong"};
  }
}

}  // namespace

Result<Done> download(Ctx& ctx, const Download& what, const std::string& to) {
  Part part{.ctx = ctx, .path = to + ".part", .tag_path = to + ".part.etag"};
  std::optional<Error> first;
  Progress progress(ctx, "downloading " + base_name(to), what.size);
  for (const std::string& url : what.urls) {
    if (Result<Done> done = part.load(); !done) return done;
    Result<Done> done = from(ctx, what, url, part, progress);
    if (done) done = ctx.disk.rename(part.path, to);
    if (done) {
      (void)ctx.disk.remove(part.tag_path);
      return Done{};
    }
    if (!first) first = done.error();
  }
  return first ? *first : Error{"no address to download from: " + base_name(to), ""};
}

}  // namespace clary::tool
