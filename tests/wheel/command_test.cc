// Whole commands in a world in memory: what they print where, how they exit, what they write.
#include "support.h"
#include "wheel/core/catalog.h"
#include "wheel/core/cli.h"
#include "wheel/core/embed.h"
#include "wheel/core/finding.h"
#include "wheel/core/json.h"

namespace clary::tool::test {
namespace {

// A demo wheel with a module of GPU code.
std::string demo_wheel(const std::string& version = "1.0+cu128torch2.8.0") {
  WheelSpec spec{.version = version,
                 .metadata = {"Summary: a demo", "Requires-Python: >=3.12", "Requires-Dist: torch==2.8.*",
                              "Requires-Dist: pytest; extra == \"test\""}};
  ElfSpec elf = module_spec();
  elf.needed = {"libc.so.6", "libc10.so", "libcudart.so.12"};
  elf.symbols.push_back({.name = "_ZN3c106detail14torchCheckFailEPKcS2_jS2_"});
  elf.sections = {
      {".nv_fatbin", make_fatbin({{.sm = 80, .packing = 'l', .padding = 900},
                                  {.sm = 120, .feature = 'a', .padding = 900},
                                  {.kind = 'p', .sm = 120, .feature = 'a', .packing = 'l', .isa = "8.7"}})}};
  spec.files.push_back({"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf(elf)});
  return make_wheel(spec);
}
const char* const kDemo = "demo-1.0+cu128torch2.8.0-cp312-cp312-linux_x86_64.whl";

MemoryWorld& with_demo(MemoryWorld& world) {
  world.disk.files[kDemo] = demo_wheel();
  return world;
}

TEST(Command, Overview) {
  MemoryWorld world;
  expect_snapshot("overview", transcript(world, {"--help"}) + "\n" + transcript(world, {}) + "\n" +
                                  transcript(world, {"inspct"}) + "\n" + transcript(world, {"--version"}));
}

TEST(Command, WrongUse) {
  MemoryWorld world;
  expect_snapshot("wrong-use",
                  transcript(world, {"verify", "--polcy", "x", "a.whl"}) + "\n" + transcript(world, {"verify"}) + "\n" +
                      transcript(world, {"verify", "--policy", "pipy", "a.whl"}) + "\n" +
                      transcript(world, {"verify", "--format", "xml", "a.whl"}) + "\n" +
                      transcript(world, {"inspect", "gone.whl"}) + "\n" +
                      transcript(world, {"plan", "--machine", "big", "--name", "a", "--version", "1"}) + "\n" +
                      transcript(world, {"doctor", "extra"}) + "\n" + transcript(world, {"completion", "tcsh"}) + "\n" +
                      transcript(world, {"verify", "--policy"}));
}

TEST(Command, Inspect) {
  MemoryWorld world;
  with_demo(world).disk.files["k.cubin"] = make_cubin({.sm = 90, .feature = 'a'});
  world.disk.files["_C.pyd"] = make_pe({.imports = {{"python312.dll", {"PyModule_Create2"}}, {"c10.dll", {"x"}}},
                                        .exports = {"PyInit__C"},
                                        .fatbin = ""});
  world.disk.files["notes.txt"] = "hello";
  expect_snapshot("inspect", transcript(world, {"inspect", kDemo, "k.cubin", "_C.pyd", "notes.txt"}));
  expect_snapshot("inspect-json", transcript(world, {"inspect", "--json", "--symbols", kDemo}));
  expect_snapshot("inspect-images", transcript(world, {"inspect", "--images", "--symbols", kDemo}));
}

TEST(Command, InspectHidesHostileNames) {
  MemoryWorld world;
  WheelSpec spec;
  spec.unrecorded = {{.name = "demo/\x1b]0;owned\x07.py", .content = "x"}};
  world.disk.files[spec.file_name()] = make_wheel(spec);
  for (const Strings& args : {Strings{"inspect", spec.file_name()}, Strings{"verify", spec.file_name()}}) {
    const std::string said = transcript(world, args);
    EXPECT_EQ(said.find('\x1b'), said.npos);
    EXPECT_EQ(said.find('\x07'), said.npos);
  }
}

TEST(Command, Verify) {
  MemoryWorld world;
  with_demo(world);
  expect_snapshot("verify", transcript(world, {"verify", kDemo}) + "\n" +
                                transcript(world, {"verify", "--strict", "--require", "8.0 9.0 12.0+PTX", "--driver",
                                                   "525.60.13", kDemo}));
  expect_snapshot("verify-json", transcript(world, {"verify", "--json", "--policy", "pypi", kDemo}));
  expect_snapshot("verify-sarif", transcript(world, {"verify", "--format", "sarif", kDemo}));
}

TEST(Command, Plan) {
  MemoryWorld world;
  world.disk.files["/proc/meminfo"] = "MemTotal:       32000000 kB\nMemFree: 1 kB\n";
  const Strings seed = {"plan",
                        "--name",
                        "sageattention",
                        "--version",
                        "2.2.0",
                        "--torch",
                        "2.6 2.7 2.8",
                        "--cuda",
                        "12.8 12.9",
                        "--python",
                        "3.12",
                        "--platform",
                        "linux_x86_64 win_amd64",
                        "--arch",
                        "8.0 8.6 8.9 9.0 12.0"};
  expect_snapshot("plan", transcript(world, seed));
  const Strings one = {"plan",   "--name", "demo",     "--version", "1.0",    "--torch",       "2.8",
                       "--cuda", "12.8",   "--python", "3.12",      "--arch", "8.0 12.0a+PTX", "--format"};
  for (const char* form : {"json", "github", "cibuildwheel", "compose", "dockerfile"}) {
    Strings args = one;
    args.push_back(form);
    expect_snapshot(std::string("plan-") + form, transcript(world, args));
  }
}

TEST(Command, PlanFromARecipe) {
  MemoryWorld world;
  world.disk.files["clary.toml"] =
      "[package]\nname = \"demo\"\nversion = \"1.0\"\n[matrix]\ntorch = \"2.7\"\ncuda = [\"12.6\", \"12.8\"]\npython = "
      "\"3.12\"\narch = \"8.0 12.0\"\n[[exclude]]\ntorch = \"2.7.*\"\ncuda = \"12.6\"\nreason = \"too old\"\n";
  expect_snapshot("plan-recipe", transcript(world, {"plan"}) + "\n" +
                                     transcript(world, {"plan", "--torch", "2.8", "--strict"}) + "\n" +
                                     transcript(world, {"plan", "--cuda", "12.6", "--format", "compose"}));
  MemoryWorld empty;
  empty.proc.environment["TORCH_CUDA_ARCH_LIST"] = "9.0";
  expect_snapshot("plan-no-recipe", transcript(empty, {"plan"}) + "\n" +
                                        transcript(empty, {"plan", "--name", "a", "--version", "1", "--torch", "2.8",
                                                           "--cuda", "12.8", "--python", "3.12"}));
}

TEST(Command, Explain) {
  MemoryWorld world;
  world.disk.files["build.log"] =
      "ok\n[1/9] nvcc ...\nnvcc fatal   : Unsupported gpu architecture 'compute_120'\nninja: build stopped\nc++: fatal "
      "error: Killed signal terminated program cc1plus\n";
  expect_snapshot(
      "explain",
      transcript(world, {"explain", "W3.traversal"}) + "\n" + transcript(world, {"explain", "t1"}) + "\n" +
          transcript(world, {"explain",
                             "ImportError: _fused.so: undefined symbol: _ZN3c106detail14torchCheckFailEPKcS2_jS2_"}) +
          "\n" + transcript(world, {"explain", "--log", "build.log"}) + "\n" +
          transcript(world, {"explain", "W3.traversel"}) + "\n" +
          transcript(world, {"explain", "nothing is wrong here"}));
  world.out.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"explain", "--json"}), kFine);
  EXPECT_EQ((*parse_json(world.out.text, "explain"))["entries"].size(), catalog().size());
}

// users.md and wheels.md: the strings people paste. Each is recognised.
TEST(Command, ExplainKnowsWhatPeoplePaste) {
  const Strings pasted = {
      "undefined symbol: _ZN3c106detail14torchCheckFailEPKcS2_jS2_",
      "ImportError: DLL load failed while importing _fused: The specified module could not be found.",
      "DLL load failed while importing _qattn",
      "ERROR: sageattention-2.2.0-cp311-cp311-win_amd64.whl is not a supported wheel on this platform.",
      "ERROR: Could not find a version that satisfies the requirement sageattention==2.2.0 (from versions: 1.0.6)",
      "The detected CUDA version (12.0) mismatches the version that was used to compile PyTorch (12.8)",
      "OSError: Cannot find CUDA_HOME. CUDA must be available to build the package.",
      "RuntimeError: No GPUs found",
      "RuntimeError: CUDA error: no kernel image is available for execution on the device",
      "AssertionError: SM89 kernel is not available",
      "ValueError: Unsupported CUDA architecture: sm75",
      "sageattn3 only supports Blackwell GPUs or newer",
      "headdim should be in [64, 96, 128]",
      "ValueError: Unsupported head_dim: 256",
      "Input tensors must be in dtype of torch.float16 or torch.bfloat16",
      "'tt.load' op operation destroyed but still has uses",
      "tcc: error: include file 'Python.h' not found",
      "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 157696",
      "/lib64/libc.so.6: version `GLIBC_2.32' not found (required by flash_attn_2_cuda.so)",
      "GLIBC_2.32 not found",
      "RuntimeWarning: invalid value encountered in cast",
      "Graph break due to unsupported builtin sageattention._fused.PyCapsule.quant",
      "torch.* op returned non-Tensor: torch.cuda.device_count",
      "Fatal Python error: Aborted",
      "sageattention is not new enough version or could not determine CUDA architecture",
      "CUDA extension not installed for sm_120",
      "ImportError: cannot import name '_qattn_sm120' from 'sageattention'",
      "Sage3 is only supported on CUDA 12.8 and above",
      "Unsupported GPU",
      "ModuleNotFoundError: No module named 'sageattn3'",
      "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
      "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)",
      "CUDA_ERROR_NO_BINARY_FOR_GPU",
      "nvcc error: The same GPU code (`sm_100f`) generated for non family-specific and family-specific GPU arch",
      "HTTP 422: size must be less than 2147483648",
      "nvcc fatal   : Unsupported gpu architecture 'compute_120a'",
      "#error You need C++20 to compile PyTorch",
      "c++: fatal error: Killed signal terminated program cc1plus",
      "ERROR: ResolutionImpossible: for help visit",
      "fatal error: cuda_runtime.h: No such file or directory",
      "/usr/bin/ld: cannot find -lcudart",
      "Error: Matrix vector 'include' does not contain any values"};
  for (const std::string& text : pasted) EXPECT_FALSE(recognise(text).empty()) << text;
  for (const char* innocent : {"Successfully installed torch-2.8.0", "building wheel", "warning: unused variable", ""})
    EXPECT_TRUE(recognise(innocent).empty()) << innocent;
}

TEST(Command, Doctor) {
  MemoryWorld bare;
  bare.proc.programs["getconf GNU_LIBC_VERSION"] = {0, "glibc 2.36\n", ""};
  bare.disk.files["/proc/meminfo"] = "MemTotal:       2000000 kB\n";
  bare.disk.free = 500'000'000;
  MemoryWorld full;
  full.disk.files["/proc/meminfo"] = "MemTotal:       65000000 kB\n";
  full.disk.files["/sys/fs/cgroup/cpu.max"] = "250000 100000\n";
  full.disk.files["/sys/fs/cgroup/memory.max"] = "34359738368\n";
  full.disk.files["/sys/module/nvidia/version"] = "570.86.10\n";
  full.disk.files["/v/lib/torch/version.py"] = "__version__ = '2.15.0+cu130'\ncuda: Optional[str] = '13.0'\n";
  full.proc.core_count = 16;
  full.proc.environment = {
      {"VIRTUAL_ENV", "/v"}, {"HF_TOKEN", "hf_secretsecretsecret"}, {"CUDA_HOME", "/usr/local/cuda-12.8"}};
  full.proc.programs["getconf GNU_LIBC_VERSION"] = {0, "glibc 2.27\n", ""};
  full.proc.act = [](const Job& job) -> std::optional<Finished> {
    const bool asked = job.argv[0] == "/v/bin/python" && job.argv.back().starts_with("import sys,sysconfig");
    return asked ? std::optional(Finished{0, "3.12.3 /v/lib 0 cpython\n", ""}) : std::nullopt;
  };
  full.proc.programs["/v/bin/python -I -m pip --version"] = {0, "pip 26.3 from /v/lib/pip (python 3.12)\n", ""};
  full.proc.programs["nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader"] = {
      0, "NVIDIA GeForce RTX 5090, 12.0\n", ""};
  full.proc.programs["/usr/local/cuda-12.8/bin/nvcc --version"] = {
      0, "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.8, V12.8.93\n", ""};
  full.proc.programs["g++ --version"] = {0, "g++ 12.2.0\nmore\n", ""};
  full.proc.programs["docker --version"] = {0, "Docker version 28.2.2\n", ""};
  const std::string said = transcript(bare, {"doctor"}) + "\n" +
                           transcript(full, {"doctor", "--bundle", "report.txt"}) + "\n" +
                           transcript(full, {"doctor", "--json"});
  EXPECT_EQ(said.find("secret"), said.npos);
  EXPECT_EQ(full.disk.files["report.txt"].find("secret"), std::string::npos);
  expect_snapshot("doctor", said);
}

TEST(Command, Index) {
  MemoryWorld world;
  for (const char* version : {"1.0+cu128torch2.8.0", "1.0+cu130torch2.11.0", "1.1"}) {
    WheelSpec spec{.version = version, .metadata = {"Requires-Python: >=3.9,<4"}};
    world.disk.files["wheelhouse/" + spec.file_name()] = make_wheel(spec);
    world.disk.modified["wheelhouse/" + spec.file_name()] = 1795000000;
  }
  world.disk.files["wheelhouse/notes.txt"] = "x";
  std::string said = transcript(world, {"index", "wheelhouse", "--out", "site", "--dry-run"});
  EXPECT_TRUE(world.disk.written.empty());
  said += "\n" + transcript(world, {"index", "wheelhouse", "--out", "site"});
  for (const char* page :
       {"site/simple/demo/index.html", "site/simple/demo/index.v1.json", "site/cu128/torch2.8/demo/index.html",
        "site/simple/index.html", "site/SHA256SUMS", "site/index.html"}) {
    said += "\n=== " + std::string(page) + "\n" + world.disk.files[page];
  }
  expect_snapshot("index", said);
  // Only the fitting wheels, and those without a label, in a stack's own index.
  EXPECT_EQ(world.disk.files["site/cu128/torch2.8/demo/index.html"].find("cu130"), std::string::npos);
  EXPECT_NE(world.disk.files["site/cu128/torch2.8/demo/index.html"].find("demo-1.1"), std::string::npos);
}

TEST(Command, IndexRefusesBrokenWheelsAndWritesNothing) {
  MemoryWorld world;
  WheelSpec spec;
  spec.unrecorded = {{.name = "../evil.py", .content = "x"}};
  world.disk.files["w/" + spec.file_name()] = make_wheel(spec);
  EXPECT_EQ(run_clary(world.ctx, {"index", "w", "--out", "site"}), kFinding);
  EXPECT_NE(world.err.text.find("W3.traversal"), std::string::npos) << world.err.text;
  EXPECT_TRUE(world.disk.written.empty());
}

// Killed at any write, the site holds no page that names a wheel which is not there.
TEST(Command, IndexIsValidWheneverItStops) {
  for (int writes = 0; writes < 40; writes++) {
    MemoryWorld world;
    for (const char* version : {"1.0+cu128torch2.8.0", "1.1"}) {
      WheelSpec spec{.version = version};
      world.disk.files["w/" + spec.file_name()] = make_wheel(spec);
    }
    world.disk.fail_after = writes;
    const int code = run_clary(world.ctx, {"index", "w", "--out", "site"});
    for (const auto& [path, content] : world.disk.files) {
      if (!path.ends_with("demo/index.html")) continue;
      for (const char* version : {"1.0+cu128torch2.8.0", "1.1"}) {
        const std::string name = WheelSpec{.version = version}.file_name();
        if (content.find(percent(name)) != content.npos) {
          EXPECT_TRUE(world.disk.files.contains("site/wheels/" + name)) << writes;
        }
      }
    }
    if (code == kFine) break;
    EXPECT_EQ(code, kUsage);
  }
}

TEST(Command, Completion) {
  MemoryWorld world;
  expect_snapshot("completion", transcript(world, {"completion", "bash"}) + transcript(world, {"completion", "zsh"}) +
                                    transcript(world, {"completion", "fish"}));
}

// The pages: every option of every command is on its page, and every page's options exist.
TEST(Pages, NameEveryOption) {
  for (const Command& command : commands()) {
    MemoryWorld world;
    Cli cli(world.ctx, command.name, {});
    cli.describe_only();
    command.run(world.ctx, cli);
    const std::string page(embedded("docs/cli/" + std::string(command.name) + ".md"));
    ASSERT_FALSE(page.empty()) << command.name;
    EXPECT_FALSE(help_summary(command.name).empty()) << command.name;
    for (const CliOption& o : cli.options()) {
      const bool common = o.name == "--json" || o.name == "--dry-run" || o.name == "--help";
      if (common) continue;
      EXPECT_NE(page.find(o.name), page.npos) << command.name << " " << o.name;
      for (const std::string& choice : o.choices)
        EXPECT_NE(page.find("`" + choice + "`"), page.npos) << command.name << " " << o.name << " " << choice;
    }
    for (size_t i = page.find("| `--"); i != page.npos; i = page.find("| `--", i + 1)) {
      const std::string name = page.substr(i + 3, page.find_first_of(" `", i + 3) - i - 3);
      const bool known =
          std::any_of(cli.options().begin(), cli.options().end(), [&](const CliOption& o) { return o.name == name; });
      EXPECT_TRUE(known) << command.name << ": no option " << name;
    }
  }
}

TEST(Pages, EveryRuleHasItsSectionInOrder) {
  std::vector<std::string> sections, ids;
  for (const Entry& e : catalog()) {
    if (e.is_rule) sections.push_back(e.code);
    EXPECT_FALSE(e.title.empty()) << e.code;
    EXPECT_NE(e.body.find("Repair: "), e.body.npos) << e.code << " says no repair";
    EXPECT_TRUE(e.is_rule || !e.seen.empty()) << e.code << " says no text it is known by";
  }
  for (const Rule& rule : rules()) ids.push_back(rule.id);
  EXPECT_EQ(sections, ids);
}

TEST(Pages, HelpOfEveryCommand) {
  for (const Command& command : commands()) {
    MemoryWorld world;
    EXPECT_EQ(run_clary(world.ctx, {command.name, "--help"}), kFine);
    EXPECT_TRUE(world.out.text.starts_with(std::string(command.name) + ": ")) << world.out.text.substr(0, 40);
    EXPECT_TRUE(world.err.text.empty());
    EXPECT_EQ(world.out.text.find("|--"), std::string::npos);
    EXPECT_TRUE(world.disk.written.empty() && world.proc.ran.empty() && world.net.requests.empty());
  }
}

}  // namespace
}  // namespace clary::tool::test
