// Keys, signatures and manifests: what is believed and what is refused, each refusal with its own words.
#include "wheel/core/trust.h"
#include "support.h"
#include "wheel/core/catalog.h"
#include "wheel/core/json.h"
#include "wheel/core/minisign.h"
#include "wheel/core/publish.h"
#include "wheel/core/python.h"
#include "wheel/os/posix.h"

namespace clary::tool::test {
namespace {

TEST(Minisign, RoundTrip) {
  const SecretKey key = SecretKey::make();
  const PublicKey pub = key.public_key();
  EXPECT_TRUE(*PublicKey::parse(pub.file()) == pub);
  EXPECT_TRUE(*PublicKey::parse(pub.str()) == pub);
  for (const std::string password : {"", "secret"}) {
    const std::string file = key.file(password);
    const Result<SecretKey> again = SecretKey::parse(file, password);
    ASSERT_TRUE(again) << password;
    EXPECT_TRUE(again->public_key() == pub);
    if (!password.empty()) {
      EXPECT_FALSE(SecretKey::parse(file, ""));
      EXPECT_FALSE(SecretKey::parse(file, "wrong"));
    }
  }
  const std::string text = key.sign("hello", "file:x");
  const Result<Signature> signature = Signature::parse(text);
  ASSERT_TRUE(signature);
  EXPECT_EQ(signature->trusted, "file:x");
  EXPECT_TRUE(signature->covers("hello", pub));
  EXPECT_FALSE(signature->covers("hellp", pub));
  EXPECT_FALSE(signature->covers("hello", SecretKey::make().public_key()));
  EXPECT_FALSE(Signature::parse(replace_all(text, "file:x", "file:y"))->covers("hello", pub))
      << "the comment is covered";
  size_t accepted = 0;
  for_each_damage(text, 300, [&](const std::string& bad) {
    const Result<Signature> s = Signature::parse(bad);
    if (!s || !s->covers("hello", pub)) return;
    accepted +=
        s->signature != signature->signature || s->global != signature->global || s->trusted != signature->trusted;
  });
  EXPECT_EQ(accepted, 0u) << "a changed signature still covers";
}

// minisign itself, where it is installed.
TEST(Minisign, AgreesWithMinisign) {
  if (run_program({"sh", "-c", "command -v minisign"}).empty()) GTEST_SKIP() << "no minisign here";
  const SecretKey key = SecretKey::make();
  const std::string file = temp_file("signed.txt", "some\ncontent\n"),
                    pub = temp_file("k.pub", key.public_key().file());
  temp_file("signed.txt.minisig", key.sign("some\ncontent\n", "timestamp:1\tfile:signed.txt\thashed"));
  EXPECT_NE(run_program({"minisign", "-Vm", file, "-p", pub}).find("Signature and comment signature verified"),
            std::string::npos);
  // And its signatures here: keys without a password are refused by old versions, so our key file is used.
  const std::string secret = temp_file("k.key", key.file(""));
  if (run_program(
          {"sh", "-c", "minisign -S -s " + secret + " -m " + file + " -x " + file + ".theirs </dev/null && echo ok"})
          .empty())
    GTEST_SKIP() << "this minisign asks for a password always";
  const Result<std::string> theirs = PosixDisk().read(file + ".theirs", 10'000);
  EXPECT_TRUE(Signature::parse(*theirs)->covers("some\ncontent\n", key.public_key()));
}

TEST(Sign, Command) {
  MemoryWorld world;
  world.proc.environment["HOME"] = "/h";
  ASSERT_EQ(run_clary(world.ctx, {"sign", "--new-key", "k"}), kFine);
  EXPECT_TRUE(world.out.text.starts_with("RW")) << world.out.text;
  EXPECT_EQ(run_clary(world.ctx, {"sign", "--new-key", "k"}), kFinding) << "a key is not overwritten";
  world.disk.files["a.txt"] = "content";
  ASSERT_EQ(run_clary(world.ctx, {"sign", "a.txt", "--key", "k.key"}), kFine) << world.err.text;
  EXPECT_EQ(run_clary(world.ctx, {"sign", "a.txt", "--check", "k.pub"}), kFine) << world.err.text;
  world.disk.files["a.txt"] += "!";
  world.err.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"sign", "a.txt", "--check", "k.pub"}), kFinding);
  EXPECT_NE(world.err.text.find("clary explain signature-wrong"), std::string::npos);
  EXPECT_EQ(run_clary(world.ctx, {"sign", "--trust", "k.pub"}), kFine);
  EXPECT_EQ(run_clary(world.ctx, {"sign", "a.txt"}), kUsage);
}

