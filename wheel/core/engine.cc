#include "wheel/core/engine.h"

#include <algorithm>

#include "wheel/core/emit.h"

namespace clary::tool {
namespace {

constexpr int kInstallSeconds = 3600;

Strings joined(Strings a, const Strings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// pip wheel, never setup.py install; the environment is ready, so pip makes none of its own.
Strings pip_wheel(const std::string& python, const BuildSite& site) {
  Strings argv = {python,           "-m",          "pip",    "wheel",    ".", "--no-deps", "--no-build-isolation",
                  "--no-cache-dir", "--wheel-dir", site.out, "--verbose"};
  for (const auto& [key, value] : site.settings) argv = joined(argv, {"--config-settings", key + "=" + value});
  return argv;
}

// ---- local --------------------------------------------------------------------------------------------------------------

// Headers of CUDA's libraries that torch brings; the compiler's own come first.
std::string torch_cuda_headers(Ctx& ctx, const BuildSite& site, const std::string& prefix) {
  const Result<Python> python = ask_python(ctx, prefix + "/bin/python");
  if (!python || !site.cuda) return "";
  const std::string folder = python->site + "/nvidia/cu" + std::to_string(site.cuda->version.release(0)) + "/include";
  return ctx.disk.info(folder) ? folder : "";
}

// How this Python links modules. One that was built into a folder of its own (pyenv, conda) writes that folder into every module;
// no other machine has it (rule E1.runpath).
std::map<std::string, std::string> linkers(Ctx& ctx, const BuildSite& site) {
  std::map<std::string, std::string> out;
  for (const std::string name : {"LDSHARED", "LDCXXSHARED"}) {
    const Result<Finished> said = ctx.proc.run(
        {site.python.program, "-I", "-c", "import sysconfig; print(sysconfig.get_config_var('" + name + "') or '')"},
        20);
    if (!said || said->exit_code != 0 || said->out.find("-rpath") == std::string::npos) continue;
    Strings kept;
    for (std::string_view word : split_any(trim(said->out), " ")) {
      if (!word.empty() && !word.starts_with("-Wl,-rpath")) kept.emplace_back(word);
    }
    out[name] = join(kept, " ");
  }
  return out;
}

Result<std::vector<Step>> local_steps(Ctx& ctx, const BuildSite& site) {
  const Cell& cell = site.cell;
  const std::string prefix = site.prefix.empty() ? site.work + "/env" : site.prefix, python = prefix + "/bin/python";
  std::vector<Step> out;
  if (site.prefix.empty()) {
    out.push_back({"environment of Python " + site.python.version, make_environment(ctx, site.python, prefix), true});
    const Strings install = {python, "-m", "pip", "install", "--quiet"};
    if (!cell.torch.empty()) {
      const TorchRelease* release = tables().release(*Version::parse(cell.torch));
      Strings argv = joined(install, {"torch==" + cell.torch});
      // The package index's own wheel is that of one CUDA; the others have an index each. Never two at once.
      if (!release || release->cuda_default != cell.cuda) argv = joined(argv, {"--index-url", cell.index_url});
      if (is_nightly(cell.torch)) argv = joined(argv, {"--report", site.work + "/torch.json"});
      out.push_back(
          {"torch " + cell.torch + " for CUDA " + cell.cuda, {.argv = argv, .seconds = kInstallSeconds}, true});
    }
    out.push_back({"build requirements", {.argv = joined(install, site.packages), .seconds = kInstallSeconds}, true});
  }
  Job job{.argv = pip_wheel(python, site), .folder = site.source, .env = site.env};
  std::string path = prefix + "/bin:" + ctx.proc.env("PATH").value_or("/usr/bin:/bin");
  if (site.cuda) {
    const std::string& home = site.cuda->folder;
    path = home + "/bin:" + path;
    const std::string headers = torch_cuda_headers(ctx, site, prefix);
    job.env.insert({{"CUDA_HOME", home},
                    {"CUDA_PATH", home},
                    {"CUDAToolkit_ROOT", home},
                    {"CUDACXX", home + "/bin/nvcc"},
                    {"LIBRARY_PATH", home + "/lib64"}});
    if (!headers.empty()) job.env.insert({"CPATH", headers});
  }
  job.env.insert({{"PATH", path}, {"VIRTUAL_ENV", prefix}});
  job.env.merge(linkers(ctx, site));
  out.push_back({"wheel", job, false});
  return out;
}

// ---- containers ---------------------------------------------------------------------------------------------------------

// A value as ENV takes it: literally.
std::string dockerfile_value(const std::string& text) { return replace_all(yaml(text), "$", "\\$"); }

// The recipe's own packages and variables, where the plan's form installs and sets the usual ones.
Result<std::string> recipe_of_container(Ctx& ctx, const BuildSite& site, const std::string& run) {
  Matrix one;
  one.cells.push_back(site.cell);
  Result<std::string> text = plan_dockerfile(one);
  if (!text) return text;
  Strings packages, env;
  for (const std::string& package : site.packages) packages.push_back(shell(package));
  for (const auto& [name, value] : site.env) env.push_back(name + "=" + dockerfile_value(value));
  std::string settings;
  for (const auto& [key, value] : site.settings) settings += " --config-settings " + shell(key + "=" + value);
  *text =
      replace_all(*text, "setuptools wheel ninja packaging\n", join(packages, " ") + "\nENV " + join(env, " ") + "\n");
  *text = replace_all(*text, " --wheel-dir /out", settings + " --wheel-dir /out");
  *text = replace_all(*text, "RUN --network=none ", run);
  const std::string path = site.work + "/Dockerfile";
  if (Result<Done> done = ctx.disk.write(path, *text); !done) return done.error();
  return path;
}

Strings container_build(const std::string& program, const BuildSite& site, const std::string& dockerfile,
                        const Strings& options) {
  Strings argv = joined({program, "build", "--file", dockerfile}, options);
  if (site.cell.platform.ends_with("aarch64")) argv = joined(argv, {"--platform", "linux/arm64"});
  argv.push_back(site.source);
  return argv;
}

Result<std::vector<Step>> docker_steps(Ctx& ctx, const BuildSite& site) {
  const Result<std::string> file = recipe_of_container(ctx, site, "RUN --network=none ");
  if (!file) return file.error();
  const Strings argv =
      container_build("docker", site, *file, {"--target", "wheel", "--output", "type=local,dest=" + site.out});
  return std::vector<Step>{{"wheel, in " + site.cell.image, {.argv = argv, .env = {{"DOCKER_BUILDKIT", "1"}}}, false}};
}

// podman's RUN takes --network from 4.5 on only, its `build` long since: one with the network, whose layers the next one finds.
Result<std::vector<Step>> podman_steps(Ctx& ctx, const BuildSite& site) {
  const Result<std::string> file = recipe_of_container(ctx, site, "RUN ");
  if (!file) return file.error();
  const Strings first = container_build("podman", site, *file, {"--target", "environment"}),
                second = container_build(
                    "podman", site, *file,
                    {"--network", "none", "--target", "wheel", "--output", "type=local,dest=" + site.out});
  return std::vector<Step>{{"environment, in " + site.cell.image, {.argv = first}, false},
                           {"wheel, without network", {.argv = second}, false}};
}

// ---- cibuildwheel -------------------------------------------------------------------------------------------------------

Result<std::vector<Step>> cibuildwheel_steps(Ctx& ctx, const BuildSite& site) {
  Matrix one;
  one.cells.push_back(site.cell);
  Result<std::string> text = plan_cibuildwheel(one);
  if (!text) return text.error();
  Strings packages, settings;
  for (const std::string& package : site.packages) packages.push_back(shell(package));
  for (const auto& [key, value] : site.settings) settings.push_back(yaml(key) + " = " + yaml(value));
  const std::string quoted = yaml(join(packages, " "));
  *text = replace_all(*text, "setuptools wheel ninja packaging\"", quoted.substr(1));
  if (!settings.empty())
    *text = replace_all(*text, "[tool.cibuildwheel]\n",
                        "[tool.cibuildwheel]\nconfig-settings = { " + join(settings, ", ") + " }\n");
  const std::string config = site.work + "/cibuildwheel.toml";
  if (Result<Done> done = ctx.disk.write(config, *text); !done) return done.error();
  const std::string platform = site.cell.platform.starts_with("win") ? "windows" : "linux";
  Job job{
      .argv = {"cibuildwheel", "--config-file", config, "--output-dir", site.out, "--platform", platform, site.source}};
  Strings env;
  for (const auto& [name, value] : site.env) env.push_back(name + "=" + shell(value));
  job.env = {{"CIBW_ENVIRONMENT", join(env, " ")}, {"CIBW_BUILD_VERBOSITY", "1"}};
  return std::vector<Step>{{"wheel, by cibuildwheel", job, false}};
}

constexpr Engine kEngines[] = {
    {"local", "", "", local_steps},
    {"docker", "docker", "/src", docker_steps},
    {"podman", "podman", "/src", podman_steps},
    {"cibuildwheel", "cibuildwheel", "/project", cibuildwheel_steps},
};

}  // namespace

std::span<const Engine> engines() { return kEngines; }

const Engine* find_engine(std::string_view name) {
  const auto found =
      std::find_if(std::begin(kEngines), std::end(kEngines), [&](const Engine& e) { return name == e.name; });
  return found == std::end(kEngines) ? nullptr : found;
}

Strings engine_names() {
  Strings out;
  for (const Engine& engine : kEngines) out.emplace_back(engine.name);
  return out;
}

}  // namespace clary::tool
