// Building: sources taken over and patched with proof, failures explained and repaired, wheels written anew, and the whole
// verbs init, build, repair and test with programs that are played.
#include "support.h"
#include "wheel/core/engine.h"
#include "wheel/core/first_error.h"
#include "wheel/core/json.h"
#include "wheel/core/manifest.h"
#include "wheel/core/pack.h"
#include "wheel/core/repair.h"
#include "wheel/core/scan.h"
#include "wheel/core/sources.h"
#include "wheel/core/verify.h"

namespace clary::tool::test {
namespace {

const char* const kSetup =
    "\"\"\"A demo\n\nof two lines.\"\"\"\nfrom __future__ import annotations\nimport os\nimport torch\nfrom setuptools "
    "import "
    "setup\nfrom torch.utils.cpp_extension import CUDAExtension\nif torch.cuda.device_count() == 0:\n    raise "
    "RuntimeError(\"No GPUs found\")\nJOBS = os.getenv(\"MAX_JOBS\", \"4\")\nif os.environ.get(\"DEMO_FORCE_BUILD\"): "
    "pass\nflags = "
    "[\"-std=c++17\"]\nsetup(name=\"demo\", version=\"1.0\", python_requires=\">=3.9\", "
    "install_requires=[\"torch>=2.3\"],\n  "
    "ext_modules=[CUDAExtension(\"demo._C\", [\"a.cu\"], extra_compile_args={\"nvcc\": [\"-std=c++17\", "
    "\"-gencode\", \"arch=compute_70,code=sm_70\", \"-gencode\", \"arch=compute_90a,code=sm_90a\"]})])\n";

MemoryWorld& with_sources(MemoryWorld& world) {
  world.disk.files["/s/setup.py"] = kSetup;
  world.disk.files["/s/a.cu"] = "__global__ void k() {}\n";
  world.disk.files["/s/build/old.o"] = "x";
  world.proc.environment["HOME"] = "/h";
  world.proc.programs["pwd -P"] = {0, "/here\n", ""};
  return world;
}

// ---- sources --------------------------------------------------------------------------------------------------------------

TEST(Sources, AnEditFitsExactlyOrNothingIsWritten) {
  MemoryWorld world;
  with_sources(world);
  const Edit good{"setup.py", "-std=c++17", "-std=c++20", "torch 2.15", 2};
  for (const Edit& bad : {Edit{"setup.py", "-std=c++17", "-std=c++20", "", 1},
                          Edit{"setup.py", "no such text", "nor this", "", 0}, Edit{"gone.py", "a", "b", "", 1}})
    EXPECT_FALSE(apply_edit(world.ctx, "/s", bad)) << bad.find;
  EXPECT_TRUE(world.disk.written.empty());
  const Result<Applied> first = apply_edit(world.ctx, "/s", good);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_FALSE(first->already);
  EXPECT_EQ(world.disk.files["/s/setup.py"].find("c++17"), std::string::npos);
  world.disk.written.clear();
  const Result<Applied> again = apply_edit(world.ctx, "/s", good);
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->already);
  EXPECT_TRUE(world.disk.written.empty());
}

TEST(Sources, AMirrorWritesOnlyWhatDiffers) {
  MemoryWorld world;
  with_sources(world);
  ASSERT_TRUE(mirror(world.ctx, "/s", "/w"));
  EXPECT_EQ(world.disk.files["/w/setup.py"], kSetup);
  EXPECT_FALSE(world.disk.files.contains("/w/build/old.o"));
  world.disk.files["/w/a.o"] = "an object";
  world.disk.files["/s/a.cu"] = "other\n";
  world.disk.files.erase("/s/setup.py");
  world.disk.written.clear();
  ASSERT_TRUE(mirror(world.ctx, "/s", "/w"));
  EXPECT_EQ(world.disk.written, (std::set<std::string>{"/w/.clary-files", "/w/a.cu"}));
  EXPECT_FALSE(world.disk.files.contains("/w/setup.py"));  // gone with its original
  EXPECT_TRUE(world.disk.files.contains("/w/a.o"));        // the build's own stays
}

TEST(Sources, PatchesAreCheckedBeforeTheyAreApplied) {
  MemoryWorld world;
  with_sources(world).disk.files["/r/p.patch"] = "--- a/a.cu\n+++ b/a.cu\n";
  EXPECT_NE(apply_patch(world.ctx, "/s", "/r/p.patch").error().message.find("git is not here"), std::string::npos);
  world.proc.programs["git"] = {0, "", ""};
  world.proc.act = [](const Job& job) { return std::optional(Finished{0, "", job.argv[1]}); };
  ASSERT_TRUE(apply_patch(world.ctx, "/s", "/r/p.patch"));
  EXPECT_NE(world.proc.ran[0].find("--check"), std::string::npos);
  EXPECT_EQ(world.proc.ran.size(), 2u);
  world.proc.ran.clear();
  world.proc.act = [](const Job& job) {
    return std::optional(Finished{join(job.argv, " ").find("--reverse") == std::string::npos, "", "error: no"});
  };
  EXPECT_TRUE(apply_patch(world.ctx, "/s", "/r/p.patch")->already);
  world.proc.act = [](const Job&) { return std::optional(Finished{1, "", "error: a.cu: patch does not apply\n"}); };
  EXPECT_EQ(apply_patch(world.ctx, "/s", "/r/p.patch").error().hint, "error: a.cu: patch does not apply");
}

TEST(Fixes, OfTheKnownErrors) {
  MemoryWorld world;
  with_sources(world);
  const auto fix = [&](const char* code, const char* message) { return *find_fix(world.ctx, "/s", code, message); };
  const Fix standard = fix("cxx-standard", "You need C++20");
  ASSERT_EQ(standard.edits.size(), 1u);
  EXPECT_EQ(standard.edits[0].find + " " + standard.edits[0].replace, "-std=c++17 -std=c++20");
  EXPECT_EQ(standard.edits[0].times, 2);

  const Fix arch = fix("unsupported-arch", "nvcc fatal   : Unsupported gpu architecture 'compute_70'");
  ASSERT_EQ(arch.edits.size(), 1u);
  ASSERT_TRUE(apply_edit(world.ctx, "/s", arch.edits[0]));
  EXPECT_EQ(world.disk.files["/s/setup.py"].find("compute_70"), std::string::npos);
  EXPECT_NE(world.disk.files["/s/setup.py"].find("compute_90a"), std::string::npos);

  const Fix gpu = fix("no-gpu-at-build", "RuntimeError: No GPUs found");
  ASSERT_EQ(gpu.edits.size(), 1u);
  ASSERT_TRUE(apply_edit(world.ctx, "/s", gpu.edits[0]));
  const std::string& now = world.disk.files["/s/setup.py"];
  EXPECT_LT(now.find("__future__"), now.find("_torch.cuda.device_count"));
  EXPECT_LT(now.find("_torch.cuda.device_count"), now.find("import os\nimport torch"));
  EXPECT_TRUE(fix("no-gpu-at-build", "again").edits.empty());

  EXPECT_EQ(fix("missing-module", "ModuleNotFoundError: No module named 'einops'").require, Strings{"einops"});
  EXPECT_TRUE(fix("compiler-killed", "Killed").fewer_jobs);
  EXPECT_EQ(fix("host-compiler", "").env.count("NVCC_APPEND_FLAGS"), 1u);
  EXPECT_TRUE(fix("glibc", "").empty());
}

// ---- the first error ------------------------------------------------------------------------------------------------------

TEST(FirstError, IsNotItsConsequences) {
  const auto first = [](const std::string& log) {
    const std::optional<FirstError> e = first_error(log);
    return e ? std::to_string(e->line) + " " + (e->known ? e->known->code : e->text) : "none";
  };
  EXPECT_EQ(first("ok\n[1/9] nvcc a.cu\n  FAILED: a.o\n  a.cu(12): error: identifier \"foo\" is undefined\n  ninja: "
                  "build stopped: "
                  "subcommand failed.\n  subprocess.CalledProcessError: Command '['ninja']' returned non-zero exit "
                  "status 1.\n"),
            "4 a.cu(12): error: identifier \"foo\" is undefined");
  EXPECT_EQ(
      first(
          "Traceback\n  RuntimeError: something\n/t/torch/x.h:4:2: error: #error You need C++20 to compile PyTorch\n"),
      "3 cxx-standard");
  EXPECT_EQ(first("nvcc fatal   : Unsupported gpu architecture 'compute_70'\nERROR: Failed building wheel for demo\n"),
            "1 unsupported-arch");
  EXPECT_EQ(first("g++: fatal error: Killed signal terminated program cc1plus\n"), "1 compiler-killed");
  EXPECT_EQ(first("  ModuleNotFoundError: No module named 'einops'\n"), "1 missing-module");
  EXPECT_EQ(first("ModuleNotFoundError: No module named 'torch'\n"), "1 build-isolation");
  EXPECT_EQ(first("all is well\nwarning: unused\n"), "none");
}

// ---- init -----------------------------------------------------------------------------------------------------------------

TEST(Command, Init) {
  MemoryWorld world;
  with_sources(world);
  std::string said = transcript(world, {"init", "--source", "/s", "--dry-run"});
  EXPECT_TRUE(world.disk.written.empty());
  said += "\n" + transcript(world, {"init", "--source", "/s"}) + "\n" + transcript(world, {"init", "--source", "/s"}) +
          "\n" + transcript(world, {"init", "--source", "/none"});
  expect_snapshot("init", said);
  EXPECT_TRUE(parse_recipe(world.disk.files["/s/clary.toml"], "clary.toml"));
}

// ---- wheels written anew ----------------------------------------------------------------------------------------------------

TEST(Pack, TheSameMembersMakeTheSameBytes) {
  MemoryWorld world;
  WheelSpec spec{.metadata = {"Requires-Dist: torch>=2", "Requires-Dist: numpy"}};
  spec.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(module_spec())});
  world.disk.files[spec.file_name()] = make_wheel(spec);
  const FileFacts facts = *read_facts(world.ctx, spec.file_name(), {});
  Relabel relabel;
  relabel.version = *Version::parse("1.0+cu132torch2.15.0");
  relabel.tags = {{"cp312", "cp312", "manylinux_2_28_x86_64"}};
  relabel.require = {"torch==2.15.*"};
  relabel.notes = {{"clary.json", "{}\n"}};
  const Bytes bytes = bytes_of(world.disk.files[spec.file_name()]);
  const Result<Repacked> a = repack(facts, bytes, relabel), b = repack(facts, bytes, relabel);
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->content, b->content);
  EXPECT_EQ(a->file_name, "demo-1.0+cu132torch2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl");
  world.disk.files[a->file_name] = a->content;
  const FileFacts now = *read_facts(world.ctx, a->file_name, {.digests = true});
  const FileFindings found = verify_facts(now, *load_policy(world.ctx, "torch-locked"), {});
  for (const Finding& f : found.findings) EXPECT_NE(f.severity, Severity::kError) << f.rule->id << " " << f.text;
  EXPECT_EQ(join(now.wheel.metadata.requirement_texts, ", "), "numpy, torch==2.15.*");
  // Written twice, nothing changes; python's zipfile reads it.
  EXPECT_EQ(repack(now, bytes_of(a->content), {})->content, a->content);
  const std::string listed = run_program({"python3", "-m", "zipfile", "--test", temp_file("packed.whl", a->content)});
  EXPECT_NE(listed.find("Done testing"), std::string::npos);
}

