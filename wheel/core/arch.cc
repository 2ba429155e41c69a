#include "wheel/core/arch.h"

#include <algorithm>
#include <cstdlib>

#include "wheel/core/tables.h"

namespace clary::tool {
namespace {

// The architectures a toolkit compiles for, oldest first.
std::vector<int> known_to(const Version& toolkit) {
  std::vector<int> out;
  for (const ArchInfo& info : tables().archs) {
    if (info.since <= toolkit && (!info.until || toolkit < *info.until)) out.push_back(info.sm);
  }
  return out;
}

std::string major_minor(const Version& version) {
  return std::to_string(version.release(0)) + "." + std::to_string(version.release(1));
}

// Commas separate list items, except inside one `-gencode arch=compute_80,code=[sm_80,compute_80]`.
std::vector<std::string> words(std::string_view text) {
  std::string spaced = replace_all(replace_all(std::string(text), "-gencode=", " "), "-gencode", " ");
  int brackets = 0;
  std::vector<std::string> out;
  for (std::string_view word : split_any(spaced, " \t\n;\"'")) {
    if (word.starts_with("arch=")) {
      out.emplace_back(word);
      brackets =
          static_cast<int>(std::count(word.begin(), word.end(), '[') - std::count(word.begin(), word.end(), ']'));
    } else if (brackets > 0) {
      out.back() += word;
      brackets -= static_cast<int>(std::count(word.begin(), word.end(), ']'));
    } else {
      for (std::string_view part : split_any(word, ",")) out.emplace_back(part);
    }
  }
  return out;
}

}  // namespace

std::string dotted(int sm) { return std::to_string(sm / 10) + "." + std::to_string(sm % 10); }

std::optional<Arch> Arch::parse(std::string_view text) {
  Arch arch;
  if (!text.empty() && (text.back() == 'a' || text.back() == 'f')) {
    arch.feature = text.back();
    text.remove_suffix(1);
  }
  const size_t dot = text.find('.');
  std::string digits(text);
  if (dot != text.npos) {
    if (text.size() != dot + 2) return std::nullopt;
    digits.erase(dot, 1);
  }
  if (!is_digits(digits) || digits.size() < 2 || digits.size() > 3 || digits[0] == '0') return std::nullopt;
  arch.sm = std::atoi(digits.c_str());
  return arch;
}

std::string Arch::str() const { return std::to_string(sm) + (feature ? std::string(1, feature) : ""); }
std::string Arch::dotted() const { return tool::dotted(sm) + (feature ? std::string(1, feature) : ""); }

bool Arch::sass_runs_on(int device) const {
  if (feature == 'a') return device == sm;
  if (feature == 'f') {
    const ArchInfo* info = tables().arch(sm);
    const std::vector<int> family = info ? info->family : std::vector<int>{sm};
    return std::find(family.begin(), family.end(), device) != family.end();
  }
  return device / 10 == sm / 10 && device >= sm;
}

bool Arch::ptx_runs_on(int device) const { return feature ? sass_runs_on(device) : device >= sm; }

void ArchList::add(Arch arch, bool sass, bool ptx) {
  auto at = std::lower_bound(targets_.begin(), targets_.end(), arch,
                             [](const ArchTarget& t, const Arch& a) { return t.arch < a; });
  if (at == targets_.end() || at->arch != arch) at = targets_.insert(at, {arch});
  at->sass |= sass;
  at->ptx |= ptx;
}

Result<ArchList> ArchList::parse(std::string_view text, const Context& context) {
  const Version toolkit = context.toolkit.value_or(tables().toolkits.back().version);
  ArchList out;
  std::vector<Arch> stages;  // compute_80 beside sm_80 names how sm_80 is compiled; alone it asks for PTX
  for (const std::string& word : words(text)) {
    std::string_view rest = word;
    const Error bad{"not a GPU architecture: `" + printable(word) + "`",
                    "write 8.6, 12.0a, 120f, sm_90a, compute_80, 80-real, 12.0+PTX, native or all-major; `clary plan "
                    "--help` lists every spelling"};
    if (word == "native") {
      if (context.devices.empty())
        return Error{"no GPU here to take `native` from", "name the architectures, such as --arch '8.0 9.0 12.0'"};
      for (int sm : context.devices) out.add({sm}, true, false);
    } else if (word == "all" || word == "all-major") {
      const std::vector<int> known = known_to(toolkit);
      for (int sm : known) {
        if (word == "all" || sm % 10 == 0 || sm == known.front()) out.add({sm}, true, false);
      }
      if (!out.targets_.empty()) out.add({word == "all" ? known.back() : known.back() / 10 * 10}, false, true);
    } else if (rest.starts_with("arch=")) {
      const size_t code = rest.find("code=");
      if (code == rest.npos) return bad;
      for (std::string_view one : split_any(rest.substr(code + 5), "[],")) {
        const bool sass = one.starts_with("sm_");
        if (!sass && !one.starts_with("compute_")) return bad;
        const std::optional<Arch> arch = Arch::parse(one.substr(one.find('_') + 1));
        if (!arch) return bad;
        out.add(*arch, sass, !sass);
      }
    } else if (rest.starts_with("sm_") || rest.starts_with("compute_")) {
      const std::optional<Arch> arch = Arch::parse(rest.substr(rest.find('_') + 1));
      if (!arch) return bad;
      if (rest[0] == 's')
        out.add(*arch, true, false);
      else
        stages.push_back(*arch);
    } else {
      const bool plus = rest.size() > 4 && lower(rest.substr(rest.size() - 4)) == "+ptx";
      if (plus) rest.remove_suffix(4);
      const bool real = rest.ends_with("-real"), is_virtual = rest.ends_with("-virtual");
      if (real || is_virtual) rest = rest.substr(0, rest.rfind('-'));
      if (const std::optional<Arch> arch = Arch::parse(rest)) {
        const bool both = rest.find('.') == rest.npos && !real && !is_virtual;  // CMake's 86 means both
        out.add(*arch, !is_virtual, plus || both || is_virtual);
        continue;
      }
      bool named = false;
      for (const ArchInfo& info : tables().archs) {
        if (lower(info.name) != lower(rest) || info.since > toolkit || (info.until && *info.until <= toolkit)) continue;
        out.add({info.sm}, true, plus);
        named = true;
      }
      if (!named) return bad;
    }
  }
  for (const Arch& arch : stages) {
    const bool paired = std::any_of(out.targets_.begin(), out.targets_.end(),
                                    [&](const ArchTarget& t) { return t.arch == arch && t.sass; });
    if (!paired) out.add(arch, false, true);
  }
  if (out.empty()) return Error{"an empty list of GPU architectures", "such as --arch '8.0 9.0 12.0+PTX'"};
  return out;
}

std::string ArchList::torch() const {
  Strings parts;
  for (const ArchTarget& t : targets_) {
    if (t.sass) parts.push_back(t.arch.dotted() + (t.ptx ? "+PTX" : ""));
  }
  return join(parts, " ");
}

std::string ArchList::text() const {
  Strings parts;
  for (const ArchTarget& t : targets_) parts.push_back(t.sass ? t.arch.dotted() + (t.ptx ? "+PTX" : "") : t.arch.ptx());
  return join(parts, " ");
}

std::string ArchList::cmake() const {
  Strings parts;
  for (const ArchTarget& t : targets_) parts.push_back(t.arch.str() + (!t.ptx ? "-real" : !t.sass ? "-virtual" : ""));
  return join(parts, ";");
}

Strings ArchList::nvcc() const {
  Strings flags;
  for (const ArchTarget& t : targets_) {
    if (t.sass) flags.push_back("-gencode=arch=" + t.arch.ptx() + ",code=" + t.arch.sass());
    if (t.ptx) flags.push_back("-gencode=arch=" + t.arch.ptx() + ",code=" + t.arch.ptx());
  }
  return flags;
}

std::optional<Error> ArchList::check(const Version& toolkit) const {
  const std::string cuda = "CUDA " + major_minor(toolkit);
  for (const ArchTarget& t : targets_) {
    const ArchInfo* info = tables().arch(t.arch.sm);
    const std::string name = t.arch.sass();
    if (!info) {
      return Error{"unknown GPU architecture: " + name, "known: " + [] {
                     Strings all;
                     for (const ArchInfo& a : tables().archs) all.push_back(dotted(a.sm));
                     return join(all, " ");
                   }()};
    }
    if (toolkit < info->since)
      return Error{name + " needs CUDA " + major_minor(info->since) + " or newer, not " + cuda, ""};
    if (info->until && toolkit >= *info->until)
      return Error{name + " was dropped in CUDA " + major_minor(*info->until), ""};
    if (t.arch.feature == 'a' && !info->specific)
      return Error{"there is no " + name + ": the `a` form begins with sm_90a", ""};
    if (t.arch.feature == 'a' && toolkit < *info->specific)
      return Error{name + " needs CUDA " + major_minor(*info->specific) + " or newer, not " + cuda, ""};
    if (t.arch.feature == 'f' && info->family.empty())
      return Error{"there is no " + name + ": family code begins with sm_100f", ""};
    if (t.arch.feature == 'f' && toolkit < *Version::parse("12.9"))
      return Error{name + " needs CUDA 12.9 or newer, not " + cuda, ""};
    // nvcc 13.0: "The same GPU code (`sm_100f`) generated for non family-specific and family-specific GPU arch"
    for (const ArchTarget& other : targets_) {
      if (t.arch.feature == 'f' && other.arch == Arch{t.arch.sm}) {
        return Error{"nvcc refuses " + name + " beside " + other.arch.sass(),
                     "keep " + name + ": it runs wherever " + other.arch.sass() + " of its family does"};
      }
    }
  }
  return std::nullopt;
}

Strings ArchList::remarks() const {
  Strings out;
  for (const ArchTarget& t : targets_) {
    if (t.ptx && t.arch.feature) {
      out.push_back(t.arch.ptx() + " PTX runs on " +
                    (t.arch.feature == 'a' ? "sm_" + std::to_string(t.arch.sm) + " alone" : "its family alone") +
                    ": it is no fallback for newer GPUs; plain " + tool::dotted(t.arch.sm) + "+PTX is");
    }
  }
  return out;
}

}  // namespace clary::tool
