#include "wheel/core/matrix.h"

#include <algorithm>
#include <list>
#include <set>

#include "wheel/core/specifier.h"
#include "wheel/core/tag.h"

namespace clary::tool {
namespace {

constexpr int kReservedMb = 2000;      // of the system, git and the package tools
constexpr double kFixedMinutes = 1.5;  // installing torch, linking, packing

struct PlatformRow {
  std::string_view tag, short_name, machine;
};
constexpr PlatformRow kPlatforms[] = {
    {"linux_x86_64", "lx64", "x86_64"},
    {"linux_aarch64", "la64", "aarch64"},
    {"manylinux_2_28_x86_64", "mx64", "x86_64"},
    {"manylinux_2_28_aarch64", "ma64", "aarch64"},
    {"manylinux_2_34_x86_64", "nx64", "x86_64"},
    {"manylinux_2_34_aarch64", "na64", "aarch64"},
    {"win_amd64", "wn64", "x86_64"},
};

Strings platform_tags() {
  Strings out;
  for (const PlatformRow& row : kPlatforms) out.emplace_back(row.tag);
  return out;
}

const PlatformRow* platform_row(std::string_view tag) {
  const auto row =
      std::find_if(std::begin(kPlatforms), std::end(kPlatforms), [&](const PlatformRow& r) { return r.tag == tag; });
  return row == std::end(kPlatforms) ? nullptr : row;
}

bool contains(const Strings& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// "3.13t" comes after "3.13".
bool python_less(const std::string& a, const std::string& b) {
  const auto key = [](const std::string& s) {
    return std::pair(Version::parse(s.ends_with('t') ? s.substr(0, s.size() - 1) : s), s.ends_with('t'));
  };
  const auto x = key(a), y = key(b);
  if (!x.first || !y.first) return a < b;
  return *x.first != *y.first ? *x.first < *y.first : x.second < y.second;
}

// The newest patch release of each line.
std::vector<const TorchRelease*> newest_of_lines() {
  std::vector<const TorchRelease*> out;
  for (const TorchRelease& r : tables().torch) {
    if (!out.empty() && out.back()->line() == r.line())
      out.back() = &r;
    else
      out.push_back(&r);
  }
  return out;
}

// A nightly, such as 2.16.0.dev20261121, is taken to be published as the newest release up to its line was.
std::optional<TorchRelease> nightly(const std::string& word) {
  const Result<Version> version = Version::parse(word);
  if (!version || !is_nightly(word) || !version->local().empty()) return std::nullopt;
  std::optional<TorchRelease> out;
  for (const TorchRelease* r : newest_of_lines()) {
    if (r->version.release(0) == version->release(0) && r->version.release(1) <= version->release(1)) out = *r;
  }
  if (!out) return out;
  out->version = *version;
  out->torchvision = out->torchaudio = out->triton = "";
  return out;
}

// `nightlies`: of which the result may hold pointers.
Result<std::vector<const TorchRelease*>> select_torch(const Strings& wanted, std::list<TorchRelease>& nightlies) {
  std::vector<const TorchRelease*> lines = newest_of_lines(), out;
  const auto add = [&](const TorchRelease* r) {
    if (std::find(out.begin(), out.end(), r) == out.end()) out.push_back(r);
  };
  if (wanted.empty()) return lines;
  for (const std::string& word : wanted) {
    const size_t before = out.size();
    bool known = true;
    if (word == "all") {
      for (const TorchRelease* r : lines) add(r);
    } else if (word == "newest") {
      add(lines.back());
    } else if (word.find_first_of("<>=!~") != word.npos) {
      const Result<Specifier> spec = Specifier::parse(word);
      if (!spec) return spec.error();
      for (const TorchRelease* r : lines) {
        if (spec->admits(r->version)) add(r);
      }
      known = out.size() > before;
    } else if (std::optional<TorchRelease> made = nightly(word)) {
      add(&nightlies.emplace_back(*std::move(made)));
    } else {
      known = false;
      for (const TorchRelease& r : tables().torch) {
        if (r.version.str() == word) add(&r), known = true;
      }
      for (const TorchRelease* r : lines) {
        if (r->line() == word) add(r), known = true;
      }
    }
    if (!known) {
      Strings names;
      for (const TorchRelease* r : lines) names.push_back(r->line());
      return Error{"no such torch: `" + printable(word) + "`",
                   "there are: " + join(names, " ") +
                       ", their patch releases, all and newest; a nightly by its whole version, 2.16.0.dev20261121"};
    }
  }
  std::sort(out.begin(), out.end(),
            [](const TorchRelease* a, const TorchRelease* b) { return a->version < b->version; });
  return out;
}

// The given list, or every value any release has.
Result<Strings> select(const Strings& wanted, const char* what, bool (*less)(const std::string&, const std::string&),
                       const std::vector<const TorchRelease*>& torch,
                       std::initializer_list<const Strings TorchRelease::*> parts) {
  Strings known, selected;
  for (const TorchRelease& r : tables().torch) {
    for (const auto part : parts) known.insert(known.end(), (r.*part).begin(), (r.*part).end());
  }
  std::sort(known.begin(), known.end(), less);
  known.erase(std::unique(known.begin(), known.end()), known.end());
  for (const std::string& word : wanted) {
    if (word == "all") {
      selected = known;
      break;
    }
    if (word == "newest") {
      for (const std::string& value : torch.back()->*(*parts.begin())) {
        if (!value.ends_with('t') && (selected.empty() || less(selected.back(), value))) selected = {value};
      }
      continue;
    }
    if (!contains(known, word))
      return Error{std::string("no such ") + what + ": `" + printable(word) + "`",
                   "there are: " + join(known, " ") + ", all and newest"};
    selected.push_back(word);
  }
  return selected;
}

// The architectures worth building by default: every consumer and data-centre GPU the toolkit knows, PTX for what comes.
Result<ArchList> default_archs(const Version& toolkit) {
  static constexpr int kUsual[] = {75, 80, 86, 89, 90, 100, 120};
  std::string list;
  for (int sm : kUsual) {
    const ArchInfo* info = tables().arch(sm);
    if (info->since <= toolkit) list += (list.empty() ? "" : " ") + dotted(sm);
  }
  return ArchList::parse(list + "+PTX", {toolkit, {}});
}

std::string fill(std::string text, const Cell& cell) {
  text = replace_all(std::move(text), "{cuda}", replace_all(cell.cuda, ".", ""));
  text = replace_all(std::move(text), "{torch}", cell.torch);
  const size_t line = cell.torch.find('.', cell.torch.find('.') + 1);
  return replace_all(std::move(text), "{torch-line}", cell.torch.substr(0, line));
}

std::string what(const Cell& c) {
  return (c.torch.empty() ? "" : "torch " + c.torch + ", CUDA " + c.cuda + ", ") +
         (c.python.empty() ? "" : "Python " + c.python + ", ") + c.platform;
}

// Why this torch, CUDA, Python and platform cannot be; empty when they can.
std::string impossible(const TorchRelease& r, const Cell& c, const Recipe& recipe) {
  const std::string torch = "torch " + r.version.str();
  const PlatformRow& platform = *platform_row(c.platform);
  const bool limited = contains(r.cuda_limited, c.cuda) && contains(recipe.cuda, c.cuda);
  if (!contains(r.cuda, c.cuda) && !limited)
    return torch + " was published for CUDA " + join(r.cuda, ", ") + ", not " + c.cuda;
  if (!c.python.empty() && !contains(r.python, c.python))
    return torch + " has wheels for Python " + join(r.python, " ") + ", not " + c.python;
  if (platform.machine == "aarch64" && !contains(r.cuda_aarch64, c.cuda)) {
    return torch + (r.cuda_aarch64.empty() ? " has no CUDA wheels for aarch64"
                                           : " has aarch64 wheels for CUDA " + join(r.cuda_aarch64, ", ") + " only");
  }
  const Platform parsed = Platform::of(c.platform);
  const Version floor = *Version::parse(r.glibc);
  if (parsed.kind == Platform::kManylinux && floor.release(1) > static_cast<uint64_t>(parsed.minor))
    return torch + " itself needs glibc " + r.glibc;
  return "";
}

class Builder {
 public:
  Builder(const Recipe& recipe, const Machine& machine) : recipe_(recipe), machine_(machine) {}
  Result<Done> consider(Cell cell, const TorchRelease* release);
  Matrix matrix;

 private:
  void cost(Cell& cell) const;
  void name(Cell& cell) const;
  const Recipe& recipe_;
  const Machine& machine_;
  std::set<std::string> ids_;
};

void Builder::cost(Cell& cell) const {
  size_t images = 0;
  for (const ArchTarget& t : cell.archs.targets()) images += t.sass;
  const int work = recipe_.units * std::max<int>(1, static_cast<int>(images));
  cell.jobs = std::min(jobs_for(machine_, recipe_.memory_mb), recipe_.units);
  cell.memory_mb = cell.jobs * recipe_.memory_mb;
  cell.minutes = static_cast<int>(kFixedMinutes + static_cast<double>(work) * recipe_.seconds / cell.jobs / 60 + 0.999);
}

void Builder::name(Cell& cell) const {
  const PlatformRow& platform = *platform_row(cell.platform);
  const bool threaded = cell.python.ends_with('t');
  const std::string digits =
      replace_all(threaded ? cell.python.substr(0, cell.python.size() - 1) : cell.python, ".", "");
  Tag tag{"cp" + digits, "cp" + digits + (threaded ? "t" : ""), cell.platform};
  if (recipe_.python_abi == "abi3") tag = {"cp" + replace_all(recipe_.abi3_floor, ".", ""), "abi3", cell.platform};
  if (recipe_.python_abi == "none") tag = {"py3", "none", cell.platform};

  Version version = recipe_.version;
  if (recipe_.torch_abi == "locked" && !recipe_.local.empty()) {
    const Result<Version> labelled = Version::parse(recipe_.version.public_str() + "+" + fill(recipe_.local, cell));
    if (labelled) version = *labelled;
  }
  cell.wheel = WheelName::make(recipe_.name, version, {tag}).str();
  const std::string python =
      recipe_.python_abi == "cp" ? tag.abi : tag.python + (recipe_.python_abi == "abi3" ? "abi3" : "");
  cell.id = (cell.torch.empty() ? "any" : "t" + replace_all(cell.torch, ".", "") + "-" + cuda_tag(cell.cuda)) + "-" +
            python + "-" + std::string(platform.short_name);
}

Result<Done> Builder::consider(Cell cell, const TorchRelease* release) {
  const PlatformRow& platform = *platform_row(cell.platform);
  std::string reason = release ? impossible(*release, cell, recipe_) : "";
  for (const Exclude& e : recipe_.excludes) {
    const bool hit = matches(e.torch, cell.torch) && matches(e.cuda, cell.cuda) && matches(e.python, cell.python) &&
                     matches(e.platform, cell.platform);
    if (reason.empty() && hit) reason = e.reason;
  }
  const Version toolkit = cell.cuda.empty() ? tables().toolkits.back().version : *Version::parse(cell.cuda);
  if (reason.empty() && recipe_.cuda_compiler != "no") {
    Result<ArchList> archs =
        recipe_.arch == "auto" ? default_archs(toolkit) : ArchList::parse(recipe_.arch, {toolkit, {}});
    if (!archs) return archs.error();
    cell.archs = *archs;
    if (const std::optional<Error> error = cell.archs.check(toolkit)) reason = error->message;
  }
  if (!reason.empty()) {
    matrix.refused.push_back({what(cell), reason});
    return Done{};
  }
  // From here on the cell can be built.
  if (release) {
    cell.index_url = torch_index(release->version, cell.cuda);
    cell.cxx11abi = platform.machine != "x86_64" || platform.tag.starts_with("win") || release->has_cxx11abi(cell.cuda);
    cell.cxx = release->cxx;
    if (contains(release->cuda_limited, cell.cuda))
      cell.note = "CUDA " + cell.cuda + " was published for torch " + cell.torch + " apart from the release matrix";
    if (release->version.is_prerelease())
      cell.note =
          "torch " + cell.torch + " is a nightly: its index drops it after some weeks, and the wheel fits no other";
  }
  if (!cell.platform.starts_with("win")) {
    const auto image = tables().images.find(std::string(platform.machine));
    cell.image = !recipe_.base_image.empty() ? recipe_.base_image
                 : cell.cuda.empty() || image == tables().images.end()
                     ? ""
                     : replace_all(image->second, "{cuda}", cell.cuda);
  }
  cost(cell);
  name(cell);
  if (ids_.insert(cell.id).second) matrix.cells.push_back(std::move(cell));
  return Done{};
}

}  // namespace

int jobs_for(const Machine& machine, int memory_mb_each) {
  const int64_t usable = static_cast<int64_t>(machine.memory_mb) - kReservedMb;
  return static_cast<int>(std::clamp<int64_t>(usable / std::max(1, memory_mb_each), 1, std::max(1, machine.cores)));
}

Result<Matrix> make_matrix(const Recipe& recipe, const Machine& machine) {
  // The axes.
  Strings platforms = recipe.platform;
  if (platforms.empty()) platforms = {"linux_x86_64"};
  if (contains(platforms, "all")) platforms = platform_tags();
  for (const std::string& tag : platforms) {
    if (!platform_row(tag)) {
      const std::string near = nearest(tag, platform_tags());
      return Error{"no such platform: `" + printable(tag) + "`",
                   (near.empty() ? "" : "did you mean `" + near + "`? ") + "there are: " + join(platform_tags(), " ")};
    }
  }
  std::list<TorchRelease> nightlies;
  const Result<std::vector<const TorchRelease*>> torch = select_torch(recipe.torch, nightlies);
  if (!torch) return torch.error();
  const auto by_version = [](const std::string& a, const std::string& b) {
    return *Version::parse(a) < *Version::parse(b);
  };
  const Result<Strings> cuda =
      select(recipe.cuda, "CUDA", by_version, *torch, {&TorchRelease::cuda, &TorchRelease::cuda_limited});
  if (!cuda) return cuda.error();
  const Result<Strings> python = select(recipe.python, "Python", python_less, *torch, {&TorchRelease::python});
  if (!python) return python.error();

  // The cells. An axis left open takes what each release has, so that it refuses nothing.
  Builder builder(recipe, machine);
  const bool per_python = recipe.python_abi == "cp";
  if (recipe.torch_abi == "none") {
    const TorchRelease& newest = tables().torch.back();
    const Strings pythons = !per_python ? Strings{""} : python->empty() ? newest.python : *python;
    for (const std::string& platform : platforms) {
      for (const std::string& p : pythons) {
        Cell cell;
        cell.python = p, cell.platform = platform;
        if (auto done = builder.consider(cell, nullptr); !done) return done.error();
      }
    }
    return std::move(builder.matrix);
  }
  for (const TorchRelease* release : *torch) {
    Strings pythons = !per_python ? Strings{""} : python->empty() ? release->python : *python;
    for (const std::string& c : cuda->empty() ? release->cuda : *cuda) {
      for (const std::string& platform : platforms) {
        for (const std::string& p : pythons) {
          Cell cell;
          cell.torch = release->version.str(), cell.cuda = c, cell.python = p, cell.platform = platform;
          if (auto done = builder.consider(cell, release); !done) return done.error();
        }
      }
    }
  }
  return std::move(builder.matrix);
}

}  // namespace clary::tool
