// The rules: a good wheel has no finding, and for each rule of rules.def there is a wheel that breaks it.
#include <algorithm>
#include <set>

#include "broken.h"
#include "wheel/core/json.h"

namespace clary::tool::test {
namespace {

TEST(Rules, AGoodWheelHasNoFinding) {
  WheelSpec spec{.version = "1.0+cu128torch2.8.0",
                 .tag = "cp312-cp312-manylinux_2_17_x86_64",
                 .metadata = {"Requires-Dist: torch==2.8.*", "Requires-Python: >=3.12"}};
  ElfSpec elf = module_spec();
  elf.runpath = "$ORIGIN/../torch/lib";
  elf.needed = {"libc.so.6", "libtorch_cpu.so", "libcudart.so.12"};
  elf.symbols.push_back(torch_cxx());
  elf.sections = {
      {".nv_fatbin",
       make_fatbin({{.sm = 80, .packing = 'z'}, {.sm = 90, .packing = 'z'}, {.kind = 'p', .sm = 80, .packing = 'z'}})}};
  spec.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(elf)});
  EXPECT_EQ(join(ids(judge(wheel("", spec))), " "), "");
  EXPECT_EQ(join(ids(judge(wheel("", {.tag = "py3-none-any"}))), " "), "");
}

TEST(Rules, EachCanBeBroken) {
  std::set<std::string> broken;
  for (const Broken& c : broken_wheels()) {
    const FileFindings found = judge(c);
    const Strings all = ids(found);
    EXPECT_NE(std::find(all.begin(), all.end(), c.rule), all.end())
        << c.rule << " not found in " << c.file_name << "; found: " << join(all, " ");
    broken.insert(c.rule);
    for (const Finding& f : found.findings) EXPECT_FALSE(f.text.empty()) << f.rule->id;
  }
  for (const Rule& rule : rules()) EXPECT_TRUE(broken.contains(rule.id)) << "no wheel breaks " << rule.id;
  EXPECT_GE(broken_wheels().size(), 60u);
}

// Most breaks are one rule's alone: a finding says what is wrong, not what else follows from it.
TEST(Rules, BreaksAreNamedOnce) {
  static const std::set<std::string> kAlone = {"W2.hash",   "W2.unlisted", "W3.link",        "W3.case",
                                               "E1.stack",  "E1.textrel",  "E5.unversioned", "F3.locked",
                                               "F2.uneven", "W6.pth",      "S2.token",       "P1.libpython"};
  for (const Broken& c : broken_wheels()) {
    if (!kAlone.contains(c.rule)) continue;
    for (const std::string& id : ids(judge(c)))
      EXPECT_TRUE(id == c.rule || id == "E3.untagged" || id == "W2.unlisted" || id == "W2.absent")
          << c.rule << " also gave " << id;
  }
}

// What real wheels are not guilty of: each was a finding on one of the package index.
TEST(Rules, RealWheelsAreNotAccusedOfThese) {
  const auto with = [](const char* tag, const std::vector<ElfSpec>& libraries) {
    WheelSpec spec{.tag = tag};
    for (const ElfSpec& elf : libraries)
      spec.files.push_back({"demo/_" + std::to_string(spec.files.size()) + ".so", make_elf(elf)});
    return join(ids(judge(wheel("", spec))), " ");
  };
  ElfSpec weak = module_spec();  // Rust's thread-locals, where the C library has them
  weak.symbols.push_back(
      {.name = "__cxa_thread_atexit_impl", .version = "GLIBC_2.17", .library = "libc.so.6", .weak = true});
  EXPECT_EQ(with("cp312-cp312-manylinux_2_17_x86_64", {weak}), "");
  ElfSpec asks = module_spec(),
          offers = module_spec();  // a newer C++ library's few symbols, linked into one of the wheel's own
  asks.symbols.push_back({.name = "_ZSt28__throw_bad_array_new_lengthv"});
  EXPECT_EQ(with("cp312-cp312-manylinux_2_17_x86_64", {asks}), "E5.unversioned");
  offers.symbols.push_back({.name = "_ZSt28__throw_bad_array_new_lengthv", .defined = true});
  EXPECT_EQ(with("cp312-cp312-manylinux_2_17_x86_64", {asks, offers}), "");
  ElfSpec musl = module_spec();
  musl.needed = {"libc.musl-x86_64.so.1"};
  musl.symbols = {{.name = "PyInit__C", .defined = true}, {.name = "memcpy"}};
  EXPECT_EQ(with("cp312-cp312-musllinux_1_2_x86_64", {musl}), "");
  const std::string bytes = make_elf(musl);
  const ManylinuxFit fit = manylinux_fit({binary_facts(bytes_of(bytes), "a.so", false)}, "x86_64");
  EXPECT_EQ(fit.policy, "");
  EXPECT_EQ(fit.why, "a.so needs libc.musl-x86_64.so.1, whose symbols have no versions to judge by");
}

