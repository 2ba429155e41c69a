// The matrix: what is planned, what is refused and why, and the forms other tools read.
#include <ctime>
#include <set>

#include "support.h"
#include "wheel/core/emit.h"
#include "wheel/core/json.h"
#include "wheel/core/matrix.h"
#include "wheel/core/tag.h"

namespace clary::tool::test {
namespace {

Recipe recipe(Strings torch, Strings cuda, Strings python, std::string arch = "auto") {
  Recipe r;
  r.name = "sageattention", r.version = *Version::parse("2.2.0");
  r.torch = std::move(torch), r.cuda = std::move(cuda), r.python = std::move(python), r.arch = std::move(arch);
  return r;
}

Matrix plan(const Recipe& r) {
  Result<Matrix> matrix = make_matrix(r, {8, 32000});
  EXPECT_TRUE(matrix) << matrix.error().message;
  return matrix ? *std::move(matrix) : Matrix{};
}

TEST(Matrix, NamesAsTheSeedsWriteThem) {
  Recipe r = recipe({"2.8.0"}, {"12.9"}, {"3.12"}, "8.0 8.6 8.9 9.0 12.0");
  r.platform = {"linux_x86_64", "win_amd64"};
  const Matrix m = plan(r);
  ASSERT_EQ(m.cells.size(), 2u);
  EXPECT_EQ(m.cells[0].wheel, "sageattention-2.2.0+cu129torch2.8.0-cp312-cp312-linux_x86_64.whl");
  EXPECT_EQ(m.cells[1].wheel, "sageattention-2.2.0+cu129torch2.8.0-cp312-cp312-win_amd64.whl");
  EXPECT_EQ(m.cells[0].id, "t280-cu129-cp312-lx64");
  r.local = "cu{cuda}torch{torch-line}";
  EXPECT_EQ(plan(r).cells[0].wheel, "sageattention-2.2.0+cu129torch2.8-cp312-cp312-linux_x86_64.whl");
}

TEST(Matrix, ANightlyByItsWholeVersion) {
  const Cell cell = plan(recipe({"2.16.0.dev20261121"}, {"13.2"}, {"3.12"})).cells.at(0);
  EXPECT_EQ(cell.wheel, "sageattention-2.2.0+cu132torch2.16.0.dev20261121-cp312-cp312-linux_x86_64.whl");
  EXPECT_EQ(cell.id, "t2160dev20261121-cu132-cp312-lx64");
  EXPECT_EQ(cell.index_url, "https://download.pytorch.org/whl/nightly/cu132");
  EXPECT_EQ(cell.cxx, 20);
  EXPECT_NE(cell.note.find("is a nightly"), std::string::npos);
  EXPECT_TRUE(plan(recipe({"2.16.0.dev20261121"}, {"12.6"}, {"3.12"})).cells.empty());  // as 2.15, its nearest
  for (const char* none : {"nightly", "2.16.0", "3.0.0.dev1", "2.16.0.dev1+cu132"})
    EXPECT_FALSE(make_matrix(recipe({none}, {"13.2"}, {"3.12"}), {4, 16000})) << none;
}

TEST(Matrix, ImpossibleCellsSayWhy) {
  const auto why = [](const Recipe& r) {
    const Matrix m = plan(r);
    return m.cells.empty() && m.refused.size() == 1 ? m.refused[0].reason : "planned";
  };
  EXPECT_EQ(why(recipe({"2.7.0"}, {"12.9"}, {"3.12"})),
            "torch 2.7.0 was published for CUDA 11.8, 12.6, 12.8, not 12.9");
  EXPECT_EQ(why(recipe({"2.6.0"}, {"12.6"}, {"3.14"})),
            "torch 2.6.0 has wheels for Python 3.9 3.10 3.11 3.12 3.13 3.13t, not 3.14");
  EXPECT_EQ(why(recipe({"2.7"}, {"12.6"}, {"3.12"}, "12.0")), "sm_120 needs CUDA 12.8 or newer, not CUDA 12.6");
  Recipe r = recipe({"2.5.1"}, {"12.4"}, {"3.12"});
  r.platform = {"linux_aarch64"};
  EXPECT_EQ(why(r), "torch 2.5.1 has no CUDA wheels for aarch64");
  r = recipe({"2.8"}, {"12.8"}, {"3.12"});
  r.excludes = {{"2.8.*", "12.8", "*", "*", "known to crash"}};
  EXPECT_EQ(why(r), "known to crash");
}

TEST(Matrix, ACudaPublishedApartIsPlannedOnlyByName) {
  EXPECT_EQ(plan(recipe({"2.9.1"}, {}, {"3.12"})).cells.size(), 3u);
  const Matrix m = plan(recipe({"2.9.1"}, {"12.9"}, {"3.12"}));
  ASSERT_EQ(m.cells.size(), 1u);
  EXPECT_EQ(m.cells[0].note, "CUDA 12.9 was published for torch 2.9.1 apart from the release matrix");
}

TEST(Matrix, AnOpenAxisRefusesNothing) {
  const Matrix m = plan(recipe({}, {}, {}));
  EXPECT_TRUE(m.refused.empty());
  EXPECT_GT(m.cells.size(), 200u);
  std::set<std::string> names;
  for (const Cell& c : m.cells) {
    EXPECT_TRUE(names.insert(c.wheel).second) << c.wheel;
    EXPECT_TRUE(WheelName::parse(c.wheel)) << c.wheel;
    EXPECT_GE(c.jobs, 1);
    EXPECT_FALSE(c.archs.check(*Version::parse(c.cuda))) << c.id;
  }
}

TEST(Matrix, Selections) {
  const auto torches = [](Strings wanted) {
    Strings out;
    for (const Cell& c : plan(recipe(std::move(wanted), {}, {"3.11"})).cells) {
      if (out.empty() || out.back() != c.torch) out.push_back(c.torch);
    }
    return join(out, " ");
  };
  EXPECT_EQ(torches({"2.7", "2.6.0"}), "2.6.0 2.7.1");
  EXPECT_EQ(torches({">=2.6,<2.9"}), "2.6.0 2.7.1 2.8.0");
  EXPECT_EQ(torches({"newest"}), tables().torch.back().version.str());
  EXPECT_EQ(make_matrix(recipe({"3.7"}, {}, {}), {}).error().message, "no such torch: `3.7`");
  EXPECT_EQ(make_matrix(recipe({}, {"12.7"}, {}), {}).error().message, "no such CUDA: `12.7`");
  EXPECT_EQ(make_matrix(recipe({}, {}, {"2.7"}), {}).error().message, "no such Python: `2.7`");
  Recipe r = recipe({}, {}, {});
  r.platform = {"linux_x8664"};
  EXPECT_EQ(make_matrix(r, {}).error().hint.substr(0, 28), "did you mean `linux_x86_64`?");
}

TEST(Matrix, FreeThreadedAbi3AndOneForAll) {
  EXPECT_EQ(plan(recipe({"2.9"}, {"12.8"}, {"3.13t"})).cells[0].wheel,
            "sageattention-2.2.0+cu128torch2.9.1-cp313-cp313t-linux_x86_64.whl");
  Recipe r = recipe({"2.9"}, {"12.8"}, {});
  r.python_abi = "abi3";
  ASSERT_EQ(plan(r).cells.size(), 1u);
  EXPECT_EQ(plan(r).cells[0].wheel, "sageattention-2.2.0+cu128torch2.9.1-cp39-abi3-linux_x86_64.whl");
  r.python_abi = "none", r.torch_abi = "none";
  r.platform = {"manylinux_2_28_x86_64"};
  ASSERT_EQ(plan(r).cells.size(), 1u);
  EXPECT_EQ(plan(r).cells[0].wheel, "sageattention-2.2.0-py3-none-manylinux_2_28_x86_64.whl");
}

TEST(Matrix, JobsComeFromMemory) {
  EXPECT_EQ(jobs_for({64, 16000}, 2800), 5);
  EXPECT_EQ(jobs_for({2, 64000}, 2800), 2);
  EXPECT_EQ(jobs_for({8, 1000}, 2800), 1);
  const Cell small = make_matrix(recipe({"2.8"}, {"12.8"}, {"3.12"}), {2, 8000})->cells[0],
             large = make_matrix(recipe({"2.8"}, {"12.8"}, {"3.12"}), {16, 64000})->cells[0];
  EXPECT_GT(small.minutes, large.minutes);
  EXPECT_LT(small.memory_mb, large.memory_mb);
}

TEST(Matrix, OldCxxAbiIsKnown) {
  EXPECT_FALSE(plan(recipe({"2.5"}, {"12.4"}, {"3.12"})).cells[0].cxx11abi);
  EXPECT_TRUE(plan(recipe({"2.6"}, {"12.6"}, {"3.12"})).cells[0].cxx11abi);
  EXPECT_EQ(plan(recipe({"2.15"}, {"13.0"}, {"3.12"})).cells[0].cxx, 20);
}

TEST(Matrix, TheFullOneTakesUnderATenthOfASecond) {
  Recipe r = recipe({}, {}, {});
  r.platform = {"all"};
  (void)tables();
  const std::clock_t begin = std::clock();
  const Matrix m = plan(r);
  const std::string json = plan_json(m, r, {8, 32000});
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC,
            1.0);  // of the processor; measured 0.05, without sanitizers
  EXPECT_GT(m.cells.size(), 1000u);
}

TEST(Emit, GithubShardsAt256) {
  Recipe r = recipe({}, {}, {});
  r.platform = {"all"};
  const Matrix m = plan(r);
  size_t jobs = 0;
  std::string shards;
  const std::string said = plan_github(m);
  for (std::string_view line : lines(said)) {
    const size_t equals = line.find('=');
    if (line.starts_with("shards=")) shards = line.substr(equals + 1);
    if (!line.starts_with("matrix_")) continue;
    const Result<Json> json = parse_json(line.substr(equals + 1), "matrix");
    ASSERT_TRUE(json);
    EXPECT_LE((*json)["include"].size(), kGithubJobs);
    EXPECT_LT(line.size(), 1u << 20);
    jobs += (*json)["include"].size();
  }
  EXPECT_EQ(jobs, m.cells.size());
  EXPECT_EQ(parse_json(shards, "")->size(), (jobs + 255) / 256);
  EXPECT_EQ(plan_github({}), "count=0\nempty=true\nshards=[]\n");
}

TEST(Emit, ShardsAreAPartition) {
  std::set<std::string> seen;
  const size_t all = plan(recipe({}, {}, {"3.12"})).cells.size();
  for (size_t i = 1; i <= 7; i++) {
    Matrix m = plan(recipe({}, {}, {"3.12"}));
    take_shard(m, {i, 7});
    for (const Cell& c : m.cells) EXPECT_TRUE(seen.insert(c.id).second);
  }
  EXPECT_EQ(seen.size(), all);
  for (const char* bad : {"0/2", "3/2", "1", "a/b", "1/", "/2", "-1/2"}) EXPECT_FALSE(parse_shard(bad)) << bad;
}

TEST(Emit, TomlAndYamlParse) {
  const Matrix m = plan(recipe({"2.8"}, {"12.8"}, {"3.11", "3.12"}));
  const Result<std::string> cibw = plan_cibuildwheel(m);
  ASSERT_TRUE(cibw);
  const Result<Json> toml = parse_toml(*cibw, "cibw");
  ASSERT_TRUE(toml) << toml.error().message;
  EXPECT_EQ((*toml)["tool"]["cibuildwheel"]["build"],
            Json::array({"cp311-manylinux_x86_64", "cp312-manylinux_x86_64"}));
  EXPECT_FALSE(plan_cibuildwheel(plan(recipe({"2.7", "2.8"}, {"12.8"}, {"3.12"}))));
  const std::string yaml = *plan_compose(m);
  const std::string said = oracle_python(
      "import sys\ntry: import yaml\nexcept ImportError: print('none'); raise "
      "SystemExit\nprint(sorted(yaml.safe_load(open(sys.argv[1]))['services']))\n",
      yaml);
  if (!said.empty() && said != "none\n") {
    EXPECT_EQ(said, "['t280-cu128-cp311-lx64', 't280-cu128-cp312-lx64']\n");
  }
}

TEST(Recipe, MistakesAreNamed) {
  const auto why = [](const std::string& text) {
    const Result<Recipe> r = parse_recipe(text, "clary.toml");
    return r ? std::string("fine") : r.error().message;
  };
  const std::string package = "[package]\nname = \"a\"\nversion = \"1\"\n";
  EXPECT_EQ(why(package), "fine");
  EXPECT_EQ(why("[package]\nversion = \"1\"\n"), "no [package] name in clary.toml");
  EXPECT_EQ(why("[package]\nname = \"a\"\nversion = \"x\"\n"),
            "no [package] version in clary.toml: not a PEP 440 version: `x`");
  EXPECT_EQ(why(package + "[matrix]\ntorhc = \"2.8\"\n"), "unknown key in clary.toml [matrix]: `torhc`");
  EXPECT_EQ(why(package + "[[exclude]]\ntorch = \"2.8\"\n"), "an [[exclude]] without a reason in clary.toml");
  EXPECT_EQ(why(package + "[matrix]\npython-abi = \"abi4\"\n"), "unknown value of python-abi: `abi4`");
  EXPECT_EQ(why("= 1").find("not TOML: clary.toml:1: "), 0u) << why("= 1");  // what follows is toml++'s
}

}  // namespace
}  // namespace clary::tool::test
