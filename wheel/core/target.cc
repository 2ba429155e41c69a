#include "wheel/core/target.h"

#include <algorithm>

#include "wheel/core/json.h"
#include "wheel/core/tag.h"

namespace clary::tool {
namespace {

// Everything that only an interpreter can say, in one start of it.
constexpr const char* kAsk =
    "import json,platform,sys,sysconfig\n"
    "v=sysconfig.get_config_var\n"
    "print(json.dumps({'version':platform.python_version(),'implementation':sys.implementation.name,"
    "'nogil':bool(v('Py_GIL_DISABLED')),'site':sysconfig.get_path('purelib'),'prefix':sys.prefix,"
    "'machine':platform.machine().lower(),'system':sys.platform,'soabi':v('SOABI') or '',"
    "'executable':sys.executable,'libc':' '.join(platform.libc_ver())}))";

std::string abi_of(const std::string& version, const std::string& implementation, bool nogil,
                   const std::string& soabi) {
  const std::vector<std::string_view> parts = split(version, '.');
  const std::string digits = parts.size() < 2 ? "" : std::string(parts[0]) + std::string(parts[1]);
  if (implementation != "cpython")
    return "pp" + digits + "-" + replace_all(soabi.substr(0, soabi.find("-x86")), "-", "_");
  return "cp" + digits + (nogil ? "t" : "");
}

int isa_level_here(Ctx& ctx) {
  const Result<std::string> cpu = ctx.disk.read("/proc/cpuinfo", 64 << 10);
  if (!cpu) return 4;
  const std::string flags = " " + cpu->substr(std::min(cpu->find("\nflags"), cpu->size()), 8000);
  const auto has = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(),
                       [&](const char* n) { return flags.find(std::string(" ") + n + " ") != flags.npos; });
  };
  if (!has({"sse4_2", "popcnt"})) return 1;
  if (!has({"avx2", "bmi2", "fma"})) return 2;
  return has({"avx512f", "avx512bw", "avx512vl"}) ? 4 : 3;
}

Result<Done> ask(Ctx& ctx, const std::string& python, Target& t) {
  const Result<Finished> said = ctx.proc.run({python, "-I", "-c", kAsk}, 60);
  const Result<Json> json = said && said->exit_code == 0 ? parse_json(said->out, python) : Result<Json>(Error{});
  if (!json || !json->is_object())
    return Error{"no Python that starts: " + python,
                 "--python PATH, or a version such as 3.12 to ask for another machine"};
  t.python = text_of(*json, "executable", python);
  t.python_version = text_of(*json, "version");
  t.abi = abi_of(t.python_version, text_of(*json, "implementation"), bool_of(*json, "nogil"), text_of(*json, "soabi"));
  t.site = text_of(*json, "site"), t.prefix = text_of(*json, "prefix");
  t.machine = text_of(*json, "machine") == "amd64" ? "x86_64" : text_of(*json, "machine");
  const std::string system = text_of(*json, "system");
  t.system = system == "win32" ? "windows" : system == "darwin" ? "macos" : system;
  const std::string libc = text_of(*json, "libc");
  t.glibc = libc.starts_with("glibc ") ? libc.substr(6) : "";
  t.isa_level = isa_level_here(ctx);
  return Done{};
}

Result<Done> place(const std::string& text, Target& t) {
  const Platform p = Platform::of(text);
  if (p.kind == Platform::kOther || p.kind == Platform::kAny || p.arch.empty())
    return Error{"not a platform: `" + printable(text) + "`",
                 "such as linux_x86_64, manylinux_2_28_aarch64 or win_amd64"};
  t.machine = p.arch, t.isa_level = 4;
  t.system = p.kind == Platform::kWindows ? "windows" : p.kind == Platform::kMac ? "macos" : "linux";
  t.glibc = p.kind == Platform::kManylinux ? format("%d.%d", p.major, p.minor)
            : p.kind == Platform::kLinux   ? "2.39"
                                           : "";
  return Done{};
}

}  // namespace

Result<Target> probe_target(Ctx& ctx, const TargetChoice& choice) {
  Target t;
  const bool version = !choice.python.empty() && choice.python.find_first_not_of("0123456789.t") == choice.python.npos;
  const bool elsewhere = !choice.platform.empty();
  const std::string venv = ctx.proc.env("VIRTUAL_ENV").value_or("");
  const std::string here = venv.empty() ? "python3" : venv + "/bin/python";
  if (!version || !elsewhere) {  // else nothing of this machine's interpreter counts
    if (Result<Done> done = ask(ctx, choice.python.empty() || version ? here : choice.python, t); !done && !version)
      return done.error();
  }
  if (version) {
    const bool nogil = choice.python.ends_with('t');
    const std::string digits = choice.python.substr(0, choice.python.size() - (nogil ? 1 : 0));
    if (!Version::parse(digits))
      return Error{"not a Python: `" + printable(choice.python) + "`", "a version such as 3.12 or a path"};
    if (t.machine.empty()) t.machine = "x86_64", t.glibc = "2.39", t.isa_level = 4;
    t.python = t.site = t.prefix = "", t.python_version = digits;
    t.abi = abi_of(digits, "cpython", nogil, "");
  }
  if (elsewhere) {
    if (Result<Done> done = place(choice.platform, t); !done) return done.error();
  }
  const std::optional<InstalledTorch> torch = t.site.empty() ? std::nullopt : torch_in(ctx, t.site);
  if (torch) t.torch = torch->version, t.cuda = torch->cuda;
  if (const std::string pinned = ctx.proc.env("TORCH_VERSION").value_or(""); !pinned.empty() || !choice.torch.empty()) {
    t.torch = choice.torch.empty() ? pinned : choice.torch, t.torch_asked = true;
    const Result<Version> parsed = Version::parse(t.torch);
    if (!parsed) return parsed.error();
    t.cuda = StackLabel::of(parsed->local()).cuda;
  }
  if (!choice.cuda.empty()) t.cuda = choice.cuda;
  if (const Result<Version> parsed = Version::parse(t.torch); parsed && t.system == "linux" && t.machine == "x86_64") {
    if (const TorchRelease* release = tables().release(parsed->without_local()))
      t.cxx11abi = release->has_cxx11abi(t.cuda);
  }
  t.driver = !choice.driver.empty() ? choice.driver : elsewhere ? "" : driver_version(ctx);
  if (choice.gpu.empty() && !elsewhere) {
    for (const Gpu& gpu : host_gpus(ctx)) t.gpus.push_back(gpu.sm);
  } else if (choice.gpu != "none") {
    for (std::string_view word : split_any(choice.gpu, ", ;")) {
      const std::optional<Arch> arch = Arch::parse(word);
      if (!arch)
        return Error{"not a compute capability: `" + printable(word) + "`", "such as --gpu 12.0, or --gpu none"};
      t.gpus.push_back(arch->sm);
    }
  }
  return t;
}

std::string target_text(const Target& t) {
  std::string gpus;
  for (int sm : t.gpus) gpus += (gpus.empty() ? " " : ", ") + dotted(sm);
  return "Python " + t.python_version + " (" + t.abi + "), " + t.system + " " + t.machine +
         (t.glibc.empty() ? "" : ", glibc " + t.glibc) + (t.torch.empty() ? ", no torch" : ", torch " + t.torch) +
         (t.cuda.empty() ? "" : ", CUDA " + t.cuda) + (t.driver.empty() ? "" : ", driver " + t.driver) +
         (gpus.empty() ? ", no GPU" : ", GPU" + gpus);
}

}  // namespace clary::tool
