// Sources that turned bad: a folder is published, signed and seen once; then one thing in it changes. Each change is refused by
// its own entry of docs/cli/errors.md, and nothing is installed.
#include <filesystem>
#include <fstream>

#include "real_world.h"
#include "wheel/core/catalog.h"
#include "wheel/core/manifest.h"

namespace clary::tool::test {
namespace {

namespace fs = std::filesystem;

struct BadSource {
  const char* what;
  const char* entry;  // that explains the refusal; "": the message itself is checked
  const char* message;
  std::function<void(const std::string& site, RealWorld&)> change;
};

std::string read_file(const std::string& path) { return *PosixDisk().read(path, 1 << 24); }
void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}
std::string wheel_of(const std::string& site) { return site + "/wheels/demo-1.0-py3-none-any.whl"; }

// Publishes what lies in `wheels`, signed by root/NAME.key.
int publish(RealWorld& world, const std::string& root, const Strings& more, const std::string& key = "k") {
  Strings args = {"publish", "--to", root + "/site", "--key", root + "/" + key + ".key"};
  args.insert(args.end(), more.begin(), more.end());
  return run_clary(world.ctx, args);
}

const BadSource kSources[] = {
    {"a torn wheel", "download-wrong", "not the announced file",
     [](const std::string& site, RealWorld&) {
       const std::string text = read_file(wheel_of(site));
       write_file(wheel_of(site), text.substr(0, text.size() / 2));
     }},
    {"an empty wheel", "download-wrong", "not the announced file",
     [](const std::string& site, RealWorld&) { write_file(wheel_of(site), ""); }},
    {"a wheel with a byte more", "download-wrong", "not the announced file",
     [](const std::string& site, RealWorld&) { write_file(wheel_of(site), read_file(wheel_of(site)) + "x"); }},
    {"a wheel with another hash", "download-wrong", "not the announced file",
     [](const std::string& site, RealWorld&) {
       write_file(wheel_of(site), make_wheel({.tag = "py3-none-any", .files = {{"demo/evil.py", "1"}}}));
     }},
    {"a changed manifest", "signature-wrong", "wrong signature: ",
     [](const std::string& site, RealWorld&) {
       for (const auto& file : fs::directory_iterator(site)) {
         const std::string path = file.path().string();
         if (path.ends_with(".json")) write_file(path, replace_all(read_file(path), "\"1.0\"", "\"1.1\""));
       }
     }},
    {"a signature of nothing", "", "not a minisign signature",
     [](const std::string& site, RealWorld&) { write_file(site + "/latest.json.minisig", "x\ny\nz\n"); }},
    {"a signature by another key", "signature-wrong", "wrong signature: ",
     [](const std::string& site, RealWorld&) {
       const std::string root = fs::path(site).parent_path(), other = root + "/other";
       fs::create_directories(other);
       RealWorld stranger(other);  // who never saw this source
       run_clary(stranger.ctx, {"sign", "--new-key", other + "/k"});
       fs::copy(root + "/wheels", other + "/wheels", fs::copy_options::recursive);
       run_clary(stranger.ctx, {"publish", other + "/wheels/demo-1.0-py3-none-any.whl", "--to", other + "/site",
                                "--key", other + "/k.key"});
       fs::remove_all(site);
       fs::copy(other + "/site", site, fs::copy_options::recursive);
     }},
    {"a lost signature", "manifest-unsigned",
     "not signed: ", [](const std::string& site, RealWorld&) { fs::remove(site + "/latest.json.minisig"); }},
    {"a manifest of last week", "manifest-rolled-back", "rolled back: ",
     [](const std::string& site, RealWorld& world) {
       const std::string root = fs::path(site).parent_path(), old = root + "/old";
       fs::copy(site, old, fs::copy_options::recursive);
       EXPECT_EQ(publish(world, root, {"--renew"}), kFine) << world.err.text;
       EXPECT_EQ(run_clary(world.ctx, {"resolve", "demo", "--from", site}), kFine) << world.err.text;
       fs::remove_all(site);
       fs::copy(old, site, fs::copy_options::recursive);
     }},
};

TEST(Corpus, SourcesThatTurnedBadAreRefused) {
  for (const BadSource& row : kSources) {
    SCOPED_TRACE(row.what);
    const std::string root = fresh_folder("bad-source"), site = root + "/site";
    RealWorld world(root);
    fs::create_directories(root + "/wheels");
    write_file(root + "/wheels/demo-1.0-py3-none-any.whl", make_wheel({.tag = "py3-none-any"}));
    ASSERT_EQ(run_clary(world.ctx, {"sign", "--new-key", root + "/k"}), kFine) << world.err.text;
    ASSERT_EQ(publish(world, root, {root + "/wheels/demo-1.0-py3-none-any.whl"}), kFine) << world.err.text;
    ASSERT_EQ(run_clary(world.ctx, {"resolve", "demo", "--from", site}), kFine) << world.err.text;

    row.change(site, world);
    world.err.text.clear();
    write_file(root + "/clary.toml", "[package]\nname = 'demo'\nversion = '1.0'\n");  // no reason to build instead
    EXPECT_EQ(run_clary(world.ctx,
                        {"install", "demo", "--from", site, "--installer", "pip", "--recipe", root + "/clary.toml"}),
              kFinding);
    EXPECT_NE(world.err.text.find(row.message), std::string::npos) << world.err.text;
    EXPECT_FALSE(fs::exists(world.proc.site() + "/demo"));
    const std::vector<const Entry*> known = recognise(world.err.text);
    if (*row.entry) {
      ASSERT_FALSE(known.empty()) << world.err.text;
      EXPECT_EQ(known[0]->code, row.entry);
    }
  }
}

TEST(Corpus, AFirstInstallersManifestWrittenAnewKeepsItsWheel) {  // found by fuzzing: its list came out empty
  const std::string seed = "{\"wheel\": \"a-1-py3-none-any.whl\", \"sha256\": \"" + std::string(64, 'a') + "\"}";
  Result<Manifest> manifest = Manifest::parse(seed, "latest.json");
  ASSERT_TRUE(manifest);
  const Result<Manifest> again = Manifest::parse(manifest->write(1, 0), "latest.json");
  ASSERT_TRUE(again);
  ASSERT_EQ(again->wheels.size(), 1u);
  EXPECT_EQ(again->wheels[0].file, "a-1-py3-none-any.whl");
  EXPECT_FALSE(Manifest::parse("{\"wheels\": [], \"serial\": 9223372036854775807}", "m"));
  EXPECT_FALSE(Manifest::parse("{\"wheels\": [], \"serial\": -1}", "m"));
}

}  // namespace
}  // namespace clary::tool::test
