#include "wheel/core/scan.h"

#include <algorithm>
#include <regex>
#include <set>

#include "wheel/core/arch.h"
#include "wheel/core/json.h"
#include "wheel/core/requirement.h"
#include "wheel/core/sources.h"
#include "wheel/core/tables.h"

namespace clary::tool {
namespace {

constexpr uint64_t kMostText = 1 << 20;
constexpr const char* kText = "[\"']([^\"'\\n]+)[\"']";

Strings all_matches(const std::string& text, const std::string& pattern, int group = 1) {
  const std::regex expression(pattern);
  Strings out;
  for (std::sregex_iterator it(text.begin(), text.end(), expression), end; it != end; ++it) {
    const std::string found = (*it)[static_cast<size_t>(group)].str();
    if (!found.empty() && std::find(out.begin(), out.end(), found) == out.end()) out.push_back(found);
  }
  return out;
}

std::string first_match(const std::string& text, const std::string& pattern, int group = 1) {
  const Strings found = all_matches(text, pattern, group);
  return found.empty() ? "" : found[0];
}

void merge(Strings& to, const Strings& more) {
  for (const std::string& item : more) {
    if (std::find(to.begin(), to.end(), item) == to.end()) to.push_back(item);
  }
}

class Scanner {
 public:
  Scanner(Ctx& ctx, std::string folder) : ctx_(ctx), folder_(std::move(folder)) {}
  Result<SourceFacts> scan();

 private:
  std::string read(const std::string& name) const {
    const Result<std::string> text = ctx_.disk.read(folder_ + "/" + name, kMostText);
    return text ? *text : "";
  }
  void read_pyproject();
  void read_setup();
  void read_cmake();
  void find_version();
  void remark();
  // name="x" or name=NAME with NAME = "x" of setup(); empty: neither.
  std::string keyword(const std::string& key) const;
  void requirements(const Strings& list);

