// Stopped before every single change of the disk: what readers see is the old state or the new one, and the same command then
// comes to its end. Two at once: both come to theirs, and nothing is mixed.
#include <algorithm>
#include <filesystem>

#include "real_world.h"
#include "wheel/core/cache.h"
#include "wheel/core/digest.h"
#include "wheel/core/environment.h"
#include "wheel/core/lease.h"
#include "wheel/core/publish.h"

namespace clary::tool::test {
namespace {

namespace fs = std::filesystem;

constexpr int kAtLeast = 200;
constexpr int kFiles = 8;  // of a wheel

std::string hash_text(const std::string& text) { return hex(sha256_of(bytes_of(text))); }

// A wheel with so many files, each saying its version.
std::string many_files(const std::string& version) {
  WheelSpec spec{.version = version, .tag = "py3-none-any", .files = {}};
  for (int i = 0; i < kFiles; i++) spec.files.push_back({format("demo/m%02d.py", i), "version = '" + version + "'\n"});
  spec.files.push_back({"demo_one.py", "version = '" + version + "'\n"});
  return make_wheel(spec);
}
std::string any_name(const std::string& version) { return "demo-" + version + "-py3-none-any.whl"; }

// ---- download -------------------------------------------------------------------------------------------------------------

std::string payload() {
  std::string out;
  for (uint32_t i = 0; out.size() < 900'000; i++) out += format("%u,", i * 2654435761u);
  return out;
}

// A server that can give the rest of a file.
Result<Response> ranged(const std::string& body, const Request& request) {
  for (const auto& [name, value] : request.headers) {
    if (name != "Range") continue;
    const size_t from = std::stoul(value.substr(6));
    if (from >= body.size()) return Response{416, {}, ""};
    return Response{
        206,
        {{"etag", "\"a\""}, {"content-range", format("bytes %zu-%zu/%zu", from, body.size() - 1, body.size())}},
        body.substr(from)};
  }
  return Response{200, {{"etag", "\"a\""}}, body};
}

int get(RealWorld& world, const std::string& body) {
  world.net.serve = [&](const Request& r) { return ranged(body, r); };
  Cache cache(world.ctx);
  return cache.get({.urls = {"https://a.example/w"}, .sha256 = hash_text(body), .size = body.size()}, any_name("1"))
             ? 0
             : 1;
}

TEST(Crash, Download) {
  const std::string body = payload(), root = fresh_folder("crash-download");
  const std::string path = root + "/cache/wheels/" + hash_text(body) + "/" + any_name("1");
  int points = 0, resumed = 0;
  for (int n = 0;; n++, points++) {
    fs::remove_all(root + "/cache");
    if (!stopped_at(n, root, [&](RealWorld& w) { get(w, body); })) break;
    if (fs::exists(path)) {
      EXPECT_EQ(hash_text(*PosixDisk().read(path, 1 << 24)), hash_text(body)) << n;
    }
    RealWorld next(root);
    ASSERT_EQ(get(next, body), 0) << n;
    ASSERT_EQ(fs::file_size(path), body.size());
    for (const Request& r : next.net.requests) {
      for (const auto& [name, value] : r.headers) resumed += name == "Range";
    }
  }
  EXPECT_GE(points, kAtLeast);
  EXPECT_GE(resumed, points / 2);
}

TEST(AtOnce, Downloads) {
  const std::string body = payload();
  for (int round = 0; round < 5; round++) {
    const std::string root = fresh_folder("once-download");
    const auto act = [&](RealWorld& w) { return get(w, body); };
    EXPECT_EQ(at_once(root, {act, act, act}), (std::vector<int>{0, 0, 0}));
    RealWorld world(root);
    const std::vector<CachedWheel> wheels = Cache(world.ctx).list();
    ASSERT_EQ(wheels.size(), 1u);
    EXPECT_EQ(Cache(world.ctx).fault(wheels[0]), "");
  }
}

// ---- install --------------------------------------------------------------------------------------------------------------

int install(RealWorld& world, const std::string& root, const std::string& version) {
  return run_clary(world.ctx, {"install", "demo==" + version, "--from", root + "/wheels", "--installer", "pip"});
}

void put_wheels(const std::string& root) {
  fs::create_directories(root + "/wheels");
  PosixDisk disk;
  ASSERT_TRUE(disk.write(root + "/wheels/" + any_name("1.0"), many_files("1.0")));
  ASSERT_TRUE(disk.write(root + "/wheels/" + any_name("2.0"), many_files("2.0")));
}

// The version of which every file is there and no other file is; "": a mixture.
std::string whole_version(const std::string& site, const std::string& part) {
  std::string seen;
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(site + "/" + part)) {
    if (!entry.is_regular_file()) continue;
    const std::string text = *PosixDisk().read(entry.path().string(), 1000);
    const std::string version = text.substr(11, 3);
    if (!seen.empty() && version != seen) return "";
    seen = version, files++;
  }
  return files == kFiles ? seen : "";
}

TEST(Crash, Install) {
  const std::string root = fresh_folder("crash-install"), kept = fresh_folder("crash-install-kept");
  put_wheels(root);
  RealWorld first(root);
  ASSERT_EQ(install(first, root, "1.0"), kFine) << first.err.text;
  const std::string site = first.proc.site();
  copy_tree(root + "/env", kept);
  std::map<std::string, int> seen;
  int points = 0, absent = 0;
  for (int n = 0;; n++, points++) {
    copy_tree(kept, root + "/env");
    if (!stopped_at(n, root, [&](RealWorld& w) { install(w, root, "2.0"); })) break;
    // Before anything is repaired: the package folder is whole, or away for the moment between its two renames.
    if (fs::exists(site + "/demo")) {
      EXPECT_NE(whole_version(site, "demo"), "") << n;
    } else {
      absent++;
    }
    RealWorld next(root);
    const Result<Target> target = probe_target(next.ctx, {});
    ASSERT_TRUE(target);
    const Result<Environment> environment = Environment::open(next.ctx, *target, Installer::kPip);
    ASSERT_TRUE(environment) << environment.error().message;
    const std::optional<Installed> found = environment->find("demo");
    ASSERT_TRUE(found) << n;
    EXPECT_EQ(whole_version(site, "demo"), found->version) << n;
    EXPECT_EQ(*PosixDisk().read(site + "/demo_one.py", 100), "version = '" + found->version + "'\n") << n;
    EXPECT_EQ(found->sha256, hash_text(many_files(found->version)));
    for (const auto& entry : fs::directory_iterator(site + "/.clary/demo"))
      EXPECT_EQ(entry.path().extension(), ".json") << n << entry.path();  // receipts, and nothing left over
    seen[found->version]++;
  }
  EXPECT_GE(points, kAtLeast);
  EXPECT_LE(absent, 2);
  EXPECT_GT(seen["1.0"], 0);
  EXPECT_GT(seen["2.0"], 0);
  EXPECT_EQ(seen.size(), 2u);
}

TEST(AtOnce, Installs) {
  for (int round = 0; round < 5; round++) {
    const std::string root = fresh_folder("once-install");
    put_wheels(root);
    const auto act = [&](const char* version) { return [=](RealWorld& w) { return install(w, root, version); }; };
    EXPECT_EQ(at_once(root, {act("1.0"), act("2.0"), act("1.0")}), (std::vector<int>{0, 0, 0}));
    const std::string site = RealWorld(root).proc.site();
    const std::string version = whole_version(site, "demo");
    EXPECT_TRUE(fs::exists(site + "/demo-" + version + ".dist-info")) << version;
    EXPECT_EQ(std::distance(fs::directory_iterator(site), fs::directory_iterator()),
              4);  // .clary, demo, demo_one.py, dist-info
  }
}

// ---- index ----------------------------------------------------------------------------------------------------------------

// Every link of every page leads to a file with the hash it names.
void expect_valid_site(const std::string& site) {
  PosixDisk disk;
  if (!fs::exists(site)) return;
  for (const auto& entry : fs::recursive_directory_iterator(site)) {
    if (entry.path().filename() != "index.html") continue;
    const std::string page = *disk.read(entry.path().string(), 1 << 20);
    ASSERT_TRUE(page.ends_with("</html>\n")) << entry.path();
    for (size_t at = page.find("href=\""); at != page.npos; at = page.find("href=\"", at + 1)) {
      std::string link = page.substr(at + 6, page.find('"', at + 6) - at - 6);
      const size_t hash = link.find("#sha256=");
      if (hash == link.npos) continue;
      const std::string wanted = link.substr(hash + 8);
      const std::string file =
          entry.path().parent_path().string() + "/" + replace_all(link.substr(0, hash), "%2B", "+");
      const Result<Mapping> wheel = disk.map(file);
      ASSERT_TRUE(wheel) << file;
      ASSERT_EQ(hex(sha256_of(wheel->bytes)), wanted);
    }
  }
}

void put_many(const std::string& folder, int versions) {
  fs::create_directories(folder);
  for (const char* name : {"alpha", "beta", "gamma"}) {
    for (int i = 0; i < versions; i++) {
      WheelSpec spec{.name = name,
                     .version = format("1.%d+cu12%dtorch2.%d.0", i, 4 + i, 6 + i),
                     .metadata = {format("Requires-Dist: torch==2.%d.*", 6 + i)}};
      ASSERT_TRUE(PosixDisk().write(folder + "/" + spec.file_name(), make_wheel(spec)));
    }
  }
}

TEST(Crash, Index) {
  const std::string root = fresh_folder("crash-index"), kept = fresh_folder("crash-index-kept");
  put_many(root + "/w", 1);
  RealWorld first(root);
  ASSERT_EQ(run_clary(first.ctx, {"index", root + "/w", "--out", root + "/site"}), kFine) << first.err.text;
  copy_tree(root + "/site", kept);
  put_many(root + "/w", 3);
  const auto act = [&](RealWorld& w) { return run_clary(w.ctx, {"index", root + "/w", "--out", root + "/site"}); };
  int points = 0;
  for (int n = 0;; n++, points++) {
    copy_tree(kept, root + "/site");
    const bool stopped = stopped_at(n, root, act);
    expect_valid_site(root + "/site");
    if (!stopped) break;
    if (n % 20) continue;
    RealWorld next(root);
    ASSERT_EQ(act(next), kFine);
    expect_valid_site(root + "/site");
  }
  EXPECT_GE(points, kAtLeast);
}

// ---- publish --------------------------------------------------------------------------------------------------------------

struct Publisher {
  std::string root, key;
  int run(RealWorld& w, const Strings& files) const {
    Strings args = {"publish", "--to", root + "/site", "--key", key};
    for (const std::string& file : files) args.push_back(root + "/w/" + file);
    return run_clary(w.ctx, args);
  }
};

// What a reader who demands a signature finds; every wheel it is offered is there.
std::set<std::string> offered(const std::string& root) {
  std::set<std::string> out;
  RealWorld reader(root + "/reader");
  const Result<Offer> offer = read_offer(reader.ctx, {.from = root + "/site", .signed_only = true});
  EXPECT_TRUE(offer) << offer.error().message;
  if (!offer) return out;
  for (const WheelEntry& wheel : offer->manifest.wheels) {
    const Result<Mapping> file = reader.disk.map(root + "/site/wheels/" + wheel.file);
    EXPECT_TRUE(file) << wheel.file;
    if (file) {
      EXPECT_EQ(hex(sha256_of(file->bytes)), wheel.sha256);
    }
    out.insert(wheel.file);
  }
  return out;
}

TEST(Crash, Publish) {
  const std::string root = fresh_folder("crash-publish"), kept = fresh_folder("crash-publish-kept");
  RealWorld first(root);
  ASSERT_EQ(run_clary(first.ctx, {"sign", "--new-key", root + "/k"}), kFine);
  const Publisher publisher{root, root + "/k.key"};
  put_many(root + "/w", 2);
  Strings names = *first.disk.list(root + "/w");
  const Strings old(names.begin(), names.begin() + 1), fresh(names.begin() + 1, names.begin() + 3);
  ASSERT_EQ(publisher.run(first, old), kFine) << first.err.text;
  copy_tree(root + "/site", kept);
  const std::set<std::string> before(old.begin(), old.end());
  std::set<std::string> after = before;
  after.insert(fresh.begin(), fresh.end());
  int points = 0;
  for (int n = 0;; n++, points++) {
    copy_tree(kept, root + "/site");
    fs::remove_all(root + "/reader");
    fs::remove_all(root + "/config");
    const bool stopped = stopped_at(n, root, [&](RealWorld& w) { publisher.run(w, fresh); });
    const std::set<std::string> now = offered(root);
    ASSERT_EQ(now, stopped ? before : after) << n << ": the last rename of all is what publishes";
    expect_valid_site(root + "/site");
    if (!stopped) break;
    if (n % 10) continue;
    RealWorld next(root);
    ASSERT_EQ(publisher.run(next, fresh), kFine) << next.err.text;
    ASSERT_EQ(offered(root), after);
  }
  EXPECT_GE(points, kAtLeast);
}

TEST(AtOnce, Publishers) {
  for (int round = 0; round < 3; round++) {
    const std::string root = fresh_folder("once-publish");
    RealWorld first(root);
    ASSERT_EQ(run_clary(first.ctx, {"sign", "--new-key", root + "/k"}), kFine);
    const Publisher publisher{root, root + "/k.key"};
    put_many(root + "/w", 1);
    const Strings names = *first.disk.list(root + "/w");
    std::vector<std::function<int(RealWorld&)>> acts;
    for (const std::string& name : names)
      acts.push_back([&publisher, name](RealWorld& w) { return publisher.run(w, {name}); });
    EXPECT_EQ(at_once(root, acts), (std::vector<int>{0, 0, 0}));
    EXPECT_EQ(offered(root), (std::set<std::string>(names.begin(), names.end())));
  }
}

// ---- leases: of several first machines one builds -------------------------------------------------------------------------

TEST(AtOnce, Leases) {
  for (int round = 0; round < 5; round++) {
    const std::string root = fresh_folder("once-lease");
    const auto act = [&](RealWorld& w) {
      const std::unique_ptr<Store> store = *open_store(w.ctx, root + "/site");
      const Result<Lease> lease = take_lease(w.ctx, *store, "demo", 10);
      return lease && lease->state == Lease::kMine ? 0 : 1;
    };
    const std::vector<int> codes = at_once(root, {act, act, act, act});
    EXPECT_EQ(std::count(codes.begin(), codes.end(), 0), 1);
    RealWorld later(root);
    const std::unique_ptr<Store> store = *open_store(later.ctx, root + "/site");
    EXPECT_EQ(take_lease(later.ctx, *store, "demo", 10)->state, Lease::kTheirs);
    later.clock.time += 11 * 60;
    EXPECT_EQ(take_lease(later.ctx, *store, "demo", 10)->state, Lease::kMine) << "the builder died";
    give_back_lease(later.ctx, *store, "demo");
    EXPECT_FALSE(fs::exists(root + "/site/building-demo.json"));
  }
}

}  // namespace
}  // namespace clary::tool::test
