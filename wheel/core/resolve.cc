#include "wheel/core/resolve.h"

#include <algorithm>

#include "wheel/core/policy.h"
#include "wheel/core/requirement.h"
#include "wheel/core/table.h"

namespace clary::tool {
namespace {

// What is the same for every candidate, worked out once.
struct Frame {
  const Wish& wish;
  const Target& target;
  std::optional<Version> python, glibc, torch;
  std::string cuda_major;

  Frame(const Wish& w, const Target& t) : wish(w), target(t) {
    const auto version = [](const std::string& text) {
      const Result<Version> v = Version::parse(text);
      return v ? std::optional<Version>(*v) : std::nullopt;
    };
    python = version(t.python_version), glibc = version(t.glibc), torch = version(t.torch);
    cuda_major = t.cuda.substr(0, t.cuda.find('.'));
  }
};

using Reason = std::string;  // empty: passes

Reason project(const Frame& f, const WheelEntry& w, Candidate&) {
  if (!f.wish.name.empty() && normal_name(w.name.name()) != f.wish.name) return "another project: " + w.name.name();
  const Version plain = w.name.version().without_local();
  if (f.wish.versions.empty()) return plain.is_prerelease() && !f.wish.pre ? "a pre-release" : "";
  if (f.wish.versions.admits(plain, f.wish.pre) || f.wish.versions.admits(w.name.version(), f.wish.pre)) return "";
  return "version " + w.name.version().str() + " is not " + f.wish.versions.str();
}

Reason yanked(const Frame&, const WheelEntry& w, Candidate&) {
  return w.yanked.empty() ? "" : "withdrawn: " + w.yanked;
}

Reason platform(const Frame& f, const WheelEntry& w, Candidate&) {
  Reason why;
  for (const Tag& tag : w.name.tags()) {
    const Platform p = Platform::of(tag.platform);
    if (p.kind == Platform::kAny) return "";
    const std::string system = p.kind == Platform::kWindows ? "windows" : p.kind == Platform::kMac ? "macos" : "linux";
    if (system != f.target.system || p.arch != f.target.machine) {
      why = "for " + tag.platform;
      continue;
    }
    if (p.kind == Platform::kMusllinux) {
      if (f.target.glibc.empty()) return "";
      why = "for musl, and this is glibc " + f.target.glibc;
    } else if (p.kind == Platform::kManylinux && (!f.glibc || f.glibc->release(1) < static_cast<uint64_t>(p.minor))) {
      why = "needs glibc " + format("%d.%d", p.major, p.minor) + ", this is " +
            (f.target.glibc.empty() ? "none" : f.target.glibc);
    } else {
      return "";
    }
  }
  return why;
}

Reason floor(const Frame& f, const WheelEntry& w, Candidate&) {
  const Result<Version> need = w.glibc.empty() ? Result<Version>(Error{}) : Version::parse(w.glibc);
  if (need && f.target.system == "linux" && (!f.glibc || *f.glibc < *need))
    return "its code needs glibc " + w.glibc + ", this is " + (f.target.glibc.empty() ? "none" : f.target.glibc);
  if (w.isa_level > f.target.isa_level)
    return format("its code needs an x86-64-v%d processor, this is v%d", w.isa_level, f.target.isa_level);
  return "";
}

bool tag_fits(const Frame& f, const Tag& tag) {
  const std::optional<Interpreter> i = Interpreter::of(tag.python);
  if (!i || !f.python) return false;
  const auto minor = static_cast<int>(f.python->release(1));
  const bool same_major = static_cast<uint64_t>(i->major) == f.python->release(0);
  if (i->kind == "py") return same_major && i->minor <= minor && tag.abi == "none";
  if (i->kind != "cp" || !f.target.abi.starts_with("cp")) return tag.python + "-" + tag.abi == f.target.abi;
  if (!same_major) return false;
  const bool threaded = f.target.abi.ends_with('t');
  if (tag.abi == "abi3") return i->minor <= minor && !threaded;
  if (tag.abi == "none") return i->minor == minor;
  return i->minor == minor && tag.abi == f.target.abi;
}

Reason python(const Frame& f, const WheelEntry& w, Candidate&) {
  const std::vector<Tag>& tags = w.name.tags();
  if (std::none_of(tags.begin(), tags.end(), [&](const Tag& tag) { return tag_fits(f, tag); }))
    return "for " + tags[0].python + "-" + tags[0].abi + ", this is " + f.target.abi;
  if (w.requires_python.empty()) return "";
  const Result<Specifier> spec = Specifier::parse(w.requires_python);
  if (spec && f.python && !spec->admits(*f.python, true)) return "needs Python " + w.requires_python;
  return "";
}

Reason torch(const Frame& f, const WheelEntry& w, Candidate& c) {
  if (w.torch_mode == "none" || w.torch_spec.empty()) return "";
  const Result<Specifier> spec = Specifier::parse(w.torch_spec);
  if (!spec) return "an unreadable torch requirement: " + w.torch_spec;
  if (!f.torch || !f.wish.keep_torch) {
    if (f.target.torch_asked && f.torch && !spec->admits(f.torch->without_local(), true))
      return "needs torch " + w.torch_spec + ", asked for is " + f.target.torch;
    c.note = "installs torch " + (w.stack.torch.empty() ? w.torch_spec : w.stack.torch);
    return "";
  }
  if (spec->admits(f.torch->without_local(), true)) return "";
  return "needs torch " + w.torch_spec + ", here is " + f.target.torch;
}

Reason abi(const Frame& f, const WheelEntry& w, Candidate&) {
  if (!w.cxx11abi || !f.target.cxx11abi || *w.cxx11abi == *f.target.cxx11abi || w.torch_mode != "locked") return "";
  return std::string("built ") + (*w.cxx11abi ? "with" : "without") + " the C++11 ABI, torch " + f.target.torch +
         " is not";
}

Reason cuda(const Frame& f, const WheelEntry& w, Candidate&) {
  const std::string major =
      !w.cudart.empty() ? w.cudart.substr(w.cudart.rfind('.') + 1) : w.cuda.substr(0, w.cuda.find('.'));
  if (major.empty() || f.cuda_major.empty() || (w.torch_mode == "none" && w.cudart.empty())) return "";
  if (major != f.cuda_major)
    return "for CUDA " + (w.cuda.empty() ? major : w.cuda) + ", torch here has " + f.target.cuda;
  return "";
}

Reason driver(const Frame& f, const WheelEntry& w, Candidate&) {
  if (w.driver_min.empty() || f.target.driver.empty() || f.target.system != "linux") return "";
  if (compare_drivers(f.target.driver, w.driver_min) >= 0) return "";
  return "needs GPU driver " + w.driver_min + ", this is " + f.target.driver;
}

// 3: machine code of that very GPU, 2: of its family, 1: of a lower minor version; -1: PTX; -2: nothing.
int code_for(const WheelEntry& w, int gpu) {
  int best = -2;
  for (const Arch& arch : w.sass) {
    if (!arch.sass_runs_on(gpu)) continue;
    best = std::max(best, arch.sm == gpu && arch.feature != 'f' ? 3 : arch.feature == 'f' ? 2 : 1);
  }
  const bool jit = std::any_of(w.ptx.begin(), w.ptx.end(), [&](const Arch& arch) { return arch.ptx_runs_on(gpu); });
  return best == -2 && jit ? -1 : best;
}

Reason gpu(const Frame& f, const WheelEntry& w, Candidate& c) {
  if (!w.has_gpu()) return "";
  if (f.target.gpus.empty()) return "";  // an image is built, or the wheel has a CPU side: its own tests know
  c.code = 3;
  for (const int sm : f.target.gpus) {
    const int code = code_for(w, sm);
    if (code == -2) {
      Strings has;
      for (const Arch& arch : w.sass) has.push_back(arch.dotted());
      return "no code for GPU " + dotted(sm) + "; it has " + join(has, " ");
    }
    c.code = std::min(c.code, code);
  }
  if (c.code == -1) c.note = "only PTX: the driver compiles it on first use";
  return "";
}

Reason size(const Frame& f, const WheelEntry& w, Candidate&) {
  if (w.size <= f.wish.free_bytes / 4) return "";
  return human_bytes(w.size) + ", and the disk has " + human_bytes(f.wish.free_bytes) + " left";
}

struct Test {
  const char* rule;
  Reason (*test)(const Frame&, const WheelEntry&, Candidate&);
};
// In the order in which they are asked; the first that fails is the reason.
constexpr Test kTests[] = {{"version", project}, {"yanked", yanked}, {"platform", platform}, {"floor", floor},
                           {"python", python},   {"torch", torch},   {"cxx11-abi", abi},     {"cuda", cuda},
                           {"driver", driver},   {"gpu", gpu},       {"size", size}};

// Machine code before PTX, then the newest package, then the newest torch and CUDA, then the smaller file, then the name.
struct Rank {
  int code;
  Version version;
  std::optional<Version> torch, cuda;  // none: before all
  const WheelEntry* wheel;

