// Versions, specifiers, requirements and tags, against the specification and against Python's packaging library.
#include <random>

#include "support.h"
#include "wheel/core/requirement.h"
#include "wheel/core/tag.h"

namespace clary::tool::test {
namespace {

Version v(const std::string& text) {
  const Result<Version> version = Version::parse(text);
  EXPECT_TRUE(version) << text;
  return version ? *version : Version{};
}

TEST(Version, Order) {
  // Each is less than the next.
  const Strings order = {"0.9",           "1.dev0",
                         "1.0.dev456",    "1.0a1",
                         "1.0a2.dev456",  "1.0a12.dev456",
                         "1.0a12",        "1.0b1.dev456",
                         "1.0b2",         "1.0b2.post345.dev456",
                         "1.0b2.post345", "1.0rc1.dev456",
                         "1.0rc1",        "1.0",
                         "1.0+abc.5",     "1.0+abc.7",
                         "1.0+5",         "1.0.post456.dev34",
                         "1.0.post456",   "1.1.dev1",
                         "2!0.1"};
  for (size_t i = 0; i < order.size(); i++) {
    for (size_t j = 0; j < order.size(); j++)
      EXPECT_EQ(v(order[i]) <=> v(order[j]), i <=> j) << order[i] << " " << order[j];
  }
  EXPECT_EQ(v("1.0"), v("1"));
  EXPECT_EQ(v("1.0.0+cu128torch2.8.0").local(), "cu128torch2.8.0");
}

TEST(Version, NormalForm) {
  const std::vector<std::pair<std::string, std::string>> forms = {{"v1.0-ALPHA_1", "1.0a1"},
                                                                  {"1.0c1", "1.0rc1"},
                                                                  {"1.0-1", "1.0.post1"},
                                                                  {"1.0.rev4", "1.0.post4"},
                                                                  {" 1.0 ", "1.0"},
                                                                  {"01.002", "1.2"},
                                                                  {"1.0+Ubuntu_01-2", "1.0+ubuntu.1.2"},
                                                                  {"1.0.dev", "1.0.dev0"},
                                                                  {"1.0a.", "1.0a0"}};
  for (const auto& [text, normal] : forms) EXPECT_EQ(v(text).str(), normal);
  for (const char* bad :
       {"", "1.0x", "1..0", "a1", "1.0+", "1.0+a..b", "1.0 0", "1.0+a!b", "99999999999999999999999", "1.0\n1"})
    EXPECT_FALSE(Version::parse(bad)) << bad;
}

// Words that look like versions, good and bad.
Strings version_corpus() {
  std::mt19937 random(7);
  const Strings heads = {"", "v", "1!", "0!"},
                releases = {"1", "0", "1.0", "2.8.0", "1.0.0.0", "10.20", "1.", ".1", "01.2"};
  const Strings pres = {"", "a1", ".b2", "-rc.3", "_alpha", "preview4", "c5", "a", "b-", "rc_1", "a-1", "x1"},
                posts = {"", ".post1", "-1", "-post", "r2", ".rev3", "_post_4", "--1"},
                devs = {"", ".dev1", "dev", "-dev_2", ".devx"},
                locals = {"", "+cu128", "+cu128torch2.8.0", "+1.2", "+a-b_c", "+", "+a..b", "+ABC.01"};
  Strings out;
  const auto pick = [&](const Strings& from) { return from[random() % from.size()]; };
  for (int i = 0; i < 1500; i++)
    out.push_back(pick(heads) + pick(releases) + pick(pres) + pick(posts) + pick(devs) + pick(locals));
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

TEST(Oracle, Versions) {
  const Strings corpus = version_corpus();
  const std::string said = oracle_python(R"(
import sys
from packaging.version import Version, InvalidVersion
rows = []
for line in open(sys.argv[1]).read().split("\n"):
    try: rows.append(Version(line))
    except InvalidVersion: rows.append(None)
order = {v: i for i, v in enumerate(sorted({r for r in rows if r is not None}))}
for r in rows: print("bad" if r is None else f"{r} {order[r]}")
)",
                                         join(corpus, "\n"));
  if (said.empty()) GTEST_SKIP() << "no Python with the packaging library";
  const std::vector<std::string_view> answers = lines(said);
  ASSERT_EQ(answers.size(), corpus.size());
  std::vector<std::pair<int, Version>> ranked;
  for (size_t i = 0; i < corpus.size(); i++) {
    const Result<Version> mine = Version::parse(corpus[i]);
    ASSERT_EQ(bool(mine), answers[i] != "bad") << corpus[i];
    if (!mine) continue;
    const size_t space = answers[i].find(' ');
    EXPECT_EQ(mine->str(), answers[i].substr(0, space)) << corpus[i];
    ranked.emplace_back(std::stoi(std::string(answers[i].substr(space + 1))), *mine);
  }
  for (size_t i = 0; i < ranked.size(); i++) {
    for (size_t j = i % 7; j < ranked.size(); j += 7) {
      ASSERT_EQ(ranked[i].second <=> ranked[j].second, ranked[i].first <=> ranked[j].first)
          << ranked[i].second.str() << " " << ranked[j].second.str();
    }
  }
}

TEST(Oracle, Specifiers) {
  const Strings versions = {"1.0",      "1.0.0",     "1.0.1",          "1.1",       "1.0a1",       "1.0rc1",
                            "1.0.dev1", "1.0.post1", "1.0.post1.dev2", "1.0+cu128", "1.0.post1+x", "2.0",
                            "2.0a1",    "0.9",       "1!1.0",          "1.10",      "2.8.0+cu128"};
  Strings specs = {">=1.0,<2.0", "==1.0",      "==1.0.*",       "!=1.0.*",     "~=1.0",       "~=1.0.1", ">1.0",
                   "<1.0",       "<=1.0",      ">=1.0a1",       "<2.0a1",      "==1.0+cu128", "!=1.0",   "!=1.0+cu128",
                   "===1.0",     ">1.0.post1", "==1!1.*",       "~=2.8.0",     "==1.0a1.*",   "",        ">=1.0+x",
                   "~=1",        "==1.*.1",    ">=1.*",         "==",          "1.0",         "=>1.0",   "==1.0.dev1.*",
                   "<1.0.post1", ">1.0a1",     "==1.0.post1.*", "===1.0+CU128"};
  Strings rows;
  for (const std::string& s : specs) {
    for (const std::string& version : versions) rows.push_back(s + "\t" + version);
  }
  const std::string said = oracle_python(R"(
import sys
from packaging.specifiers import SpecifierSet, InvalidSpecifier
for line in open(sys.argv[1]).read().split("\n"):
    spec, version = line.split("\t")
    try: s = SpecifierSet(spec)
    except InvalidSpecifier: print("bad"); continue
    print("yes" if s.contains(version, prereleases=True) else "no")
)",
                                         join(rows, "\n"));
  if (said.empty()) GTEST_SKIP() << "no Python with the packaging library";
  const std::vector<std::string_view> answers = lines(said);
  ASSERT_EQ(answers.size(), rows.size());
  for (size_t i = 0; i < rows.size(); i++) {
    const size_t tab = rows[i].find('\t');
    const Result<Specifier> spec = Specifier::parse(rows[i].substr(0, tab));
    const std::string mine = !spec ? "bad" : spec->admits(v(rows[i].substr(tab + 1)), true) ? "yes" : "no";
    EXPECT_EQ(mine, answers[i]) << rows[i];
  }
}

TEST(Oracle, Requirements) {
  const Strings rows = {"torch",
                        "torch==2.8.*",
                        "torch[opt,a-b]>=2.6,<2.9; platform_system == \"Linux\"",
                        "torch (>=2.14.0)",
                        "numpy>=1.22; python_version < '3.12' and extra == 'x'",
                        "a @ https://example.org/a.whl ; os_name == 'nt'",
                        "x; (python_version>='3.8' or sys_platform=='win32') and platform_machine!='arm64'",
                        "x; python_version in '3.8 3.9'",
                        "x; 'linux' in sys_platform",
                        "x; sys_platform not in 'win32'",
                        "",
                        "-x",
                        "x==",
                        "x;;",
                        "x; python_version",
                        "x; foo == 'a'",
                        "x y",
                        "x[",
                        "x[]",
                        "x[a",
                        "x>=1 <2",
                        "a_b.c",
                        "x ; python_full_version >= '3.8.1'",
                        "x; python_version > '3'",
                        "x; platform_release >= '5'"};
  const std::string said = oracle_python(R"(
import sys
from packaging.requirements import Requirement, InvalidRequirement
env = {"python_version": "3.12", "python_full_version": "3.12.1", "os_name": "posix", "sys_platform": "linux", "platform_release": "5.10", "platform_system": "Linux",
       "platform_version": "1", "platform_machine": "x86_64", "implementation_name": "cpython", "implementation_version": "3.12.1", "platform_python_implementation": "CPython", "extra": ""}
for line in open(sys.argv[1]).read().split("\n"):
    try: r = Requirement(line)
    except InvalidRequirement: print("bad"); continue
    print(r.name, ",".join(sorted(r.extras)), r.marker is None or r.marker.evaluate(env), sep="|")
)",
                                         join(rows, "\n"));
  if (said.empty()) GTEST_SKIP() << "no Python with the packaging library";
  const Marker::Environment environment = {{"python_version", "3.12"},
                                           {"python_full_version", "3.12.1"},
                                           {"os_name", "posix"},
                                           {"sys_platform", "linux"},
                                           {"platform_release", "5.10"},
                                           {"platform_system", "Linux"},
                                           {"platform_version", "1"},
                                           {"platform_machine", "x86_64"},
                                           {"implementation_name", "cpython"},
                                           {"implementation_version", "3.12.1"},
                                           {"platform_python_implementation", "CPython"},
                                           {"extra", ""}};
  const std::vector<std::string_view> answers = lines(said);
  ASSERT_EQ(answers.size(), rows.size());
  for (size_t i = 0; i < rows.size(); i++) {
    const Result<Requirement> r = Requirement::parse(rows[i]);
    std::string mine = "bad";
    if (r) {
      Strings extras = r->extras;
      std::sort(extras.begin(), extras.end());
      mine = r->name + "|" + join(extras, ",") + "|" + (r->marker.holds(environment) ? "True" : "False");
    }
    EXPECT_EQ(mine, answers[i]) << rows[i];
  }
}

