#include "wheel/core/host.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "wheel/core/cli.h"
#include "wheel/core/requirement.h"

namespace clary::tool {
namespace {

std::string file(Ctx& ctx, const std::string& path) {
  const Result<std::string> text = ctx.disk.read(path);
  return text ? *text : "";
}

// version = '2.8.0+cu128' of torch/version.py.
std::string python_string(const std::string& source, const std::string& name) {
  for (std::string_view line : lines(source)) {
    if (!line.starts_with(name)) continue;
    const size_t open = line.find_first_of("'\""),
                 close = open == line.npos ? line.npos : line.find(line[open], open + 1);
    if (close != line.npos) return std::string(line.substr(open + 1, close - open - 1));
  }
  return "";
}

}  // namespace

Machine host_machine(Ctx& ctx) {
  Machine m;
  m.cores = ctx.proc.cores();
  const std::string meminfo = file(ctx, "/proc/meminfo");
  for (std::string_view line : lines(meminfo)) {
    if (!line.starts_with("MemTotal:")) continue;
    m.memory_mb =
        static_cast<uint64_t>(std::strtoull(std::string(trim(line.substr(9))).c_str(), nullptr, 10)) * 1024 / 1'000'000;
  }
  // A container's limits: "max 100000" or "150000 100000", and bytes or "max".
  const std::string cpu = file(ctx, "/sys/fs/cgroup/cpu.max"), memory(trim(file(ctx, "/sys/fs/cgroup/memory.max")));
  const std::vector<std::string_view> quota = split_any(cpu, " \n");
  if (quota.size() == 2 && is_digits(quota[0]) && is_digits(quota[1])) {
    const double cores =
        std::atof(std::string(quota[0]).c_str()) / std::max(1.0, std::atof(std::string(quota[1]).c_str()));
    m.cores = std::min(m.cores, std::max(1, static_cast<int>(std::ceil(cores))));
  }
  if (is_digits(memory))
    m.memory_mb = std::min<uint64_t>(m.memory_mb, std::strtoull(memory.c_str(), nullptr, 10) / 1'000'000);
  return m;
}

std::string driver_version(Ctx& ctx) {
  if (const std::string version(trim(file(ctx, "/sys/module/nvidia/version"))); !version.empty()) return version;
  const std::string proc =
      file(ctx, "/proc/driver/nvidia/version");  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  ..."
  for (std::string_view word : split_any(proc, " \n")) {
    const bool version = word.find('.') != word.npos && word.find_first_not_of("0123456789.") == word.npos;
    if (version) return std::string(word);
  }
  if (!ctx.proc.find("nvidia-smi")) return "";
  const Result<Finished> smi = ctx.proc.run({"nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"}, 20);
  return smi && smi->exit_code == 0 ? std::string(trim(smi->out.substr(0, smi->out.find('\n')))) : "";
}

std::vector<Gpu> host_gpus(Ctx& ctx) {
  std::vector<Gpu> out;
  if (!ctx.proc.find("nvidia-smi")) return out;
  const Result<Finished> smi =
      ctx.proc.run({"nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"}, 20);
  if (!smi || smi->exit_code != 0) return out;
  for (std::string_view line : lines(smi->out)) {
    const size_t comma = line.rfind(',');
    if (comma == line.npos) continue;
    const std::optional<Arch> arch = Arch::parse(trim(line.substr(comma + 1)));
    if (arch) out.push_back({std::string(trim(line.substr(0, comma))), arch->sm});
  }
  return out;
}

std::optional<InstalledTorch> torch_in(Ctx& ctx, const std::string& site_packages) {
  const std::string source = file(ctx, site_packages + "/torch/version.py");
  InstalledTorch torch{python_string(source, "__version__"), python_string(source, "cuda"), site_packages + "/torch"};
  if (torch.version.empty()) return std::nullopt;
  return torch;
}

Result<Machine> parse_machine(const std::string& text) {
  const size_t x = text.find('x');
  if (x == text.npos || !is_digits(text.substr(0, x)) || !is_digits(text.substr(x + 1)) || text.size() > 10) {
    return Error{"not a machine: `" + printable(text) + "`", "CORESxGIGABYTES, such as --machine 16x64"};
  }
  return Machine{std::max(1, std::atoi(text.c_str())), static_cast<uint64_t>(std::atoi(text.c_str() + x + 1)) * 1000};
}

void cell_options(Cli& cli, RecipeChoice& choice) {
  cli.value("--version", "VERSION", choice.version);
  cli.value("--torch", "LIST", choice.torch);
  cli.value("--cuda", "LIST", choice.cuda);
  cli.value("--python", "LIST", choice.python);
  cli.value("--platform", "LIST", choice.platform);
  cli.value("--arch", "LIST", choice.arch);
}

Result<Recipe> choose_recipe(Ctx& ctx, const RecipeChoice& o) {
  Recipe recipe;
  const bool given = !o.recipe.empty();
  const std::string path = given ? o.recipe : "clary.toml";
  if (given || (o.name.empty() && ctx.disk.info(path))) {
    const Result<std::string> text = ctx.disk.read(path);
    if (!text) return text.error();
    Result<Recipe> parsed = parse_recipe(*text, path);
    if (!parsed) return parsed.error();
    recipe = *std::move(parsed);
    if (!recipe.version_from.empty() && o.version.empty()) {
      const std::string from = dir_name(path) + "/" + recipe.version_from;
      const Result<std::string> source = ctx.disk.read(from);
      if (!source) return source.error();
      const Result<Version> version = version_in(*source, from);
      if (!version) return version.error();
      recipe.version = *version;
    }
  } else if (o.name.empty() || o.version.empty()) {
    return Error{"no clary.toml here",
                 "clary init writes one from the sources; or say what to plan: clary plan --name sageattention "
                 "--version 2.2.0 --torch 2.8 --cuda 12.8 --python 3.12"};
  }
  return sharpen_recipe(ctx, std::move(recipe), o);
}

Result<Recipe> sharpen_recipe(Ctx& ctx, Recipe recipe, const RecipeChoice& o) {
  if (!o.name.empty()) {
    if (!is_project_name(o.name)) return Error{"not a project name: `" + printable(o.name) + "`", ""};
    recipe.name = o.name;
  }
  if (!o.version.empty()) {
    const Result<Version> version = Version::parse(o.version);
    if (!version) return version.error();
    recipe.version = *version;
  }
  const auto replace = [](const std::string& text, Strings& to) {
    if (text.empty()) return;
    const bool specifier = text.find_first_of("<>=!~") != text.npos;  // its commas are its own
    to.clear();
    for (std::string_view word : split_any(text, specifier ? " ;" : ", ;")) to.emplace_back(word);
  };
  replace(o.torch, recipe.torch);
  replace(o.cuda, recipe.cuda);
  replace(o.python, recipe.python);
  replace(o.platform, recipe.platform);
  if (recipe.arch == "auto") recipe.arch = ctx.proc.env("TORCH_CUDA_ARCH_LIST").value_or("auto");
  if (!o.arch.empty()) recipe.arch = o.arch;
  if (!o.base_image.empty()) recipe.base_image = o.base_image;
  if (recipe.arch == "native") {
    std::string list;
    for (const Gpu& gpu : host_gpus(ctx)) list += " " + dotted(gpu.sm);
    if (list.empty())
      return Error{"no GPU here to take `native` from", "name the architectures, such as --arch '8.0 9.0 12.0'"};
    recipe.arch = list;
  }
  return recipe;
}

}  // namespace clary::tool