// ---- manifests that are believed or not -----------------------------------------------------------------------------------

struct SourceTest : testing::Test {
  MemoryWorld world;
  SourceTest() {
    world.proc.environment = {{"HOME", "/h"}};
    WheelSpec spec{.tag = "py3-none-any"};
    world.disk.files["w/" + spec.file_name()] = make_wheel(spec);
    run_clary(world.ctx, {"sign", "--new-key", "k"});
    run_clary(world.ctx, {"sign", "--new-key", "other"});
  }
  void publish(const Strings& more) {
    Strings args = {"publish", "--to", "site"};
    args.insert(args.end(), more.begin(), more.end());
    world.err.text.clear();
    ASSERT_EQ(run_clary(world.ctx, args), kFine) << world.err.text;
  }
  // "" or the message; each finds its explanation.
  std::string read(const SourceOptions& options = {}) {
    SourceOptions o = options;
    if (o.from.empty()) o.from = "site";
    const Result<Offer> offer = read_offer(world.ctx, o);
    if (offer) return "";
    EXPECT_FALSE(recognise(offer.error().message).empty()) << offer.error().message;
    return offer.error().message;
  }
  void forget() { world.disk.files.erase("/h/.config/clary/sources.json"); }
};
const char* const kWheel = "w/demo-1.0-py3-none-any.whl";

TEST_F(SourceTest, AFolderIsTheSameFromEveryFolder) {
  world.disk.files["/here/" + std::string(kWheel)] = world.disk.files[kWheel];
  world.proc.programs["pwd -P"] = {0, "/here\n", ""};
  publish({kWheel, "--key", "k.key"});
  ASSERT_TRUE(world.disk.files.contains("/here/site/latest.json"));
  EXPECT_EQ(read(), "");
  world.proc.programs["pwd -P"] = {0, "/here/below\n", ""};
  for (const char* from : {"../site", "./..//site/", "/here/site"}) EXPECT_EQ(read({.from = from}), "") << from;
  const std::string& seen = world.disk.files["/h/.config/clary/sources.json"];
  EXPECT_NE(seen.find("/here/site"), seen.npos) << seen;
  EXPECT_EQ(seen.find("site"), seen.rfind("site")) << seen;
  EXPECT_EQ(absolute(world.ctx, "../../../a/./b"), "/a/b");
}

TEST_F(SourceTest, SignedIsRemembered) {
  publish({kWheel, "--key", "k.key"});
  forget();
  const Result<Offer> first = read_offer(world.ctx, {.from = "site"});
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_NE(first->warning.find("first manifest"), std::string::npos);
  EXPECT_EQ(read_offer(world.ctx, {.from = "site"})->warning, "");
  EXPECT_EQ(read({.key = "k.pub"}), "");
  EXPECT_TRUE(read({.key = "other.pub"}).starts_with("wrong signature: "));
}

TEST_F(SourceTest, ChangedIsRefused) {
  publish({kWheel, "--key", "k.key"});
  std::string& text = world.disk.files["site/manifest-000001.json"];
  text = replace_all(text, "1.0", "1.1");
  EXPECT_TRUE(read().starts_with("wrong signature: "));
}

TEST_F(SourceTest, LostSignatureIsRefused) {
  publish({kWheel, "--key", "k.key"});
  EXPECT_EQ(read(), "");
  world.disk.files.erase("site/latest.json.minisig");
  EXPECT_TRUE(read().starts_with("not signed: "));
  forget();
  EXPECT_EQ(read(), "") << "nobody knows it was signed";
  EXPECT_TRUE(read({.signed_only = true}).starts_with("not signed: "));
}