TEST(Pack, DifferencesAreNamed) {
  const std::string a = *pack_zip({{"x", "hello", false}, {"y", "1", false}}),
                    b = *pack_zip({{"x", "hellO", false}, {"z", "1", false}});
  EXPECT_TRUE(wheel_differences(bytes_of(a), bytes_of(a)).empty());
  EXPECT_EQ(join(wheel_differences(bytes_of(a), bytes_of(b)), "; "),
            "x: 1 of 5 bytes differ, first at 0x4; y: only in the first; z: only in the second");
  MemoryWorld world;
  world.disk.files["a.whl"] = a, world.disk.files["b.whl"] = b;
  EXPECT_EQ(run_clary(world.ctx, {"verify", "--rebuild", "b.whl", "a.whl"}), kFinding);
  EXPECT_EQ(run_clary(world.ctx, {"verify", "--rebuild", "a.whl", "a.whl"}), kFine);
}

// Programs of others, played; tests/wheel/clients/test_repair.py runs the real ones.
TEST(Repair, LibrariesAreTakenInAndOnlyInsideIsSearched) {
  MemoryWorld world;
  ElfSpec elf = module_spec();
  elf.needed = {"libc.so.6", "libtbb.so.12"}, elf.runpath = "/build/lib:$ORIGIN/../torch/lib";
  WheelSpec before{.name = "foreign"}, after = before;
  const std::string module = "demo/_C.cpython-312-x86_64-linux-gnu.so";
  before.files.push_back({module, make_elf(elf)});
  elf.needed = {"libc.so.6", "libtbb-1.so.12"}, elf.runpath = "$ORIGIN/../foreign.libs:/build/lib";
  after.files.push_back({module, make_elf(elf)});
  elf.soname = "libtbb-1.so.12", elf.needed = {"libc.so.6"}, elf.runpath = "/build/tbb";
  after.files.push_back({"foreign.libs/libtbb-1.so.12", make_elf(elf)});
  const std::string name = before.file_name();
  world.disk.files[name] = make_wheel(before);
  world.disk.files["wheelhouse/.repair/a-stopped-run.whl"] = "torn";
  world.proc.programs["auditwheel"] = world.proc.programs["patchelf"] = {0, "", ""};
  Strings run_paths;
  world.proc.act = [&](const Job& job) -> std::optional<Finished> {
    if (job.argv[0] == "auditwheel") {
      const auto folder = std::find(job.argv.begin(), job.argv.end(), "--wheel-dir") + 1;
      world.disk.files[*folder + "/" + name] = make_wheel(after);
      return Finished{0, "", ""};
    }
    run_paths.push_back(job.argv[1] + (job.argv.size() > 3 ? " " + job.argv[2] : ""));
    return Finished{0, "", ""};
  };
  ASSERT_EQ(run_clary(world.ctx, {"repair", name}), kFine) << world.err.text;
  // Of what auditwheel made, not of what it was given; and what is inside stays.
  std::sort(run_paths.begin(), run_paths.end());
  EXPECT_EQ(run_paths, (Strings{"--remove-rpath", "--set-rpath $ORIGIN/../foreign.libs"}));
  EXPECT_TRUE(world.disk.files.contains("wheelhouse/foreign-1.0-cp312-cp312-manylinux_2_17_x86_64.whl"));
  EXPECT_FALSE(world.disk.info("wheelhouse/.repair"));
  const Strings& asked = world.proc.jobs[0].argv;
  EXPECT_NE(std::find(asked.begin(), asked.end(), "libtorch*"), asked.end()) << "torch's own stay outside";

  world.proc.act = [&](const Job& job) { return std::optional(Finished{1, "", job.argv[0] + " says no\n"}); };
  world.err.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"repair", name}), kFinding);
  EXPECT_EQ(world.err.text, "error: auditwheel: auditwheel says no\n");
}

