#include "wheel/core/tables.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "wheel/core/embed.h"
#include "wheel/core/json.h"

namespace clary::tool {
namespace {

// The data is part of the program: a fault in it is a fault of the build, and tables_test finds it first.
[[noreturn]] void broken(const std::string& what) {
  std::fprintf(stderr, "clary: its own data is broken: %s\n", what.c_str());
  std::abort();
}

Json load(const std::string& name) {
  Result<Json> json = parse_toml(embedded("wheel/data/" + name), name);
  if (!json) broken(json.error().message);
  return *json;
}

Version version_of(const Json& row, const char* key) {
  Result<Version> version = Version::parse(text_of(row, key));
  if (!version) broken(version.error().message + " in " + dump_line(row));
  return *version;
}

std::optional<Version> optional_version(const Json& row, const char* key) {
  if (!row.contains(key)) return std::nullopt;
  return version_of(row, key);
}

void load_gpus(Tables& to) {
  const Json gpus = load("gpus.toml");
  for (const Json& row : list_of(gpus, "arch")) {
    ArchInfo arch;
    arch.sm = static_cast<int>(number_of(row, "sm"));
    arch.since = version_of(row, "since");
    arch.until = optional_version(row, "until");
    arch.specific = optional_version(row, "specific");
    for (const Json& sm : list_of(row, "family")) arch.family.push_back(sm.get<int>());
    arch.name = text_of(row, "name");
    to.archs.push_back(arch);
  }
  for (const auto& [machine, image] : gpus["images"].items()) to.images[machine] = image.get<std::string>();
  for (const Json& row : list_of(gpus, "toolkit")) {
    to.toolkits.push_back({version_of(row, "version"), version_of(row, "ptx"), text_of(row, "driver")});
  }
  for (const Json& row : list_of(gpus, "major")) {
    to.majors.push_back({static_cast<int>(number_of(row, "cuda")), text_of(row, "driver"),
                         text_of(row, "driver_windows"), text_of(row, "zstd")});
  }
}

void load_torch(Tables& to) {
  const Json torch = load("torch.toml");
  to.torch_index = text_of(torch["index"], "url"), to.torch_nightly = text_of(torch["index"], "nightly");
  for (const Json& row : list_of(torch, "release")) {
    TorchRelease r;
    r.version = version_of(row, "version");
    r.cuda = strings_of(row, "cuda");
    r.cuda_limited = strings_of(row, "cuda_limited");
    r.cuda_aarch64 = strings_of(row, "aarch64");
    r.cuda_default = text_of(row, "cuda_default");
    r.python = strings_of(row, "python");
    r.cxx11abi = bool_of(row, "cxx11abi");
    r.cxx11abi_cuda = strings_of(row, "cxx11abi");
    r.glibc = text_of(row, "glibc");
    r.cxx = static_cast<int>(number_of(row, "cxx"));
    r.torchvision = text_of(row, "torchvision");
    r.torchaudio = text_of(row, "torchaudio");
    r.triton = text_of(row, "triton");
    to.torch.push_back(r);
  }
}

void load_manylinux(Tables& to) {
  const Json manylinux = load("manylinux.toml");
  for (const Json& row : list_of(manylinux, "policy")) {
    ManylinuxPolicy policy;
    policy.name = text_of(row, "name");
    policy.alias = text_of(row, "alias");
    policy.minor = std::atoi(policy.name.c_str() + policy.name.rfind('_') + 1);
    for (const Json& item : list_of(row, "limit")) {
      ManylinuxPolicy::Limit limit;
      limit.archs = strings_of(item, "arch");
      limit.also = strings_of(item, "also");
      for (const char* library : {"GLIBC", "GLIBCXX", "CXXABI", "GCC", "LIBATOMIC", "ZLIB"}) {
        if (item.contains(library)) limit.newest.emplace(library, version_of(item, library));
      }
      policy.limits.push_back(limit);
    }
    to.manylinux.push_back(policy);
  }
  for (const Json& row : list_of(manylinux, "refused")) {
    to.refused.push_back(
        {text_of(row, "library"), text_of(row, "first"), text_of(row, "last"), strings_of(row, "symbols")});
  }
}

// Lines of "symbol version"; the views point into the program.
std::unordered_map<std::string_view, std::string_view> load_symbols(const std::string& name) {
  std::unordered_map<std::string_view, std::string_view> out;
  for (std::string_view line : lines(embedded("wheel/data/" + name))) {
    const size_t space = line.find(' ');
    if (line.empty() || line[0] == '#' || space == line.npos) continue;
    out.emplace(line.substr(0, space), line.substr(space + 1));
  }
  return out;
}

Tables load_all() {
  Tables t;
  load_gpus(t);
  load_torch(t);
  load_manylinux(t);
  const Json libraries = load("libraries.toml");
  for (Owner owner : {Owner::kSystem, Owner::kTorch, Owner::kCuda, Owner::kDriver, Owner::kPython}) {
    t.libraries[owner] = strings_of(libraries, owner_name(owner));
  }
  t.python_abi = load_symbols("stable_abi.txt");
  t.torch_shim = load_symbols("torch_shim.txt");
  if (t.archs.empty() || t.toolkits.empty() || t.torch.empty() || t.manylinux.empty() || t.python_abi.empty())
    broken("a table is empty");
  return t;
}

}  // namespace

const Tables& tables() {
  static const Tables loaded = load_all();
  return loaded;
}

const char* owner_name(Owner owner) {
  static constexpr const char* kNames[] = {"system", "torch", "cuda", "driver", "python", "other"};
  return kNames[static_cast<int>(owner)];
}

bool TorchRelease::has_cxx11abi(const std::string& cuda_version) const {
  return cxx11abi || std::find(cxx11abi_cuda.begin(), cxx11abi_cuda.end(), cuda_version) != cxx11abi_cuda.end();
}

std::string TorchRelease::line() const {
  return std::to_string(version.release(0)) + "." + std::to_string(version.release(1));
}

const ManylinuxPolicy::Limit* ManylinuxPolicy::limit(std::string_view arch) const {
  for (const Limit& l : limits) {
    if (std::find(l.archs.begin(), l.archs.end(), arch) != l.archs.end()) return &l;
  }
  return nullptr;
}

const ArchInfo* Tables::arch(int sm) const {
  const auto found = std::find_if(archs.begin(), archs.end(), [&](const ArchInfo& a) { return a.sm == sm; });
  return found == archs.end() ? nullptr : &*found;
}

const Toolkit* Tables::toolkit(const Version& version) const {
  for (const Toolkit& t : toolkits) {
    if (t.version.release(0) == version.release(0) && t.version.release(1) == version.release(1)) return &t;
  }
  return nullptr;
}

const Toolkit* Tables::toolkit_of_ptx(const Version& isa) const {
  for (const Toolkit& t : toolkits) {
    if (t.ptx >= isa) return &t;
  }
  return nullptr;
}

const CudaMajor* Tables::major(uint64_t cuda) const {
  for (const CudaMajor& m : majors) {
    if (static_cast<uint64_t>(m.cuda) == cuda) return &m;
  }
  return nullptr;
}

const TorchRelease* Tables::release(const Version& version) const {
  for (const TorchRelease& r : torch) {
    if (r.version == version.without_local()) return &r;
  }
  return nullptr;
}

const ManylinuxPolicy* Tables::policy(std::string_view name) const {
  for (const ManylinuxPolicy& p : manylinux) {
    for (const std::string& known : {p.name, p.alias}) {
      if (!known.empty() && (name == known || name.starts_with(known + "_"))) return &p;
    }
  }
  return nullptr;
}

Owner Tables::owner_of(std::string_view soname) const {
  for (const auto& [owner, patterns] : libraries) {
    for (const std::string& pattern : patterns) {
      if (matches(pattern, soname)) return owner;
    }
  }
  return Owner::kOther;
}

bool is_nightly(std::string_view torch) { return torch.find(".dev") != torch.npos; }

std::string torch_index(const Version& torch, std::string_view cuda) {
  return replace_all(torch.is_prerelease() ? tables().torch_nightly : tables().torch_index, "{cuda}", cuda_tag(cuda));
}

std::string cuda_tag(std::string_view version) { return "cu" + replace_all(std::string(version), ".", ""); }

}  // namespace clary::tool