TEST_F(SourceTest, RolledBackIsRefused) {
  publish({kWheel, "--key", "k.key"});
  const MemoryDisk old = world.disk;
  publish({"--renew", "--key", "k.key"});
  EXPECT_EQ(read(), "");
  for (const auto& [path, content] : old.files) {
    if (path.starts_with("site/")) world.disk.files[path] = content;
  }
  EXPECT_TRUE(read().starts_with("rolled back: "));
  EXPECT_EQ(run_clary(world.ctx, {"sign", "--forget", "site"}), kFine);
  EXPECT_EQ(read(), "");
}

TEST_F(SourceTest, ExpiredIsRefused) {
  publish({kWheel, "--key", "k.key", "--expires", "30"});
  EXPECT_EQ(read(), "");
  world.clock.time += 31 * 86400;
  EXPECT_NE(read_offer(world.ctx, {.from = "site"}).error().message.find("expired on 2026-12-21"), std::string::npos);
}

TEST_F(SourceTest, DamagedMemoryIsNoEmptyOne) {
  publish({kWheel, "--key", "k.key"});
  EXPECT_EQ(read(), "");
  const std::string path = "/h/.config/clary/sources.json", good = world.disk.files[path];
  world.disk.files.erase("site/latest.json.minisig");
  for (const std::string& bad : {std::string(), std::string("[]"), std::string("{\"site\": 1}"),
                                 std::string("{\"site\": {\"serial\": \"1\"}}"), replace_all(good, "\"RW", "1, \"RW"),
                                 std::string("{\"site\": {\"serial\": 1, \"sha256\": \"x\", \"keys\": null}}"),
                                 good.substr(0, good.size() / 2)}) {
    world.disk.files[path] = bad;
    EXPECT_TRUE(read().starts_with("damaged, ")) << bad;
    EXPECT_EQ(run_clary(world.ctx, {"sign", "--forget", "site"}), kUsage);
    EXPECT_EQ(world.disk.files[path], bad);
  }
  EXPECT_NE(world.err.text.find("hint: put a copy of it back, or begin anew: rm " + path), std::string::npos);
  world.disk.files[path] = good;
  EXPECT_TRUE(read().starts_with("not signed: "));
}

// What another process writes between our first look and our lock.
struct BusyDisk : MemoryDisk {
  std::function<void()> meanwhile;
  Result<Lock> lock(const std::string& path, int seconds, bool shared) override {
    if (meanwhile) std::exchange(meanwhile, nullptr)();
    return MemoryDisk::lock(path, seconds, shared);
  }
};

TEST(Trust, KeepsWhatOthersRememberMeanwhile) {
  MemoryWorld world;
  world.proc.environment = {{"HOME", "/h"}};
  BusyDisk disk;
  Ctx ctx{disk, world.net, world.proc, world.clock, world.out, world.err};
  const PublicKey key = SecretKey::make().public_key(), next = SecretKey::make().public_key();
  const auto manifest = [](int64_t serial, const Strings& keys = {}) {
    Manifest out;
    out.serial = serial, out.keys = keys;
    return out;
  };
  ASSERT_TRUE(Trust::open(ctx, "")->remember("a", manifest(1), "1", &key));
  const auto other = [&](int64_t serial, const Strings& keys = {}) {
    disk.meanwhile = [&, serial, keys] {
      ASSERT_TRUE(Trust::open(ctx, "")->remember("b", manifest(serial, keys), std::to_string(serial), &next));
    };
  };
  Trust forgetful = *Trust::open(ctx, "");
  other(7);
  EXPECT_TRUE(*forgetful.forget("a"));
  EXPECT_EQ(Trust::open(ctx, "")->seen("b").serial, 7);
  EXPECT_EQ(Trust::open(ctx, "")->seen("a").serial, 0);
  EXPECT_FALSE(*forgetful.forget("a"));
  // A newer manifest, and with it a newer key, stays.
  Trust late = *Trust::open(ctx, "");
  other(9, {next.str()});
  ASSERT_TRUE(late.remember("b", manifest(8), "8", nullptr));
  EXPECT_EQ(Trust::open(ctx, "")->seen("b").serial, 9);
  EXPECT_EQ(late.seen("b").serial, 9);
  other(10, {key.str()});
  ASSERT_TRUE(late.remember("b", manifest(11), "11", nullptr));
  EXPECT_EQ(Trust::open(ctx, "")->seen("b").keys, Strings{key.str()});
}