TEST(Command, Repair) {
  MemoryWorld world;
  WheelSpec good, foreign, high;
  ElfSpec elf = module_spec();
  elf.needed = {"libc.so.6", "libtorch.so", "libcudart.so.13"};
  good.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(elf)});
  elf.needed.push_back("libtbb.so.12");
  foreign.name = "foreign";
  foreign.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(elf)});
  elf = module_spec();
  elf.symbols.push_back({.name = "arc4random", .version = "GLIBC_2.36", .library = "libc.so.6"});
  high.name = "high";
  high.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(elf)});
  for (const WheelSpec* spec : {&good, &foreign, &high}) world.disk.files[spec->file_name()] = make_wheel(*spec);
  std::string said = transcript(world, {"repair", "--dry-run", good.file_name()});
  EXPECT_TRUE(world.disk.written.empty());
  said += "\n" + transcript(world, {"repair", "--plat", "manylinux_2_28", good.file_name()});
  said += "\n" + transcript(world, {"repair", foreign.file_name()});
  said += "\n" + transcript(world, {"repair", "--plat", "manylinux_2_28", high.file_name()});
  expect_snapshot("repair", said);
}

// ---- build ----------------------------------------------------------------------------------------------------------------

struct PlayedBuild {
  MemoryWorld world;
  int builds = 0;
  std::function<Finished(const Job&)> pip = [this](const Job& job) {
    WheelSpec spec{.metadata = {"Requires-Dist: torch>=2.3"}};
    ElfSpec elf = module_spec();
    elf.sections = {{".nv_fatbin", make_fatbin({{.sm = 80, .toolkit = "13.2.86"}})}};
    spec.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(elf)});
    const auto out = std::find(job.argv.begin(), job.argv.end(), "--wheel-dir") + 1;
    world.disk.files[*out + "/" + spec.file_name()] = make_wheel(spec);
    return Finished{0, "[1/1] nvcc\n", ""};
  };
  PlayedBuild() {
    with_sources(world);
    world.proc.environment["CUDA_HOME"] = "/cuda";
    world.proc.act = [this](const Job& job) -> std::optional<Finished> {
      const std::string line = join(job.argv, " ");
      if (line.find("import sys,sysconfig") != line.npos) return Finished{0, "3.12.3 /e/site 0 cpython\n", ""};
      if (line == "/cuda/bin/nvcc --version")
        return Finished{0, "Cuda compilation tools, release 13.2, V13.2.86\n", ""};
      if (line.find("pip wheel") != line.npos) return builds++, pip(job);
      const bool known = line.find(" venv ") != line.npos || line.find("pip install") != line.npos ||
                         line.find("ensurepip") != line.npos;
      return known ? std::optional(Finished{0, "", ""}) : std::nullopt;
    };
  }
  int run(Strings more = {}) {
    Strings args = {"build", "--source", "/s", "--out", "/out", "--torch", "2.15", "--cuda", "13.2", "--arch", "8.0"};
    args.insert(args.end(), more.begin(), more.end());
    world.out.text.clear(), world.err.text.clear();
    return run_clary(world.ctx, args);
  }
  const std::string wheel = "/out/demo-1.0+cu132torch2.15.0-cp312-cp312-linux_x86_64.whl";
};