  explicit Rank(const Candidate& c) : code(c.code), version(c.wheel->name.version().without_local()), wheel(c.wheel) {
    if (const Result<Version> v = Version::parse(wheel->stack.torch)) torch = *v;
    if (const Result<Version> v = Version::parse(wheel->cuda)) cuda = *v;
  }
  bool operator<(const Rank& o) const {
    if (code != o.code) return code > o.code;
    if (version != o.version) return version > o.version;
    if (torch != o.torch) return torch > o.torch;
    if (cuda != o.cuda) return cuda > o.cuda;
    if (wheel->size != o.wheel->size) return wheel->size < o.wheel->size;
    return wheel->file < o.wheel->file;
  }
};

}  // namespace

Result<Wish> parse_wish(const std::string& text) {
  Wish out;
  if (text.empty()) return out;
  const Result<Requirement> r = Requirement::parse(text);
  if (!r)
    return Error{r.error().message,
                 "a project's name, such as sageattention==2.2.0; for a wheel that is here: NAME --from ITS-FOLDER"};
  out.name = normal_name(r->name), out.versions = r->versions;
  return out;
}

std::vector<Candidate> resolve(const Manifest& manifest, const Wish& wish, const Target& target) {
  const Frame frame(wish, target);
  std::vector<Candidate> out;
  out.reserve(manifest.wheels.size());
  for (const WheelEntry& w : manifest.wheels) {
    Candidate c{.wheel = &w};
    for (const Test& test : kTests) {
      c.reason = test.test(frame, w, c);
      if (c.reason.empty()) continue;
      c.rule = test.rule;
      break;
    }
    out.push_back(std::move(c));
  }
  const auto middle = std::stable_partition(out.begin(), out.end(), [](const Candidate& c) { return c.fits(); });
  std::vector<std::pair<Rank, size_t>> order;
  for (auto c = out.begin(); c != middle; ++c) order.emplace_back(Rank(*c), c - out.begin());
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Candidate> sorted;
  sorted.reserve(out.size());
  for (const auto& [rank, i] : order) sorted.push_back(std::move(out[i]));
  sorted.insert(sorted.end(), std::make_move_iterator(middle), std::make_move_iterator(out.end()));
  return sorted;
}

std::string candidates_table(const std::vector<Candidate>& candidates) {
  Table table({"wheel", "fits", "why"});
  for (const Candidate& c : candidates)
    table.row({printable(c.wheel->file), c.fits() ? (&c == &candidates[0] ? "best" : "yes") : "no",
               c.fits() ? c.note : c.rule + ": " + printable(c.reason)});
  return table.str();
}

}  // namespace clary::tool