TEST_F(SourceTest, KeysRotate) {
  publish({kWheel, "--key", "k.key"});
  EXPECT_EQ(read(), "");
  world.err.text.clear();
  EXPECT_NE(run_clary(world.ctx, {"publish", "--renew", "--to", "site", "--key", "other.key", "--accept", "k.pub"}),
            kFine)
      << "signed by a key that readers do not accept";
  publish({"--renew", "--key", "k.key", "--accept", "k.pub", "--accept", "other.pub"});
  EXPECT_EQ(read(), "");
  publish({"--renew", "--key", "other.key", "--accept", "other.pub"});
  EXPECT_EQ(read(), "");
  // The old key no longer counts.
  world.err.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"publish", "--renew", "--to", "site", "--key", "k.key"}), kFinding) << world.err.text;
}

TEST_F(SourceTest, SignedIsNotPublishedUnsigned) {
  publish({kWheel, "--key", "k.key"});
  world.err.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"publish", "--renew", "--to", "site"}), kFinding);
  EXPECT_NE(world.err.text.find("signed, and no key was given"), std::string::npos) << world.err.text;
}

TEST_F(SourceTest, SamePublishedTwiceIsNothing) {
  publish({kWheel, "--key", "k.key"});
  forget();
  const std::map<std::string, std::string> before = world.disk.files;
  publish({kWheel, "--key", "k.key"});
  EXPECT_NE(world.err.text.find("already there"), std::string::npos);
  forget();
  EXPECT_EQ(world.disk.files, before);
  world.disk.files[kWheel] = make_wheel({.tag = "py3-none-any", .files = {{"demo/x.py", "1"}}});
  world.err.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"publish", kWheel, "--to", "site", "--key", "k.key"}), kFinding);
  EXPECT_NE(world.err.text.find("another wheel of that name is published"), std::string::npos);
}

// A folder of many wheels of hundreds of megabytes: each is read when it comes, not at every publication after.
TEST_F(SourceTest, WheelsThatAreThereAreNotReadAgain) {
  struct : MemoryDisk {
    std::set<std::string> mapped;
    Result<Mapping> map(const std::string& path) override {
      if (path.starts_with("site/wheels/")) mapped.insert(base_name(path));
      return MemoryDisk::map(path);
    }
  } disk;
  disk.files = world.disk.files;
  Ctx ctx{disk, world.net, world.proc, world.clock, world.out, world.err};
  const auto put = [&](const std::string& version, const std::string& content = "x = 1\n") {
    const WheelSpec spec{.version = version,
                         .tag = "py3-none-any",
                         .metadata = {"Requires-Python: >=3.9"},
                         .files = {{"demo/__init__.py", content}}};
    disk.files["w/" + spec.file_name()] = make_wheel(spec);
    return spec.file_name();
  };
  const auto add = [&](const std::string& name) {
    disk.mapped.clear(), world.err.text.clear();
    return run_clary(ctx, {"publish", "w/" + name, "--to", "site", "--key", "k.key"});
  };
  const std::string first = put("1.0"), second = put("2.0"), third = put("3.0");
  ASSERT_EQ(add(first), kFine) << world.err.text;
  ASSERT_EQ(add(second), kFine) << world.err.text;
  EXPECT_EQ(disk.mapped, (std::set<std::string>{second}));
  // The pages are those of a site made from nothing.
  ASSERT_EQ(run_clary(ctx, {"index", "site/wheels", "--out", "anew"}), kFine) << world.err.text;
  for (const auto& [path, content] : disk.files) {
    if (path.starts_with("anew/")) {
      EXPECT_EQ(content, disk.files["site/" + path.substr(5)]) << path;
    }
  }
  // One that changed under its name is read, and refused if it is not fit.
  disk.modified["site/wheels/" + first] = 1;
  ASSERT_EQ(add(third), kFine) << world.err.text;
  EXPECT_EQ(disk.mapped, (std::set<std::string>{first, third}));
  disk.files["site/wheels/" + second] += "trailing";
  EXPECT_EQ(add(put("4.0")), kFinding);
  EXPECT_NE(world.err.text.find("not fit to be served: " + second), std::string::npos) << world.err.text;
}

