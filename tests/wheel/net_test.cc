// What a request obeys, and what a download survives: in memory, and over real sockets where libcurl's part is meant.
#include "support.h"
#include "wheel/core/cache.h"
#include "wheel/core/digest.h"
#include "wheel/core/download.h"

namespace clary::tool::test {
namespace {

std::string authorization(const Request& request) {
  for (const auto& [name, value] : request.headers) {
    if (name == "Authorization") return value;
  }
  return "";
}

std::string header_of(const Request& request, const std::string& wanted) {
  for (const auto& [name, value] : request.headers) {
    if (name == wanted) return value;
  }
  return "";
}

TEST(Url, OnlyWhatMayBeAsked) {
  EXPECT_TRUE(Url::parse("https://example.org/a?b=c"));
  EXPECT_TRUE(Url::parse("http://127.0.0.1:8000/x"));
  EXPECT_TRUE(Url::parse("http://localhost/x"));
  EXPECT_TRUE(Url::parse("http://[::1]:80/x"));
  for (const char* bad :
       {"http://example.org/", "ftp://example.org/", "file:///etc/passwd", "https://me:pw@example.org/", "https://",
        "nonsense", "http://127.0.0.1.example.org/", "http://localhost@example.org/", "http://localhost.example.org/"})
    EXPECT_FALSE(Url::parse(bad)) << bad;
  const Url base = *Url::parse("https://example.org/a/b.json");
  EXPECT_EQ(base.resolve("w/c.whl")->str(), "https://example.org/a/w/c.whl");
  EXPECT_EQ(base.resolve("/c.whl")->str(), "https://example.org/c.whl");
  EXPECT_FALSE(base.resolve("http://example.org/c"));
  EXPECT_EQ(Url::parse("https://e.org/a?sig=secret")->shown(), "https://e.org/a");
  EXPECT_NE(Url::parse("https://e.org/")->origin(), Url::parse("https://e.org:8443/")->origin());
}

TEST(Http, TokenStaysWithItsHost) {
  MemoryWorld world;
  world.net.pages["https://a.example/x"] = {302, {{"location", "https://a.example/y"}}, ""};
  world.net.pages["https://a.example/y"] = {302, {{"location", "https://b.example/z"}}, ""};
  world.net.pages["https://b.example/z"] = {200, {}, "body"};
  EXPECT_EQ(*http_text(world.ctx, "https://a.example/x", "secret"), "body");
  ASSERT_EQ(world.net.requests.size(), 3u);
  EXPECT_EQ(authorization(world.net.requests[0]), "Bearer secret");
  EXPECT_EQ(authorization(world.net.requests[1]), "Bearer secret");
  EXPECT_EQ(authorization(world.net.requests[2]), "");
}

TEST(Http, RefusesBadRedirects) {
  for (const char* to : {"http://a.example/y", "http://127.0.0.1/y", "https://127.0.0.1/y", "file:///etc/passwd",
                         "https://u:p@b.example/"}) {
    MemoryWorld world;
    world.net.pages["https://a.example/x"] = {302, {{"location", to}}, ""};
    EXPECT_FALSE(http_text(world.ctx, "https://a.example/x")) << to;
    EXPECT_EQ(world.net.requests.size(), 1u) << to;
  }
  MemoryWorld circle;
  circle.net.pages["https://a.example/x"] = {302, {{"location", "/x"}}, ""};
  EXPECT_EQ(http_text(circle.ctx, "https://a.example/x").error().message, "more than 5 redirects: https://a.example/x");
  EXPECT_EQ(circle.net.requests.size(), 6u);
}

TEST(Http, TriesAgainWhatMayPass) {
  for (const int status : {429, 500, 503}) {
    MemoryWorld world;
    int n = 0;
    world.net.serve = [&](const Request&) -> Result<Response> {
      if (++n < 3) return Response{status, {{"retry-after", "7"}}, ""};
      return Response{200, {}, "ok"};
    };
    EXPECT_EQ(*http_text(world.ctx, "https://a.example/"), "ok") << status;
    EXPECT_EQ(world.clock.slept, 14) << "the server says how long";
  }
  MemoryWorld gone;
  gone.net.serve = [](const Request&) { return Response{404, {}, ""}; };
  EXPECT_FALSE(http_text(gone.ctx, "https://a.example/"));
  EXPECT_EQ(gone.net.requests.size(), 1u);
  MemoryWorld dead;
  EXPECT_NE(http_text(dead.ctx, "https://a.example/").error().message.find("tried 5 times"), std::string::npos);
  EXPECT_EQ(dead.net.requests.size(), 5u);
  EXPECT_GT(dead.clock.slept, 3);
}

TEST(Http, BackoffGrowsAndEnds) {
  for (int n = 1; n < 40; n++) {
    const double full = std::min(30.0, 0.5 * static_cast<double>(1 << std::min(n - 1, 6)));
    for (int i = 0; i < 20; i++) {
      EXPECT_GE(backoff(n, nullptr), full / 2);
      EXPECT_LE(backoff(n, nullptr), full);
    }
  }
}

TEST(Http, EndlessAnswerIsCutOff) {
  MemoryWorld world;
  world.net.pages["https://a.example/"] = {200, {}, std::string(100'000, 'x')};
  EXPECT_NE(http_text(world.ctx, "https://a.example/", "", 50'000).error().message.find("larger than"),
            std::string::npos);
}

// ---- download -------------------------------------------------------------------------------------------------------------

struct Server {
  std::string body = std::string(40'000, 'a') + std::string(40'000, 'b');
  std::string etag = "\"one\"";
  size_t cut = 0;  // bytes after which each connection ends; 0: none
  bool ranges = true;
  int asked = 0;

  Result<Response> operator()(const Request& request) {
    asked++;
    const std::string range = header_of(request, "Range"), if_range = header_of(request, "If-Range");
    size_t from = 0;
    Response out{200, {{"etag", etag}}, ""};
    if (!range.empty() && ranges && (if_range.empty() || if_range == etag)) {
      from = std::stoul(range.substr(6));
      if (from >= body.size()) return Response{416, {}, ""};
      out.status = 206;
      out.headers["content-range"] = format("bytes %zu-%zu/%zu", from, body.size() - 1, body.size());
    }
    out.body = body.substr(from, cut ? cut : body.npos);
    return out;
  }
};

struct DownloadTest : testing::Test {
  MemoryWorld world;
  Server server;
  Download what;
  void SetUp() override {
    what = {{"https://a.example/w.whl"}, hex(sha256_of(bytes_of(server.body))), server.body.size(), ""};
    world.net.serve = [this](const Request& r) { return server(r); };
  }
};

TEST_F(DownloadTest, Whole) {
  ASSERT_TRUE(download(world.ctx, what, "d/w.whl"));
  EXPECT_EQ(world.disk.files["d/w.whl"], server.body);
  EXPECT_EQ(world.disk.files.size(), 1u) << "nothing is left beside it";
}

TEST_F(DownloadTest, GoesOnWhereItWasCut) {
  server.cut = 20'000;
  ASSERT_TRUE(download(world.ctx, what, "d/w.whl"));
  EXPECT_EQ(world.disk.files["d/w.whl"], server.body);
  EXPECT_EQ(server.asked, 4);
  EXPECT_EQ(header_of(world.net.requests[1], "Range"), "bytes=20000-");
  EXPECT_EQ(header_of(world.net.requests[1], "If-Range"), "\"one\"");
}

TEST_F(DownloadTest, StartsAnewWhereTheFileChanged) {
  world.disk.files["d/w.whl.part"] = std::string(30'000, 'z');
  world.disk.files["d/w.whl.part.etag"] = "\"zero\"";
  ASSERT_TRUE(download(world.ctx, what, "d/w.whl"));
  EXPECT_EQ(world.disk.files["d/w.whl"], server.body);
}

TEST_F(DownloadTest, StartsAnewWhereTheOldPieceWasWrong) {
  world.disk.files["d/w.whl.part"] = std::string(30'000, 'z');  // and nobody knows of what
  ASSERT_TRUE(download(world.ctx, what, "d/w.whl"));
  EXPECT_EQ(world.disk.files["d/w.whl"], server.body);
}

TEST_F(DownloadTest, ServerWithoutRanges) {
  server.ranges = false;
  world.disk.files["d/w.whl.part"] = server.body.substr(0, 5000);
  ASSERT_TRUE(download(world.ctx, what, "d/w.whl"));
  EXPECT_EQ(world.disk.files["d/w.whl"], server.body);
}

TEST_F(DownloadTest, WrongFileIsNotKept) {
  server.body[7] = 'x';
  const Result<Done> done = download(world.ctx, what, "d/w.whl");
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("not the announced file"), std::string::npos);
  EXPECT_EQ(done.error().hint, "clary explain download-wrong");
  EXPECT_TRUE(world.disk.files.empty());
}

TEST_F(DownloadTest, LargerThanAnnouncedIsStopped) {
  server.body += std::string(1'000'000, 'x');
  ASSERT_FALSE(download(world.ctx, what, "d/w.whl"));
  for (const auto& [path, content] : world.disk.files) EXPECT_LE(content.size(), what.size) << path;
}

TEST_F(DownloadTest, AlwaysCutSaysSo) {
  server.cut = 1000;
  const Result<Done> done = download(world.ctx, what, "d/w.whl");
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("cut off after"), std::string::npos);
  server.cut = 0;  // and the next command goes on
  const int before = server.asked;
  ASSERT_TRUE(download(world.ctx, what, "d/w.whl"));
  EXPECT_EQ(server.asked, before + 1);
}

TEST_F(DownloadTest, MirrorsInTurn) {
  what.urls = {"https://dead.example/w", "https://wrong.example/w", "https://good.example/w"};
  world.net.serve = [this](const Request& r) -> Result<Response> {
    if (r.url.find("dead") != r.url.npos) return Response{404, {}, ""};
    if (r.url.find("wrong") != r.url.npos) return Response{200, {}, std::string(80'000, 'q')};
    return server(r);
  };
  ASSERT_TRUE(download(world.ctx, what, "d/w.whl"));
  EXPECT_EQ(world.disk.files["d/w.whl"], server.body);
}

TEST_F(DownloadTest, FullDiskIsAnError) {
  for (int writes = 0; writes < 6; writes++) {
    world.disk.files.clear();
    world.disk.fail_after = writes;
    EXPECT_FALSE(download(world.ctx, what, "d/w.whl"));
    EXPECT_FALSE(world.disk.files.contains("d/w.whl"));
  }
}

// ---- cache ----------------------------------------------------------------------------------------------------------------

TEST_F(DownloadTest, CacheHealsItself) {
  world.proc.environment["CLARY_CACHE"] = "/c";
  Cache cache(world.ctx);
  const std::string name = "demo-1.0-py3-none-any.whl";
  const Result<Cache::Held> held = cache.get(what, name);
  ASSERT_TRUE(held) << held.error().message;
  world.disk.files[held->path][5] = '!';
  ASSERT_EQ(cache.list().size(), 1u);
  EXPECT_EQ(cache.fault(cache.list()[0]), "changed since it came");
  const int before = server.asked;
  ASSERT_TRUE(cache.get(what, name));
  EXPECT_EQ(server.asked, before + 1) << "fetched again";
  EXPECT_EQ(world.disk.files[held->path], server.body);
  ASSERT_TRUE(cache.get(what, name));
  EXPECT_EQ(server.asked, before + 1) << "and not a third time";
  for (const char* bad : {"../x.whl", "x.whl", "demo-1.0-py3-none-any.whl/../../x"})
    EXPECT_FALSE(cache.get(what, bad)) << bad;
  what.sha256 = "../../etc";
  EXPECT_FALSE(cache.get(what, name));
}

TEST_F(DownloadTest, CacheCommand) {
  world.proc.environment["CLARY_CACHE"] = "/c";
  ASSERT_TRUE(Cache(world.ctx).get(what, "demo-1.0-py3-none-any.whl"));
  world.disk.written.clear();
  std::string said;
  const auto run = [&](const Strings& args) { said += transcript(world, args); };
  run({"cache"});
  run({"cache", "verify", "--json"});
  run({"cache", "prune", "--unused-for", "30"});
  run({"cache", "prune", "--dry-run"});
  EXPECT_EQ(Cache(world.ctx).list().size(), 1u);
  run({"cache", "prune", "--keep", "10 kB"});
  run({"cache", "list"});
  run({"cache", "path"});
  run({"cache", "prnue"});
  EXPECT_TRUE(Cache(world.ctx).list().empty());
  expect_snapshot("cache", said);
}

}  // namespace
}  // namespace clary::tool::test
