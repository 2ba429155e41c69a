// Which wheel is chosen and why the others are not: one row for each reason, and the time for three thousand.
#include <ctime>

#include "real_world.h"
#include "wheel/core/chain.h"
#include "wheel/core/emit_install.h"
#include "wheel/core/json.h"
#include "wheel/core/lockfile.h"
#include "wheel/core/resolve.h"

namespace clary::tool::test {
namespace {

Target here() {
  Target t;
  t.python_version = "3.12.3", t.abi = "cp312", t.machine = "x86_64", t.glibc = "2.36", t.isa_level = 3;
  t.torch = "2.8.0+cu128", t.cuda = "12.8", t.cxx11abi = true, t.driver = "570.86.10", t.gpus = {120};
  return t;
}

WheelEntry entry(const std::string& file) {
  WheelEntry w{.name = *WheelName::parse(file)};
  w.file = file, w.sha256 = std::string(64, '0'), w.size = 1000;
  const StackLabel label = StackLabel::of(w.name.version().local());
  w.cuda = label.cuda;
  if (!label.torch.empty())
    w.torch_mode = "locked", w.torch_spec = "==" + label.torch + ".*", w.stack.torch = label.torch;
  return w;
}

const char* const kGood = "demo-2.2.0+cu128torch2.8-cp312-cp312-linux_x86_64.whl";

std::vector<Candidate> chosen(const std::vector<WheelEntry>& wheels, const Target& target,
                              const std::string& wish = "demo") {
  static Manifest m;
  m = Manifest();
  m.wheels = wheels;
  return resolve(m, *parse_wish(wish), target);
}

TEST(Resolve, EveryReason) {
  struct Row {
    std::string rule, reason;
    std::function<void(WheelEntry&, Target&)> change;
  };
  const auto name = [](const char* file) { return [file](WheelEntry& w, Target&) { w = entry(file); }; };
  const Row rows[] = {
      {"", "", [](WheelEntry&, Target&) {}},
      {"version", "another project: other", name("other-2.2.0-cp312-cp312-linux_x86_64.whl")},
      {"version", "a pre-release", name("demo-3.0rc1-cp312-cp312-linux_x86_64.whl")},
      {"yanked", "withdrawn: crashes", [](WheelEntry& w, Target&) { w.yanked = "crashes"; }},
      {"platform", "for win_amd64", name("demo-2.2.0-cp312-cp312-win_amd64.whl")},
      {"platform", "for manylinux_2_28_aarch64", name("demo-2.2.0-cp312-cp312-manylinux_2_28_aarch64.whl")},
      {"platform", "needs glibc 2.39, this is 2.36", name("demo-2.2.0-cp312-cp312-manylinux_2_39_x86_64.whl")},
      {"platform", "for musl", name("demo-2.2.0-cp312-cp312-musllinux_1_2_x86_64.whl")},
      {"floor", "its code needs glibc 2.38, this is 2.36", [](WheelEntry& w, Target&) { w.glibc = "2.38"; }},
      {"floor", "x86-64-v4 processor, this is v3", [](WheelEntry& w, Target&) { w.isa_level = 4; }},
      {"python", "for cp311-cp311, this is cp312", name("demo-2.2.0-cp311-cp311-linux_x86_64.whl")},
      {"python", "for cp312-cp312, this is cp312t", [](WheelEntry&, Target& t) { t.abi = "cp312t"; }},
      {"python", "for cp313-abi3, this is cp312", name("demo-2.2.0-cp313-abi3-linux_x86_64.whl")},
      {"python", "needs Python >=3.13", [](WheelEntry& w, Target&) { w.requires_python = ">=3.13"; }},
      {"torch", "needs torch ==2.8.*, here is 2.7.1", [](WheelEntry&, Target& t) { t.torch = "2.7.1"; }},
      {"cxx11-abi", "without the C++11 ABI", [](WheelEntry& w, Target&) { w.cxx11abi = false; }},
      {"cuda", "for CUDA 12.8, torch here has 13.0", [](WheelEntry&, Target& t) { t.cuda = "13.0"; }},
      {"cuda", "torch here has 12.8", [](WheelEntry& w, Target&) { w.cudart = "libcudart.so.13"; }},
      {"driver", "needs GPU driver 580, this is 570.86.10", [](WheelEntry& w, Target&) { w.driver_min = "580"; }},
      {"gpu", "no code for GPU 12.0; it has 8.0 9.0", [](WheelEntry& w, Target&) { w.sass = {{80}, {90}}; }},
      {"gpu", "no code for GPU 8.0", [](WheelEntry& w, Target& t) { w.sass = {{120}}, t.gpus = {120, 80}; }},
      {"gpu", "no code for GPU 12.1", [](WheelEntry& w, Target& t) { w.sass = {{120, 'a'}}, t.gpus = {121}; }},
  };
  for (const Row& row : rows) {
    WheelEntry w = entry(kGood);
    Target t = here();
    row.change(w, t);
    const std::vector<Candidate> c = chosen({w}, t);
    EXPECT_EQ(c[0].rule, row.rule) << row.reason << " / " << c[0].reason;
    EXPECT_NE(c[0].reason.find(row.reason), std::string::npos) << c[0].reason;
  }
  Wish small = *parse_wish("demo");
  small.free_bytes = 3000;
  Manifest m;
  m.wheels = {entry(kGood)};
  EXPECT_EQ(resolve(m, small, here())[0].rule, "size");
  EXPECT_EQ(chosen({entry(kGood)}, here(), "demo>=3")[0].reason, "version 2.2.0+cu128torch2.8 is not >=3");
}

TEST(Resolve, WhatFitsMany) {
  for (const char* file : {"demo-2.2.0-py3-none-any.whl", "demo-2.2.0-cp39-abi3-manylinux_2_28_x86_64.whl",
                           "demo-2.2.0-py3-none-manylinux2014_x86_64.whl", "demo-2.2.0-cp312-none-linux_x86_64.whl"})
    EXPECT_TRUE(chosen({entry(file)}, here())[0].fits()) << file;
  Target bare = here();
  bare.torch = bare.cuda = "", bare.gpus.clear(), bare.driver = "", bare.cxx11abi.reset();
  EXPECT_EQ(chosen({entry(kGood)}, bare)[0].note, "installs torch 2.8");
}

TEST(Resolve, Ranks) {
  const auto with = [](const char* file, std::vector<Arch> sass, std::vector<Arch> ptx, uint64_t size = 1000) {
    WheelEntry w = entry(file);
    w.sass = std::move(sass), w.ptx = std::move(ptx), w.size = size;
    return w;
  };
  Target t = here();
  t.gpus = {121};
  const std::vector<Candidate> c =
      chosen({with("demo-2.3.0-py3-none-any.whl", {}, {{80}}), with("demo-2.2.0-py3-none-any.whl", {{120, 'f'}}, {}),
              with("demo-2.1.0-py3-none-any.whl", {{120}}, {}), with("demo-2.0.0-py3-none-any.whl", {{121}}, {}),
              with("demo-2.0.0-1-py3-none-any.whl", {{121}}, {}, 900)},
             t);
  Strings order;
  for (const Candidate& x : c)
    order.push_back(x.wheel->name.version_text() + (x.wheel->name.build().empty() ? "" : "-" + x.wheel->name.build()));
  EXPECT_EQ(order, (Strings{"2.0.0-1", "2.0.0", "2.2.0", "2.1.0", "2.3.0"}));
  EXPECT_EQ(c.back().note, "only PTX: the driver compiles it on first use");
}

// pip takes the highest local version and changes torch; clary takes the one for the torch that is there.
TEST(Resolve, TheTorchThatIsThereDecides) {
  std::vector<WheelEntry> wheels;
  for (const char* label : {"+cu128torch2.6", "+cu128torch2.8", "+cu129torch2.9", "+cu130torch2.11", ""})
    wheels.push_back(entry("demo-2.2.0" + std::string(label) + "-cp312-cp312-linux_x86_64.whl"));
  wheels.back().torch_mode = "locked", wheels.back().torch_spec = "==2.5.*";
  EXPECT_EQ(chosen(wheels, here())[0].wheel->file, kGood);
}

TEST(Resolve, ThreeThousandAreFast) {
  Json list = Json::array();
  for (int i = 0; i < 3000; i++) {
    const int python = 9 + i % 6, torch = 4 + i / 6 % 12, cuda = 4 + i / 72 % 6, version = i / 432;
    list.push_back({{"filename", format("demo-2.%d.0+cu12%dtorch2.%d.0-cp3%d-cp3%d-manylinux_2_28_x86_64.whl", version,
                                        cuda, torch, python, python)},
                    {"sha256", std::string(64, 'a')},
                    {"size", 20'000'000 + i},
                    {"python", {{"requires", ">=3.9"}}},
                    {"platform", {{"glibc", "2.28"}}},
                    {"torch", {{"mode", "locked"}, {"spec", format("==2.%d.*", torch)}}},
                    {"cuda", {{"driver_min_linux", "525.60.13"}}},
                    {"sass", {"8.0", "8.6", "9.0", "12.0"}}});
  }
  const std::string text = dump({{"schema_version", 1}, {"wheels", list}});
  const std::clock_t begin = std::clock();  // of this process: others may be busy
  const Result<Manifest> m = Manifest::parse(text, "x");
  ASSERT_TRUE(m);
  const std::vector<Candidate> c = resolve(*m, *parse_wish("demo"), here());
  const double ms = 1e3 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_EQ(c.size(), 3000u);
  EXPECT_TRUE(c[0].fits());
  EXPECT_EQ(c[0].wheel->stack.torch.substr(0, 3), c[1].wheel->stack.torch.substr(0, 3));
  RecordProperty("milliseconds", static_cast<int>(ms));
  std::printf("read and resolved 3,000 wheels in %.1f ms\n", ms);
}

TEST(Chain, Conditions) {
  const Target t = here();
  for (const char* yes : {"", "sm in (100, 120) and cuda >= 12.8", "sm >= 80", "cuda<13",
                          "python >= 3.12 and driver > 550", "sm == 90 or torch == 2.8.0+cu128", "sm != 90"})
    EXPECT_TRUE(*chain_holds(yes, t)) << yes;
  for (const char* no : {"sm in (90, 100)", "cuda >= 13.0", "sm >= 80 and cuda < 12", "sm < 120", "torch < 2.8"})
    EXPECT_FALSE(*chain_holds(no, t)) << no;
  for (const char* bad : {"gpu == 1", "sm", "sm in 100", "sm >=", "cuda ~ 12", "sm in (x)"})
    EXPECT_FALSE(chain_holds(bad, t)) << bad;
  EXPECT_FALSE(*chain_holds("sm >= 80", Target{})) << "no GPU is no GPU of at least 8.0";
  Target two = t;
  two.gpus = {75, 120};
  EXPECT_FALSE(*chain_holds("sm >= 80", two)) << "every GPU counts";
}

// ---- commands -------------------------------------------------------------------------------------------------------------

class ResolveCommand : public testing::Test {
 protected:
  MemoryWorld world;
  void SetUp() override {
    world.proc.environment = {{"HOME", "/h"}, {"VIRTUAL_ENV", "/v"}};
    for (const char* version : {"2.2.0+cu128torch2.8.0", "2.2.0+cu130torch2.11.0", "2.1.0"}) {
      WheelSpec spec{.version = version, .metadata = {"Requires-Python: >=3.9"}};
      const std::string torch = StackLabel::of(Version::parse(version)->local()).torch;
      if (!torch.empty()) spec.metadata.push_back("Requires-Dist: torch==" + torch.substr(0, torch.rfind('.')) + ".*");
      world.disk.files["w/" + spec.file_name()] = make_wheel(spec);
    }
    const Result<Target> unused = probe_target(world.ctx, {});
    for (const std::string& line : world.proc.ran) {
      if (line.find("import json,platform") != line.npos) world.proc.programs[line] = {0, python_answer("/v"), ""};
    }
    world.proc.ran.clear();
    world.disk.files["/v/lib/python3.12/site-packages/torch/version.py"] =
        "__version__ = '2.8.0+cu128'\ncuda = '12.8'\n";
  }
};

TEST_F(ResolveCommand, SaysWhy) {
  std::string said;
  const auto run = [&](const Strings& args) { said += transcript(world, args); };
  run({"resolve", "demo", "--from", "w"});
  run({"resolve", "demo", "--from", "w", "--python", "3.12", "--torch", "2.11.0", "--cuda", "13.0", "--gpu", "none"});
  run({"resolve", "demo", "--from", "w", "--python", "3.11"});
  run({"resolve", "demo", "--from", "w", "--json"});
  run({"resolve", "demo"});
  run({"resolve", "demo", "--from", "hf:one"});
  run({"resolve", "demo", "--from", "http://example.org/latest.json"});
  run({"resolve", "demo", "--from", "gone"});
  EXPECT_TRUE(world.disk.written.empty()) << "bare wheels leave nothing behind";
  expect_snapshot("resolve", said);
}

TEST_F(ResolveCommand, EmitsForOthers) {
  ASSERT_EQ(
      run_clary(world.ctx, {"publish", "w/demo-2.2.0+cu128torch2.8.0-cp312-cp312-linux_x86_64.whl", "--to", "site"}),
      kFine)
      << world.err.text;
  world.net.pages["https://example.org/site/latest.json"] = {200, {}, world.disk.files["site/latest.json"]};
  world.net.serve = [](const Request&) { return Response{404, {}, ""}; };
  world.disk.written.clear();
  std::string said;
  for (const char* form : {"requirements", "constraints", "pylock", "dockerfile"})
    said += transcript(world, {"install", "demo", "--from", "https://example.org/site/latest.json", "--emit", form,
                               "--stack", "exact"});
  said += transcript(world, {"install", "demo", "--from", "https://example.org/site/latest.json", "--dry-run"});
  expect_snapshot("install-emit", said);
}

TEST_F(ResolveCommand, PinsOfTheEnvironment) {
  world.proc.environment["TORCH_VERSION"] = "2.8.0";
  world.proc.environment["TRITON_VERSION"] = "3.4.1";
  const std::string said = transcript(world, {"install", "demo", "--from", "w", "--emit", "constraints"});
  EXPECT_NE(said.find("torch==2.8.0\n"), said.npos) << said;
  EXPECT_NE(said.find("triton==3.4.1\n"), said.npos) << said;
  world.proc.environment["TORCH_VERSION"] = "2.6.0";
  EXPECT_EQ(run_clary(world.ctx, {"resolve", "demo==2.2.0", "--from", "w"}), kFinding) << "no wheel for that torch";
}

TEST_F(ResolveCommand, AnotherMachineIsNoMatterOfThisOne) {
  world.proc.ran.clear();
  const Strings args = {"resolve", "demo",   "--from", "w",     "--python", "3.12",     "--torch",
                        "2.11.0",  "--cuda", "13.0",   "--gpu", "none",     "--driver", "580.65.06"};
  Strings elsewhere = args;
  elsewhere.insert(elsewhere.end(), {"--platform", "linux_x86_64"});
  EXPECT_EQ(run_clary(world.ctx, elsewhere), kFine) << world.err.text;
  EXPECT_EQ(join(world.proc.ran, "\n"), "") << "a start of an interpreter is most of the time it takes";
  EXPECT_EQ(run_clary(world.ctx, args), kFine) << world.err.text;
  EXPECT_NE(join(world.proc.ran, "\n").find("-I -c import json"), std::string::npos);
}

TEST_F(ResolveCommand, ChainOfTheRecipe) {
  world.disk.files["clary.toml"] =
      "[fallback]\nchain = [{pkg='demo3', when='sm in (100, 120)'}, {pkg='demo==2.1.0', when='sm >= 300'}, "
      "{pkg='demo<2.2'}]\n";
  const std::string said = transcript(world, {"install", "--from", "w", "--dry-run", "--gpu", "12.0"});
  EXPECT_NE(said.find("not demo3: no demo3 of w fits"), said.npos) << said;
  EXPECT_NE(said.find("not demo==2.1.0: not sm >= 300"), said.npos) << said;
  EXPECT_NE(said.find("would install: demo-2.1.0"), said.npos) << said;
}

TEST_F(ResolveCommand, BuildsWhatIsAskedForAndNowhereElse) {
  const auto install = [&](const char* package, const char* wish, const char* from) {
    world.disk.files["clary.toml"] =
        "[package]\nname = '" + std::string(package) + "'\nversion = '9.0'\n[matrix]\ntorch = '2.8'\n";
    return transcript(world, {"install", wish, "--from", from, "--dry-run"});
  };
  const std::string newer = install("Demo", "demo>=9", "w");
  EXPECT_NE(newer.find("; building it"), newer.npos) << newer;
  EXPECT_NE(install("demo", "demo", "gone").find("no wheels at gone; building it"), std::string::npos);
  EXPECT_NE(install("other", "demo>=9", "w").find("exit 1"), std::string::npos) << "a recipe of another project";
  world.net.serve = [](const Request&) { return Response{503, {}, ""}; };
  const std::string said = install("demo", "demo", "https://example.org/site/latest.json");
  EXPECT_NE(said.find("exit 1"), said.npos) << "not reached is not the same as not there: " << said;
}

TEST_F(ResolveCommand, LockIsStable) {
  std::string said = transcript(world, {"lock", "demo", "--from", "w", "--dry-run"});
  EXPECT_TRUE(world.disk.written.empty());
  said += transcript(world, {"lock", "demo", "--from", "w"});
  said += world.disk.files["clary.lock.json"];
  EXPECT_EQ(run_clary(world.ctx, {"lock", "demo", "--from", "w", "--check"}), kFine);
  WheelSpec spec{.version = "2.9.0"};
  world.disk.files["w/" + spec.file_name()] = make_wheel(spec);
  EXPECT_EQ(run_clary(world.ctx, {"lock", "demo", "--from", "w", "--check"}), kFinding);
  EXPECT_TRUE(LockFile::parse(world.disk.files["clary.lock.json"], "x"));
  for_each_damage(world.disk.files["clary.lock.json"], 2000,
                  [](const std::string& bad) { (void)LockFile::parse(bad, "x"); });
  expect_snapshot("lock", said);
}

}  // namespace
}  // namespace clary::tool::test