TEST(Requirement, DepthIsBounded) {
  EXPECT_FALSE(Requirement::parse("x; " + std::string(100'000, '(') + "os_name == 'a'"));
}

TEST(Tags, CompressedSetsExpand) {
  const Result<std::vector<Tag>> tags = parse_tags("py2.py3-none-any");
  ASSERT_TRUE(tags);
  EXPECT_EQ((*tags)[1].str(), "py3-none-any");
  EXPECT_FALSE(parse_tags("cp312-cp312"));
  EXPECT_FALSE(parse_tags("cp312-cp312-linux..x"));
  std::string many = "a";
  for (int i = 0; i < 2000; i++) many += ".a";
  EXPECT_FALSE(parse_tags(many + "-b-c"));
}

TEST(Tags, Platforms) {
  EXPECT_EQ(Platform::of("manylinux2014_aarch64").minor, 17);
  EXPECT_EQ(Platform::of("manylinux_2_28_x86_64").arch, "x86_64");
  EXPECT_EQ(Platform::of("win_amd64").arch, "x86_64");
  EXPECT_EQ(Platform::of("musllinux_1_2_x86_64").kind, Platform::kMusllinux);
  EXPECT_EQ(Platform::of("macosx_11_0_arm64").kind, Platform::kMac);
  EXPECT_EQ(Platform::of("manylinux_x").kind, Platform::kOther);
  EXPECT_EQ(Interpreter::of("cp312")->minor, 12);
  EXPECT_EQ(Interpreter::of("py3")->minor, -1);
  EXPECT_FALSE(Interpreter::of("cp"));
}

TEST(WheelName, ParsesAndPrints) {
  const std::string name = "sageattention-2.2.0+cu128torch2.8.0-cp312-cp312-linux_x86_64.whl";
  const Result<WheelName> wheel = WheelName::parse(name);
  ASSERT_TRUE(wheel);
  EXPECT_EQ(wheel->str(), name);
  EXPECT_EQ(wheel->version().local(), "cu128torch2.8.0");
  EXPECT_EQ(WheelName::parse("a-1.0-2b-py3-none-any.whl")->build(), "2b");
  EXPECT_EQ(WheelName::make("Sage.Attention", v("1.0"), *parse_tags("py3-none-any")).str(),
            "sage_attention-1.0-py3-none-any.whl");
  for (const char* bad :
       {"a-1.0-py3-none-any.zip", "a-1.0-py3-none.whl", "-1.0-py3-none-any.whl", "a-x-py3-none-any.whl",
        "a-1.0-b-py3-none-any.whl", "a-1.0-py3-none-any(1).whl", "a b-1.0-py3-none-any.whl"})
    EXPECT_FALSE(WheelName::parse(bad)) << bad;
}

TEST(StackLabel, EverySpellingInUse) {
  const auto label = [](const char* local) {
    const StackLabel l = StackLabel::of(local);
    return l.cuda + "|" + l.torch;
  };
  EXPECT_EQ(label("cu128torch2.6.0"), "12.8|2.6.0");
  EXPECT_EQ(label("cu12.8.torch.2.11"), "12.8|2.11");
  EXPECT_EQ(label("pt26cu118"), "11.8|2.6");
  EXPECT_EQ(label("cu130torch2.10"), "13.0|2.10");
  EXPECT_EQ(label("cpu"), "|");
}

}  // namespace
}  // namespace clary::tool::test