TEST(Build, MakesThePlannedWheelOnce) {
  PlayedBuild b;
  EXPECT_EQ(b.run({"--dry-run"}), kFine);
  EXPECT_EQ(b.world.out.text, "would build " + b.wheel + "\n");
  EXPECT_EQ(b.run({"--dry-run", "--json"}), kFine);
  EXPECT_EQ(strings_of(*parse_json(b.world.out.text, "dry"), "wheels"), Strings{b.wheel});
  EXPECT_TRUE(b.world.disk.written.empty());
  ASSERT_EQ(b.run(), kFine) << b.world.err.text << b.world.out.text;
  ASSERT_TRUE(b.world.disk.files.contains(b.wheel));
  EXPECT_EQ(b.world.disk.files["/s/setup.py"], kSetup);  // the original is as it was
  const Json report = *parse_json(b.world.disk.files[b.wheel + ".build.json"], "report");
  EXPECT_EQ(report["build"]["state"], "built");
  const Job& job = *std::find_if(b.world.proc.jobs.begin(), b.world.proc.jobs.end(),
                                 [](const Job& j) { return join(j.argv, " ").find("pip wheel") != std::string::npos; });
  EXPECT_EQ(job.env.at("TORCH_CUDA_ARCH_LIST"), "8.0");
  EXPECT_EQ(job.env.at("CUDA_HOME"), "/cuda");
  EXPECT_EQ(job.env.at("SOURCE_DATE_EPOCH"), "315532800");
  EXPECT_NE(join(job.argv, " ").find("--no-build-isolation"), std::string::npos);
  // Nothing changed: nothing is built. Something changed: it is.
  ASSERT_EQ(b.run(), kFine);
  EXPECT_EQ(b.builds, 1);
  EXPECT_NE(b.world.out.text.find("up to date"), std::string::npos);
  b.world.disk.files["/s/a.cu"] += "// more\n";
  ASSERT_EQ(b.run(), kFine);
  EXPECT_EQ(b.builds, 2);
  ASSERT_EQ(b.run({"--no-reuse"}), kFine);
  EXPECT_EQ(b.builds, 3);
}