  Ctx& ctx_;
  std::string folder_, setup_, cmake_;
  Json pyproject_ = Json::object();
  Strings files_;
  SourceFacts facts_;
};

std::string Scanner::keyword(const std::string& key) const {
  // Extensions have names, too: what counts is what stands in the call, where there is one.
  std::smatch call;
  const bool found = std::regex_search(setup_, call, std::regex("(?:^|\\n)\\s*(?:setuptools\\.)?setup\\s*\\("));
  const std::string text = found ? setup_.substr(static_cast<size_t>(call.position())) : setup_;
  const std::string direct = first_match(text, "[(,\\s]" + key + "\\s*=\\s*" + kText);
  if (!direct.empty()) return direct;
  const std::string variable = first_match(text, "[(,\\s]" + key + "\\s*=\\s*([A-Za-z_][A-Za-z0-9_]*)\\s*[,)]");
  return variable.empty() ? "" : first_match(setup_, "(?:^|\\n)\\s*" + variable + "\\s*=\\s*" + kText);
}

void Scanner::requirements(const Strings& list) {
  for (const std::string& text : list) {
    const Result<Requirement> r = Requirement::parse(text);
    if (!r || normal_name(r->name) != "torch") continue;
    facts_.torch = r->versions.str();
    facts_.uses_torch = true;
  }
}

void Scanner::read_pyproject() {
  const std::string text = read("pyproject.toml");
  if (text.empty()) return;
  const Result<Json> parsed = parse_toml(text, "pyproject.toml");
  if (!parsed) {
    facts_.notes.push_back(parsed.error().message);
    return;
  }
  pyproject_ = *parsed;
  const Json project = pyproject_.value("project", Json::object()),
             system = pyproject_.value("build-system", Json::object());
  facts_.name = text_of(project, "name");
  facts_.version = text_of(project, "version");
  if (!facts_.version.empty()) facts_.version_from = "pyproject.toml";
  facts_.requires_python = text_of(project, "requires-python");
  facts_.backend = text_of(system, "build-backend", "setuptools.build_meta");
  facts_.build_requires = strings_of(system, "requires");
  requirements(strings_of(project, "dependencies"));
  requirements(facts_.build_requires);
  const Json scikit = pyproject_.value("tool", Json::object()).value("scikit-build", Json::object());
  const std::string api = text_of(scikit.value("wheel", Json::object()), "py-api");
  if (api.starts_with("cp3")) facts_.limited_api = "3." + api.substr(3);
  if (api.starts_with("py")) facts_.limited_api = "any";
}

void Scanner::read_setup() {
  setup_ = read("setup.py") + "\n" + read("setup.cfg");
  if (trim(setup_).empty()) return;
  if (facts_.backend.empty()) facts_.backend = "setuptools.build_meta";
  if (facts_.name.empty()) facts_.name = keyword("name");
  if (facts_.name.empty()) facts_.name = first_match(setup_, "\\n\\s*name\\s*=\\s*([A-Za-z0-9._-]+)\\s*\\n");
  if (facts_.version.empty()) facts_.version = keyword("version");
  if (!facts_.version.empty() && facts_.version_from.empty()) facts_.version_from = "setup.py";
  if (facts_.requires_python.empty()) facts_.requires_python = keyword("python_requires");
  const bool torch = std::regex_search(setup_, std::regex("(?:^|\\n)\\s*(?:import torch|from torch)"));
  facts_.uses_torch = facts_.uses_torch || torch;
  requirements(all_matches(setup_, "[\"'](torch\\s*[<>=!~][^\"']*)[\"']"));
  merge(facts_.modules,
        all_matches(setup_, "(?:CUDAExtension|CppExtension|Extension|SyclExtension)\\(\\s*(?:name\\s*=\\s*)?" +
                                std::string(kText)));
  merge(facts_.variables, all_matches(setup_,
                                      "(?:os\\.environ\\.get|os\\.getenv|os\\.environ|environ\\.get|getenv)\\s*[\\[(]"
                                      "\\s*[\"']([A-Z][A-Z0-9_]+)[\"']"));
  if (std::regex_search(setup_, std::regex("py_limited_api\\s*=\\s*True"))) facts_.limited_api = "3.9";
  if (std::regex_search(setup_, std::regex("return\\s+[\"']py3[\"']\\s*,\\s*[\"']none[\"']")))
    facts_.limited_api = "any";
}

void Scanner::read_cmake() {
  for (const std::string& file : files_) {
    if (base_name(file) == "CMakeLists.txt" || file.ends_with(".cmake")) cmake_ += read(file) + "\n";
  }
  if (cmake_.empty()) return;
  if (facts_.name.empty()) facts_.name = first_match(cmake_, "project\\s*\\(\\s*([A-Za-z0-9_-]+)");
  if (std::regex_search(cmake_, std::regex("find_package\\s*\\(\\s*Torch"))) facts_.uses_torch = true;
  merge(facts_.modules,
        all_matches(cmake_,
                    "(?:pybind11_add_module|nanobind_add_module|Python3?_add_library)\\s*\\(\\s*([A-Za-z0-9_]+)"));
  merge(facts_.variables, all_matches(cmake_, "\\$?ENV\\{([A-Z][A-Z0-9_]+)\\}"));
}

void Scanner::find_version() {
  if (!facts_.version.empty() && Version::parse(facts_.version)) return;
  facts_.version.clear();
  Strings candidates;
  // scikit-build-core's and setuptools' own places first.
  const Json tool = pyproject_.value("tool", Json::object());
  const Json provider =
      tool.value("scikit-build", Json::object()).value("metadata", Json::object()).value("version", Json::object());
  if (const std::string input = text_of(provider, "input"); !input.empty()) candidates.push_back(input);
  for (const char* name : {"_version.py", "version.py", "__init__.py", "__about__.py"}) {
    for (const std::string& file : files_) {
      const auto depth = std::count(file.begin(), file.end(), '/');
      if (base_name(file) == name && depth <= 2 && !file.starts_with("test")) candidates.push_back(file);
    }
  }
  for (const char* name : {"version.txt", "VERSION", "setup.py"}) candidates.emplace_back(name);
  for (const std::string& file : candidates) {
    const std::string text = read(file);
    std::string found = first_match(text, "(?:VERSION|version)[A-Za-z_]*\\s*[=:]?\\s*" + std::string(kText));
    if (found.empty() && text.size() < 40) found = trim(text);
    if (found.empty() || !Version::parse(found)) continue;
    facts_.version = found;
    facts_.version_from = file;
    return;
  }
}

void Scanner::remark() {
  const std::string build = setup_ + cmake_;
  // Versions of CUDA look the same: Version("12.8").
  const std::string named =
      std::regex_replace(build, std::regex("(?:[Vv]ersion|parse)\\(\\s*[\"'][^\"'\\n]*[\"']\\s*\\)"), "");
  for (const std::string& arch :
       all_matches(named, "(?:sm_|compute_|[\"'])(\\d+\\.\\d[af]?|\\d{2,3}[af]?)(?=[\"',; +\\])]|$)")) {
    const std::optional<Arch> parsed = Arch::parse(arch);
    if (parsed && tables().arch(parsed->sm)) merge(facts_.archs, {parsed->dotted()});
  }
  // Where code for one device alone is named, too, that is what the build makes.
  std::erase_if(facts_.archs, [all = facts_.archs](const std::string& arch) {
    return std::find(all.begin(), all.end(), arch + "a") != all.end();
  });
  std::sort(facts_.archs.begin(), facts_.archs.end(), [](const std::string& a, const std::string& b) {
    return Arch::parse(a).value_or(Arch{}) < Arch::parse(b).value_or(Arch{});
  });
  facts_.standards = all_matches(build, "-std=((?:c|gnu)\\+\\+[a-z0-9]+)");
  if (std::regex_search(setup_, std::regex("get_device_capability|device_count\\(|cuda\\.is_available|No GPUs found")))
    facts_.notes.emplace_back("the build asks for a GPU; where it insists, `clary build --fix` answers for it");
  if (facts_.uses_torch && std::any_of(facts_.standards.begin(), facts_.standards.end(),
                                       [](const std::string& s) { return s != "c++20" && s != "c++23"; }))
    facts_.notes.emplace_back("the build passes -std=" + facts_.standards[0] +
                              "; torch 2.13 and newer need C++20: `clary build --fix` raises it");
  if (std::regex_search(
          setup_, std::regex("[\"']git[\"']\\s*,\\s*[\"'](?:clone|submodule|fetch)[\"']|git (?:clone|submodule)")))
    facts_.notes.emplace_back(
        "the build fetches sources by git; a container has no network while it compiles: fetch them first");
  for (const std::string& variable : facts_.variables) {
    if (variable.ends_with("FORCE_BUILD"))
      facts_.notes.push_back("without " + variable + " the build may fetch a finished wheel; the recipe sets it");
  }
}

Result<SourceFacts> Scanner::scan() {
  const bool any = ctx_.disk.info(folder_ + "/pyproject.toml") || ctx_.disk.info(folder_ + "/setup.py");
  if (!any)
    return Error{"no Python project: " + folder_ + " holds neither pyproject.toml nor setup.py",
                 "name the folder that does: clary init --source FOLDER"};
  Result<Strings> files = source_files(ctx_, folder_);
  if (!files) return files.error();
  files_ = *std::move(files);
  for (const std::string& file : files_) {
    if (file.starts_with(".git/") || file.starts_with("third_party/") || file.find("cutlass/") != file.npos) continue;
    facts_.cuda_sources += file.ends_with(".cu");
    facts_.cxx_sources += file.ends_with(".cc") || file.ends_with(".cpp") || file.ends_with(".cxx");
  }
  read_pyproject();
  read_setup();
  read_cmake();
  find_version();
  remark();
  return std::move(facts_);
}

std::string quoted(const Strings& list) {
  Strings out;
  for (const std::string& item : list) out.push_back(yaml(item));
  return "[" + join(out, ", ") + "]";
}

// "key = value" with its comment at a fixed column.
std::string line(const std::string& key, const std::string& value, const std::string& about) {
  std::string out = key + " = " + value;
  if (!about.empty()) out += std::string(out.size() < 46 ? 46 - out.size() : 1, ' ') + " # " + about;
  return out + "\n";
}

}  // namespace

Result<SourceFacts> scan_source(Ctx& ctx, const std::string& folder) { return Scanner(ctx, folder).scan(); }

std::string recipe_text(const SourceFacts& f, const std::string& python) {
  std::string out = "# What clary plans and builds here. `clary plan` shows it, `clary build` makes it.\n\n[package]\n";
  out += line("name", yaml(f.name), "of the project");
  out += line("version", yaml(f.version.empty() ? "0" : f.version),
              f.version.empty() ? "not found in the sources: write it here" : "from " + f.version_from);
  out += "\n[matrix]\n";
  if (f.uses_torch) {
    out += line("torch", f.torch.empty() ? "[\"newest\"]" : "[" + yaml(f.torch) + "]",
                "releases, lines (2.8), specifiers, newest or all");
    out += line("cuda", "[\"newest\"]", "of those that torch was published for");
  }
  if (f.limited_api.empty())
    out += line("python", quoted({python}),
                f.requires_python.empty() ? "one wheel each" : "the project says " + f.requires_python);
  out += line("platform", "[\"linux_x86_64\"]", "also manylinux_2_28_x86_64, linux_aarch64, win_amd64");
  if (f.cuda_sources) {
    out += line("arch", f.archs.empty() ? "\"auto\"" : yaml(join(f.archs, " ")),
                f.archs.empty() ? "what the toolkit knows; any spelling: 8.0 9.0a 12.0+PTX"
                                : "named by the build; any spelling");
  }
  const std::string abi = f.limited_api.empty() ? "cp" : f.limited_api == "any" ? "none" : "abi3";
  out += line("python-abi", yaml(abi),
              abi == "cp" ? "one wheel per Python; abi3: one from abi3-floor on; none: py3-none" : "the build says so");
  if (abi == "abi3") out += line("abi3-floor", yaml(f.limited_api), "the oldest Python");
  out += line(
      "torch-abi", f.uses_torch ? "\"locked\"" : "\"none\"",
      f.uses_torch ? "one wheel per torch and CUDA, named +cu128torch2.8.0" : "no torch inside: one wheel for all");
  out += "\n[build]\n";
  out += line("cuda", f.cuda_sources ? "\"auto\"" : "\"no\"",
              f.cuda_sources ? "the compiler: torch's version, or such as 13.2" : "nothing is compiled for GPUs");
  Strings packages;
  for (const char* package : {"setuptools", "wheel", "ninja", "packaging"}) {
    if (f.backend.starts_with("setuptools")) packages.emplace_back(package);
  }
  for (const std::string& text : f.build_requires) {
    const Result<Requirement> r = Requirement::parse(text);
    const std::string name = r ? normal_name(r->name) : text;
    if (name == "torch") continue;
    std::erase(packages, name);
    packages.push_back(text);
  }
  out += line("requires", quoted(packages), "in the build's environment, besides torch; backend: " + f.backend);
  Strings env;
  for (const std::string& variable : f.variables) {
    if (variable.ends_with("FORCE_BUILD")) env.push_back(variable + " = \"TRUE\"");
  }
  out += line("env", env.empty() ? "{}" : "{ " + join(env, ", ") + " }",
              f.variables.empty() ? "variables of the build" : "the build reads " + join(f.variables, " "));
  if (!f.modules.empty()) {
    Strings patterns;
    for (const std::string& module : f.modules) patterns.push_back("*" + module.substr(module.rfind('.') + 1) + "*");
    out += line("expect-modules", quoted(patterns), "libraries that the wheel must hold");
  }
  if (f.cuda_sources) {
    out +=
        "\n[cost]\n" + line("units", std::to_string(f.cuda_sources), "CUDA sources, what a plan's minutes come from");
  }
  if (!f.notes.empty()) out += "\n";
  for (const std::string& note : f.notes) out += "# note: " + note + "\n";
  return out;
}

}  // namespace clary::tool