TEST_F(SourceTest, YankedIsNotChosen) {
  publish({kWheel, "--key", "k.key"});
  publish({"--yank", "demo-1.0-py3-none-any.whl", "--reason", "crashes", "--key", "k.key"});
  const Result<Offer> offer = read_offer(world.ctx, {.from = "site"});
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->manifest.wheels[0].yanked, "crashes");
}

TEST_F(SourceTest, BrokenWheelsAreNotPublished) {
  WheelSpec spec{.tag = "py3-none-any"};
  spec.unrecorded = {{.name = "../evil.py", .content = "x"}};
  world.disk.files["w/" + spec.file_name()] = make_wheel(spec);
  world.disk.written.clear();
  EXPECT_EQ(run_clary(world.ctx, {"publish", "w/" + spec.file_name(), "--to", "site"}), kFinding);
  EXPECT_TRUE(world.disk.written.empty());
}

// ---- the first installers' file -------------------------------------------------------------------------------------------

TEST(Manifest, ReadsAndKeepsTheFirstInstallers) {
  const std::string seed = R"({
    "torch_version": "2.8.0", "torchvision_version": "0.23.0", "torchaudio_version": "2.8.0", "triton_version": "3.4.0",
    "torch_index_url": "https://download.pytorch.org/whl/cu128", "built_on": "rtx5090",
    "wheel": "sageattention-2.2.0-cp311-cp311-linux_x86_64.whl",
    "sha256": "0000000000000000000000000000000000000000000000000000000000000001"})";
  Result<Manifest> m = Manifest::parse(seed, "latest.json");
  ASSERT_TRUE(m) << m.error().message;
  ASSERT_EQ(m->wheels.size(), 1u);
  EXPECT_EQ(m->wheels[0].stack.torch, "2.8.0");
  EXPECT_EQ(m->stack.triton, "3.4.0");
  MemoryWorld world;
  const WheelSpec spec{.name = "sageattention", .version = "2.3.0+cu128torch2.8.0"};
  world.disk.files[spec.file_name()] = make_wheel(spec);
  const Described more = describe(*read_facts(world.ctx, spec.file_name(), {.digests = true}));
  EXPECT_TRUE(m->put(more.entry, *more.json));
  const std::string written = m->write(1795219200, 0);
  const Json json = *parse_json(written, "x");
  EXPECT_EQ(text_of(json, "built_on"), "rtx5090") << "unknown keys are kept";
  EXPECT_EQ(text_of(json, "wheel"), spec.file_name()) << "the newest";
  EXPECT_EQ(text_of(json, "torch_version"), "2.8.0");
  EXPECT_EQ(text_of(json, "torch_index_url"), "https://download.pytorch.org/whl/cu128");
  EXPECT_EQ(number_of(json, "serial"), 1);
  const Result<Manifest> again = Manifest::parse(written, "x");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->wheels.size(), 2u);
}

TEST(Manifest, SurvivesDamage) {
  MemoryWorld world;
  const WheelSpec spec{.version = "1.0+cu128torch2.8.0"};
  world.disk.files[spec.file_name()] = make_wheel(spec);
  const Described wheel = describe(*read_facts(world.ctx, spec.file_name(), {.digests = true}));
  Manifest m;
  m.put(wheel.entry, *wheel.json);
  for_each_damage(m.write(1, 0), 3000, [](const std::string& bad) { (void)Manifest::parse(bad, "x"); });
  EXPECT_FALSE(Manifest::parse("[]", "x"));
  EXPECT_FALSE(Manifest::parse(R"({"schema_version": 2})", "x"));
  EXPECT_FALSE(
      Manifest::parse(R"({"torch_version": "2.8; rm -rf /", "wheel": "a-1-py3-none-any.whl", "sha256": "x"})", "x"));
}

}  // namespace
}  // namespace clary::tool::test