TEST(Build, ANightlyIsPinnedAndItsHashKept) {
  PlayedBuild b;
  const auto usual = b.world.proc.act;
  b.world.proc.act = [&](const Job& job) {
    if (const auto at = std::find(job.argv.begin(), job.argv.end(), "--report"); at != job.argv.end())
      b.world.disk.files[at[1]] =
          "{\"install\": [{\"metadata\": {\"name\": \"filelock\"}}, {\"metadata\": {\"name\": \"torch\"}, "
          "\"download_info\": {\"archive_info\": {\"hashes\": {\"sha256\": \"f00d\"}}}}]}";
    return usual(job);
  };
  Strings args = {"build", "--source", "/s", "--out", "/out", "--arch", "8.0", "--cuda", "13.2"};
  args.insert(args.end(), {"--torch", "2.16.0.dev20261121"});
  ASSERT_EQ(run_clary(b.world.ctx, args), kFine) << b.world.err.text;
  const std::string wheel = "/out/demo-1.0+cu132torch2.16.0.dev20261121-cp312-cp312-linux_x86_64.whl";
  EXPECT_EQ((*parse_json(b.world.disk.files[wheel + ".build.json"], "report"))["build"]["torch_sha256"], "f00d");
  const Result<FileFacts> facts = read_facts(b.world.ctx, wheel, {.digests = true, .threads = 1});
  EXPECT_EQ(facts->wheel.metadata.requirement("torch")->versions.str(), "==2.16.0.dev20261121");
  EXPECT_EQ(describe(*facts).entry.stack.index_url, "https://download.pytorch.org/whl/nightly/cu132");
}

