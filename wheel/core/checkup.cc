#include "wheel/core/checkup.h"

#include <algorithm>

#include "wheel/core/host.h"
#include "wheel/core/policy.h"
#include "wheel/core/python.h"

namespace clary::tool {
namespace {

struct Doctor {
  Ctx& ctx;
  std::vector<CheckupLine> lines;
  std::string driver;
  std::vector<Gpu> gpus;
  std::optional<InstalledTorch> torch;
  void ok(const char* topic, std::string text) { lines.push_back({CheckupLine::kOk, topic, std::move(text), ""}); }
  void warn(const char* topic, std::string text, std::string repair) {
    lines.push_back({CheckupLine::kWarn, topic, std::move(text), std::move(repair)});
  }
  void fail(const char* topic, std::string text, std::string repair) {
    lines.push_back({CheckupLine::kFail, topic, std::move(text), std::move(repair)});
  }
  std::string says(const Strings& argv) { return first_line_of(ctx, argv); }
};

void check_system(Doctor& d) {
  const std::string glibc = d.says({"getconf", "GNU_LIBC_VERSION"});  // "glibc 2.36"
  const size_t space = glibc.find(' ');
  const Result<Version> version = Version::parse(space == glibc.npos ? "" : glibc.substr(space + 1));
  if (!version) {
    d.warn("C library", "not glibc",
           "manylinux wheels do not run here: use a Debian, Ubuntu, Fedora or RHEL based system or image");
  } else if (*version < *Version::parse("2.28")) {
    d.warn("C library", glibc + ": too old for manylinux_2_28, the tag of torch 2.7 and later",
           "use a newer system or image");
  } else {
    d.ok("C library", glibc + ": wheels up to manylinux_" + replace_all(version->str(), ".", "_"));
  }
}

void check_python(Doctor& d) {
  const std::optional<std::string> venv = d.ctx.proc.env("VIRTUAL_ENV");
  const Result<Python> usual = python_for(d.ctx, "");
  if (!usual) {
    d.fail("Python", usual.error().message,
           "install Python 3.9 or newer: apt-get install python3 python3-venv, or uv python install 3.12");
    return;
  }
  const std::string& python = usual->program;
  d.ok("Python", usual->version + (venv ? ", environment " + *venv : ""));
  Strings minors;
  for (const Python& p : find_pythons(d.ctx)) minors.push_back(p.minor());
  if (minors.size() > 1) d.ok("Pythons", join(minors, ", ") + ": what `clary test --python all` tries");
  const std::string uv = d.says({"uv", "--version"});
  const Result<Finished> pip = d.ctx.proc.run({python, "-I", "-m", "pip", "--version"}, 20);
  const bool has_pip = pip && pip->exit_code == 0;
  if (uv.empty() && !has_pip)
    d.warn("installer", "neither pip nor uv", "python3 -m ensurepip, or see uv's documentation");
  else
    d.ok("installer", uv.empty() ? pip->out.substr(0, pip->out.find(" from")) : uv);
  d.torch = torch_in(d.ctx, usual->site);
  if (d.torch)
    d.ok("torch", d.torch->version + (d.torch->cuda.empty() ? ", without CUDA" : ", CUDA " + d.torch->cuda));
  else
    d.ok("torch", "not installed; wheels locked to a torch need one");
}

void check_gpu(Doctor& d) {
  d.driver = driver_version(d.ctx);
  d.gpus = host_gpus(d.ctx);
  if (d.driver.empty()) {
    d.ok("GPU driver", "none; planning, building and checking wheels need none");
    return;
  }
  std::string cuda;  // the newest toolkit whose PTX it compiles
  for (const Toolkit& t : tables().toolkits) {
    if (compare_drivers(d.driver, t.driver) >= 0) cuda = t.version.str();
  }
  if (compare_drivers(d.driver, tables().major(12)->driver) < 0) {
    d.fail("GPU driver", d.driver + ": too old for any CUDA 12 or 13 wheel",
           "install driver " + tables().major(13)->driver + " or newer");
  } else {
    const bool old = compare_drivers(d.driver, tables().major(13)->driver) < 0;
    d.ok("GPU driver",
         d.driver + ": runs code of CUDA " + (old ? "12.x" : "12.x and 13.x") + ", PTX up to CUDA " + cuda);
  }
  for (const Gpu& gpu : d.gpus) {
    const ArchInfo* info = tables().arch(gpu.sm);
    d.ok("GPU", gpu.name + ", compute capability " + dotted(gpu.sm) + (info ? " (" + info->name + ")" : ""));
  }
  if (d.gpus.empty())
    d.warn("GPU", "a driver, but nvidia-smi lists no GPU",
           "in a container: docker run --gpus all, with the NVIDIA container toolkit installed");
  if (!d.torch || d.torch->cuda.empty()) return;
  const Result<Version> wanted = Version::parse(d.torch->cuda);
  const CudaMajor* major = wanted ? tables().major(wanted->release(0)) : nullptr;
  if (major && compare_drivers(d.driver, major->driver) < 0) {
    d.fail("torch and driver", "torch " + d.torch->version + " needs driver " + major->driver + ", this is " + d.driver,
           "install the newer driver, or a torch of an older CUDA");
  }
}

void check_toolchain(Doctor& d) {
  const std::optional<std::string> home = d.ctx.proc.env("CUDA_HOME");
  const std::string nvcc = home ? *home + "/bin/nvcc" : "nvcc";
  const Result<Finished> said =
      home || d.ctx.proc.find("nvcc") ? d.ctx.proc.run({nvcc, "--version"}, 20) : Result<Finished>(Error{});
  const std::string text = said && said->exit_code == 0 ? said->out : "";
  const size_t release = text.find("release ");
  if (release != text.npos) {
    const std::string version = text.substr(release + 8, text.find(',', release) - release - 8);
    d.ok("CUDA compiler", version + (home ? " in " + *home : ""));
    const Result<Version> have = Version::parse(version), want = Version::parse(d.torch ? d.torch->cuda : "");
    if (have && want && have->release(0) != want->release(0)) {
      d.warn("torch and compiler", "torch was built with CUDA " + d.torch->cuda + ", nvcc is " + version,
             "extensions must use the same major version: set CUDA_HOME to it");
    }
  } else if (home) {
    d.fail("CUDA compiler", "CUDA_HOME is " + *home + ", and " + nvcc + " does not start",
           "unset CUDA_HOME, or point it to a toolkit");
  } else {
    d.ok("CUDA compiler", "none; only builds need one, and `clary build` takes it from the package index");
  }
  const std::string gcc = d.says({"g++", "--version"});
  if (gcc.empty())
    d.warn("C++ compiler", "no g++", "only builds need one: apt-get install g++");
  else
    d.ok("C++ compiler", gcc);
}

void check_room(Doctor& d) {
  const Machine machine = host_machine(d.ctx);
  const int jobs = jobs_for(machine, 2800);
  const std::string text =
      count(static_cast<uint64_t>(machine.cores), "core") +
      format(", %.1f GB of memory: MAX_JOBS=%d for CUDA sources", static_cast<double>(machine.memory_mb) / 1000, jobs);
  if (machine.memory_mb < 4000)
    d.warn("size", text, "large CUDA sources take 3 GB each: expect the compiler to be killed");
  else
    d.ok("size", text);
  const std::optional<uint64_t> free = d.ctx.disk.free_bytes(".");
  if (!free) return;
  if (*free < 1'000'000'000)
    d.fail("disk", human_bytes(*free) + " free here", "a build with torch needs about 10 GB");
  else if (*free < 10'000'000'000)
    d.warn("disk", human_bytes(*free) + " free here", "a build with torch needs about 10 GB");
  else
    d.ok("disk", human_bytes(*free) + " free here");
}

void check_services(Doctor& d) {
  Strings engines;
  size_t silent = 0;
  for (const char* engine : {"docker", "podman"}) {
    const std::string version = d.says({engine, "--version"});
    if (version.empty()) continue;
    const bool answers = !d.says({engine, "info"}).empty();
    engines.push_back(version + (answers ? "" : ", which does not answer"));
    silent += !answers;
  }
  if (silent && silent == engines.size())
    d.warn("containers", join(engines, "; "), "start its daemon, or build with --engine local, which needs none");
  else
    d.ok("containers",
         engines.empty() ? "neither docker nor podman; builds in a container need one" : join(engines, "; "));
  Strings tools, without;
  for (const char* tool : {"git", "ninja", "cmake", "auditwheel", "patchelf", "cibuildwheel"})
    (d.ctx.proc.find(tool) ? tools : without).emplace_back(tool);
  d.ok("build tools",
       (tools.empty() ? "none" : join(tools, " ")) + (without.empty() ? "" : "; not here: " + join(without, " ")));
  Strings tokens;
  for (const char* name : {"HF_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"}) {
    if (!d.ctx.proc.env(name).value_or("").empty()) tokens.emplace_back(name);
  }
  d.ok("tokens", tokens.empty() ? "none set; only publishing needs one" : join(tokens, ", ") + " set");
}

}  // namespace

std::string first_line_of(Ctx& ctx, const Strings& argv) {
  if (!ctx.proc.find(argv[0])) return "";
  const Result<Finished> done = ctx.proc.run(argv, 20);
  if (!done || done->exit_code != 0) return "";
  return std::string(trim(done->out.substr(0, done->out.find('\n'))));
}

std::vector<CheckupLine> checkup(Ctx& ctx) {
  Doctor d{ctx, {}, {}, {}, {}};
  check_system(d);
  check_python(d);
  check_gpu(d);  // after torch: it says whether the two fit
  check_toolchain(d);
  check_room(d);
  check_services(d);
  return std::move(d.lines);
}

}  // namespace clary::tool