TEST(Rules, PolicyChangesSeverity) {
  Broken c = wheel("W6.pth", {.files = {{"demo.pth", "import os\n"}}});
  EXPECT_EQ(judge(c).count(Severity::kError), 1u);
  c.policy = "[severity]\n\"W6\" = \"note\"";
  EXPECT_EQ(judge(c).count(Severity::kError), 0u);
  c.policy = "[severity]\n\"W6\" = \"off\"\n\"W6.pth\" = \"warning\"";
  EXPECT_EQ(judge(c).count(Severity::kWarning), 1u);
}

TEST(Rules, AStartupFileIsOneThatThePolicyNames) {
  Broken c = wheel("W6.pth", {.files = {{"demo-enable.pth", "import os\n"}, {"other.pth", "import os\n"}}});
  c.policy = "startup = [\"demo-enable.pth\"]";
  const FileFindings found = judge(c);
  ASSERT_EQ(found.count(Severity::kError), 1u);
  EXPECT_EQ(found.findings[0].where, "other.pth");
}

TEST(Rules, ManyFindingsOfOneRuleAreSummed) {
  WheelSpec spec;
  for (int i = 0; i < 50; i++) spec.files.push_back({"demo/__pycache__/" + std::to_string(i) + ".pyc", "x"});
  const FileFindings found = judge(wheel("", spec));
  EXPECT_EQ(found.findings.size(), 21u);
  EXPECT_EQ(found.findings.back().text, "and 30 more of these");
}

TEST(Rules, ThreadsDoNotChangeTheAnswer) {
  WheelSpec spec;
  for (int i = 0; i < 30; i++) spec.files.push_back({"demo/_m" + std::to_string(i) + ".so", make_elf(module_spec())});
  MemoryWorld world;
  world.disk.files["w/" + spec.file_name()] = make_wheel(spec);
  std::set<std::string> answers;
  for (int threads : {1, 2, 8}) {
    const Result<FileFacts> facts =
        read_facts(world.ctx, "w/" + spec.file_name(), {.digests = true, .threads = threads});
    answers.insert(findings_json({verify_facts(*facts, Policy{}, Against{})}, "p"));
  }
  EXPECT_EQ(answers.size(), 1u);
}

TEST(Rules, SarifIsWhatScannersRead) {
  const Broken c = wheel("", {.files = {{"demo.pth", "import os\n"}}});
  const Result<Json> sarif = parse_json(findings_sarif({judge(c)}), "sarif");
  ASSERT_TRUE(sarif);
  const Json& run = (*sarif)["runs"][0];
  EXPECT_EQ((*sarif)["version"], "2.1.0");
  EXPECT_EQ(run["results"][0]["ruleId"], "W6.pth");
  EXPECT_EQ(run["results"][0]["level"], "error");
  EXPECT_EQ(run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            "d/demo-1.0-cp312-cp312-linux_x86_64.whl");
  for (const Json& result : run["results"]) {
    const bool described = std::any_of(run["tool"]["driver"]["rules"].begin(), run["tool"]["driver"]["rules"].end(),
                                       [&](const Json& r) { return r["id"] == result["ruleId"]; });
    EXPECT_TRUE(described);
  }
}

TEST(Rules, WheelsSurviveAnyDamage) {
  WheelSpec spec;
  ElfSpec elf = module_spec();
  elf.sections = {{".nv_fatbin", make_fatbin({{.sm = 80, .packing = 'z'}})}};
  spec.files.push_back({"demo/_C.so", make_elf(elf)});
  size_t findings = 0;
  for_each_damage(make_wheel(spec), 600, [&](const std::string& bad) {
    if (bad.empty()) return;
    Broken c{"", spec.file_name(), bad, "", {}};
    findings += judge(c).findings.size();
  });
  EXPECT_GT(findings, 0u);
}

}  // namespace
}  // namespace clary::tool::test