TEST(Build, TakesTheRecipeOfTheSourcesAlone) {
  const std::string recipe =
      "[package]\nname = \"demo\"\nversion = \"1.0\"\n[matrix]\npython = [\"3.12\"]\nplatform = [\"linux_x86_64\"]\n";
  const std::string foreign = replace_all(recipe, "demo", "foreign"), named = replace_all(recipe, "demo", "named");
  PlayedBuild b;
  b.world.disk.files["clary.toml"] = b.world.disk.files["/here/clary.toml"] = foreign;
  EXPECT_EQ(b.run({"--dry-run"}), kFine);
  EXPECT_EQ(b.world.out.text, "would build " + b.wheel + "\n") << "what init would write";
  EXPECT_NE(b.world.err.text.find("no clary.toml"), std::string::npos);
  b.world.disk.files["/s/clary.toml"] = recipe;
  EXPECT_EQ(b.run({"--dry-run"}), kFine);
  EXPECT_EQ(b.world.out.text, "would build " + b.wheel + "\n");
  EXPECT_EQ(b.world.err.text, "");
  b.world.disk.files["/other/named.toml"] = named;
  EXPECT_EQ(b.run({"--dry-run", "--recipe", "/other/named.toml"}), kFine);
  EXPECT_EQ(b.world.out.text, "would build " + replace_all(b.wheel, "demo", "named") + "\n");
  b.world.out.text.clear();
  EXPECT_EQ(run_clary(b.world.ctx, {"build", "--dry-run", "--out", "/out", "--torch", "2.15", "--cuda", "13.2"}),
            kFine);
  EXPECT_EQ(b.world.out.text, "would build " + replace_all(b.wheel, "demo", "foreign") + "\n") << "of this folder";
}

TEST(Build, ExplainsAFailureAndRepairsItWhenAsked) {
  PlayedBuild b;
  const auto good = b.pip;
  b.pip = [&](const Job& job) {
    const std::string& source = b.world.disk.files[job.folder + "/setup.py"];
    if (source.find("_torch.cuda") == source.npos) return Finished{1, "RuntimeError: No GPUs found\n", ""};
    if (source.find("-std=c++17") != source.npos)
      return Finished{1, "x.h:1:2: error: #error You need C++20 to compile PyTorch\n", ""};
    return good(job);
  };
  EXPECT_EQ(b.run(), kFinding);
  EXPECT_NE(b.world.out.text.find("no-gpu-at-build"), std::string::npos);
  EXPECT_NE(b.world.out.text.find("`clary build --fix` would change"), std::string::npos);
  EXPECT_FALSE(b.world.disk.files.contains(b.wheel));
  ASSERT_EQ(b.run({"--fix"}), kFine) << b.world.out.text << b.world.err.text;
  EXPECT_EQ(b.builds, 4);
  EXPECT_TRUE(b.world.disk.files.contains(b.wheel));
  EXPECT_EQ(b.world.disk.files["/s/setup.py"], kSetup);
  EXPECT_NE(b.world.out.text.find("[[patch]]"), std::string::npos);
}

TEST(Build, SaysWhenTheWheelIsNotThePlannedOne) {
  PlayedBuild b;
  b.pip = [&](const Job& job) {
    const auto out = std::find(job.argv.begin(), job.argv.end(), "--wheel-dir") + 1;
    WheelSpec spec{.version = "1.1"};
    b.world.disk.files[*out + "/" + spec.file_name()] = make_wheel(spec);
    return Finished{0, "", ""};
  };
  EXPECT_EQ(b.run(), kFinding);
  EXPECT_NE(b.world.err.text.find("the build made version 1.1, the recipe says 1.0"), std::string::npos)
      << b.world.err.text;
  b.pip = [](const Job&) { return Finished{0, "", ""}; };
  EXPECT_EQ(b.run(), kFinding);
  EXPECT_NE(b.world.err.text.find("the build made no wheel"), std::string::npos);
}

TEST(Build, EnginesAreStepsOfOtherPrograms) {
  PlayedBuild b;
  EXPECT_EQ(b.run({"--engine", "docker"}), kFinding);
  EXPECT_NE(b.world.err.text.find("not on this machine: docker"), std::string::npos);
  for (const char* engine : {"docker", "podman", "cibuildwheel"}) {
    PlayedBuild c;
    c.world.proc.programs[engine] = {0, "", ""};
    c.world.proc.act = [&](const Job& job) -> std::optional<Finished> {
      if (job.argv[0] == engine) return Finished{1, "", "error: no daemon\n"};
      return join(job.argv, " ").find("import sys") != std::string::npos
                 ? std::optional(Finished{0, "3.12.3 /e/site 0 cpython\n", ""})
                 : std::nullopt;
    };
    EXPECT_EQ(c.run({"--engine", engine}), kFinding);
    const Job& job = c.world.proc.jobs.back();
    EXPECT_EQ(job.argv[0], engine);
    const bool file = std::any_of(c.world.disk.files.begin(), c.world.disk.files.end(), [&](const auto& f) {
      return f.second.find("demo-1.0+cu132torch2.15.0-cp312") != std::string::npos &&
             (f.first.ends_with("/Dockerfile") || f.first.ends_with("/cibuildwheel.toml"));
    });
    EXPECT_TRUE(file) << engine;
    EXPECT_NE(c.world.out.text.find("no daemon"), std::string::npos) << c.world.out.text;
  }
}

// The network goes with a flag that every podman knows, not by RUN's, which came in 4.5; values reach ENV as they are.
TEST(Build, PodmanCompilesWithoutNetwork) {
  PlayedBuild b;
  b.world.proc.programs["podman"] = {0, "", ""};
  b.world.disk.files["/s/clary.toml"] =
      "[package]\nname = \"demo\"\nversion = \"1.0\"\n[matrix]\npython = [\"3.12\"]\n[build]\nrequires = "
      "[\"setuptools\"]\nenv = { RPATH = \"$ORIGIN/{source}\" }\n";
  std::string dockerfile;
  Strings lines;
  const auto usual = b.world.proc.act;
  b.world.proc.act = [&](const Job& job) {
    if (job.argv[0] != "podman") return usual(job);
    lines.push_back(join(job.argv, " ")), dockerfile = b.world.disk.files[job.argv[3]];
    return std::optional(Finished{0, "", ""});
  };
  EXPECT_EQ(b.run({"--engine", "podman"}), kFinding);  // the played podman makes no wheel
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_NE(lines[0].find(" --target environment /"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find(" --network none --target wheel --output type=local,dest=/"), std::string::npos) << lines[1];
  for (const char* part : {"\nRUN python -m pip wheel", " RPATH=\"\\$ORIGIN//src\""})
    EXPECT_NE(dockerfile.find(part), std::string::npos) << dockerfile;
}

TEST(Toolchain, ThePackageIndexHasNvccFrom13On) {
  EXPECT_EQ(join(*toolkit_packages(*Version::parse("13.2")), " "),
            "nvidia-cuda-nvcc==13.2.* nvidia-nvvm==13.2.* nvidia-cuda-crt==13.2.* nvidia-cuda-runtime==13.2.* "
            "nvidia-cuda-cccl>=13.0,<13.3");
  EXPECT_FALSE(toolkit_packages(*Version::parse("12.8")));
  MemoryWorld world;
  world.disk.files["/t/lib/libcudart.so.13"] = "x";
  EXPECT_EQ(join(*repair_links(world.ctx, "/t"), " "), "lib/libcudart.so lib64");
  EXPECT_EQ(world.disk.links["/t/lib64"], "lib");
  EXPECT_TRUE(repair_links(world.ctx, "/t")->empty());
}

// ---- test -----------------------------------------------------------------------------------------------------------------

TEST(Command, Test) {
  MemoryWorld world;
  world.proc.environment["HOME"] = "/h";
  world.proc.programs["pwd -P"] = {0, "/here\n", ""};
  std::string verdict =
      "[[\"import\",\"demo\",\"ok\",\"\"],[\"load\",\"demo/_C.so\",\"ok\",\"\"],[\"call\",\"demo:f\",\"ok\",\"relative "
      "L2 error 0.0001\"]]\n";
  world.proc.act = [&](const Job& job) -> std::optional<Finished> {
    const std::string line = join(job.argv, " ");
    if (line.find("import sys,sysconfig") != line.npos) return Finished{0, "3.12.3 /e/site 0 cpython\n", ""};
    if (line.find("probe.py") != line.npos) return Finished{0, "hello\n" + verdict, ""};
    return job.argv[0] == "pwd" ? std::nullopt : std::optional(Finished{0, "", ""});
  };
  WheelSpec spec, other{.tag = "cp311-cp311-linux_x86_64"};
  world.disk.files["/here/" + spec.file_name()] = make_wheel(spec);
  world.disk.files["/here/" + other.file_name()] = make_wheel(other);
  EXPECT_EQ(run_clary(world.ctx, {"test", "--dry-run", "--json", spec.file_name()}), kFine);
  const Result<Json> dry = parse_json(world.out.text, "dry");
  ASSERT_TRUE(dry) << world.out.text;
  EXPECT_EQ(text_of((*dry)["trials"][0], "where"), "Python 3.12.3");
  std::string said =
      transcript(world, {"test", spec.file_name()}) + "\n" + transcript(world, {"test", "--json", spec.file_name()});
  verdict = "[[\"load\",\"demo/_C.so\",\"failed\",\"OSError: undefined symbol: x\"]]\n";
  said += "\n" + transcript(world, {"test", spec.file_name()});
  verdict = "Segmentation fault\n";
  said += "\n" + transcript(world, {"test", spec.file_name()}) + "\n" + transcript(world, {"test", other.file_name()}) +
          "\n" + transcript(world, {"test", "--image", "some/image", spec.file_name()});
  expect_snapshot("test", said);
}

}  // namespace
}  // namespace clary::tool::test
