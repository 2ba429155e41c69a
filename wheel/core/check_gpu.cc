// F1 to F7: the GPU code.
#include <algorithm>
#include <map>
#include <set>

#include "wheel/core/tables.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

constexpr uint64_t kRawWorthPacking = 1 << 20;

using ArchSet = std::set<Arch>;

std::string text_of(const ArchSet& set) {
  Strings parts;
  for (const Arch& a : set) parts.push_back(a.sass());
  return parts.empty() ? "no machine code" : join(parts, " ");
}

// The architectures of the machine code in each module.
std::map<uint32_t, ArchSet> modules(const GpuCode& gpu) {
  std::map<uint32_t, ArchSet> out;
  for (const GpuImage& i : gpu.images) {
    ArchSet& set = out[i.container];
    if (i.kind == ImageKind::kSass && !i.bare) set.insert(i.arch);
  }
  return out;
}

void check_coverage(Verifier& v) {
  for (int device : v.policy.require_sass) {
    const bool covered = std::any_of(v.facts.binaries.begin(), v.facts.binaries.end(), [&](const BinaryFacts& b) {
      return std::any_of(b.gpu.images.begin(), b.gpu.images.end(),
                         [&](const GpuImage& i) { return i.kind == ImageKind::kSass && i.arch.sass_runs_on(device); });
    });
    if (covered) continue;
    v.add(
        "F1.missing", "", "no machine code that runs on compute capability " + dotted(device),
        "add " + dotted(device) +
            " to the architectures of the build; users see `no kernel image is available for execution on the device`");
  }
  const bool any = std::any_of(v.facts.binaries.begin(), v.facts.binaries.end(),
                               [](const BinaryFacts& b) { return !b.gpu.images.empty(); });
  const bool plain = std::any_of(v.facts.binaries.begin(), v.facts.binaries.end(), [](const BinaryFacts& b) {
    return std::any_of(b.gpu.images.begin(), b.gpu.images.end(),
                       [](const GpuImage& i) { return i.kind == ImageKind::kPtx && !i.arch.feature; });
  });
  if (v.policy.require_ptx == "plain" && any && !plain) {
    v.add("F3.fallback", "", "no plain PTX: GPUs newer than the build cannot run it",
          "add compute_75 or compute_80 PTX, such as 8.0+PTX");
  }
}

void check_evenness(Verifier& v, const BinaryFacts& b) {
  std::map<ArchSet, size_t> votes;
  const std::map<uint32_t, ArchSet> all = modules(b.gpu);
  for (const auto& [module, set] : all) {
    if (!set.empty()) votes[set]++;
  }
  if (votes.size() < 2) return;
  const auto usual =
      std::max_element(votes.begin(), votes.end(), [](const auto& x, const auto& y) { return x.second < y.second; });
  for (const auto& [set, n] : votes) {
    ArchSet lacks, extra;
    std::set_difference(usual->first.begin(), usual->first.end(), set.begin(), set.end(),
                        std::inserter(lacks, lacks.end()));
    std::set_difference(set.begin(), set.end(), usual->first.begin(), usual->first.end(),
                        std::inserter(extra, extra.end()));
    // A toolkit's default is the oldest it knows; device-link stubs get it when no architecture was given.
    const bool stray = set.size() == 1 && extra.size() == 1 && !extra.begin()->feature &&
                       (extra.begin()->sm == 52 || extra.begin()->sm == 75);
    if (stray) {
      v.add("F7.stray", b.path,
            count(n, "module") + " with " + text_of(set) + " alone; the others have " + text_of(usual->first),
            "pass the architectures to the device-link step too");
    } else if (!lacks.empty()) {
      v.add("F2.uneven", b.path,
            count(n, "module") + " of " + thousands(all.size()) + (n == 1 ? " lacks " : " lack ") + text_of(lacks) +
                "; " + (n == 1 ? "it has " : "they have ") + text_of(set));
    }
  }
}

void check_driver(Verifier& v, const BinaryFacts& b) {
  const std::string& driver = v.policy.driver;
  if (driver.empty()) return;
  std::set<std::string> said;
  const auto once = [&](const char* rule, const std::string& text, const std::string& hint) {
    if (said.insert(text).second) v.add(rule, b.path, text, hint);
  };
  for (const GpuImage& i : b.gpu.images) {
    const Result<Version> toolkit = Version::parse(i.toolkit);
    const CudaMajor* major = toolkit ? tables().major(toolkit->release(0)) : nullptr;
    if (i.kind == ImageKind::kSass && major && compare_drivers(driver, major->driver) < 0) {
      once("F4.toolkit",
           i.name() + " made by CUDA " + i.toolkit + " needs driver " + major->driver + ", promised is " + driver,
           "compile with a CUDA 12 toolkit, or promise the newer driver");
    }
    const Result<Version> isa = Version::parse(i.isa);
    if (i.kind == ImageKind::kPtx && isa) {
      const Toolkit* first = tables().toolkit_of_ptx(*isa);
      if (!first || compare_drivers(driver, first->driver) < 0) {
        once("F4.ptx",
             i.name() + " PTX of ISA " + i.isa + " needs driver " +
                 (first ? first->driver : "newer than any known here") + ", promised is " + driver,
             "PTX knows no minor-version compatibility: make it with the oldest toolkit that can");
      }
    }
    if (i.packing == Packing::kZstd) {
      const CudaMajor* made = major ? major : tables().major(12);
      if (made && !made->zstd.empty() && compare_drivers(driver, made->zstd) < 0) {
        once("F5.packing",
             i.name() + " is Zstandard-compressed, which needs driver " + made->zstd + ", promised is " + driver,
             "nvcc -compress-mode=speed makes LZ4, which every 12.x driver reads");
      }
    }
  }
}

void check_waste(Verifier& v, const BinaryFacts& b) {
  uint64_t raw = 0;
  std::map<uint32_t, ArchSet> seen;
  std::set<std::string> twice;
  for (const GpuImage& i : b.gpu.images) {
    if (i.kind != ImageKind::kSass || i.bare) continue;
    if (i.packing == Packing::kNone) raw += i.stored;
    if (!seen[i.container].insert(i.arch).second) twice.insert(i.name());
  }
  if (!twice.empty())
    v.add("F6.twice", b.path, *twice.begin() + " more than once in a module", "an architecture is given twice to nvcc");
  if (raw > kRawWorthPacking) {
    v.add("F5.raw", b.path, human_bytes(raw) + " of machine code is not compressed",
          "nvcc -compress-mode=size, or speed for drivers before 550: a tenth of the size");
  }
  for (const DeadCode& dead : v.policy.dead) {
    if (!matches(dead.match, b.path)) continue;
    std::map<Arch, uint64_t> wasted;
    for (const GpuImage& i : b.gpu.images) {
      if (std::find(dead.only.begin(), dead.only.end(), i.arch) == dead.only.end()) wasted[i.arch] += i.stored;
    }
    for (const auto& [arch, bytes] : wasted)
      v.add("F6.dead", b.path, arch.sass() + " code, " + human_bytes(bytes) + ", is never chosen here");
  }
}

}  // namespace

void check_gpu(Verifier& v) {
  check_coverage(v);
  for (const BinaryFacts& b : v.facts.binaries) {
    for (const std::string& fault : b.gpu.faults) v.add("F1.broken", b.path, fault);
    std::set<std::string> locked;
    for (const GpuImage& i : b.gpu.images) {
      if (i.kind == ImageKind::kPtx && i.arch.feature && locked.insert(i.name()).second) {
        v.add("F3.locked", b.path,
              i.name() + " PTX runs on " +
                  (i.arch.feature == 'a' ? "sm_" + std::to_string(i.arch.sm)
                                         : "the sm_" + std::to_string(i.arch.sm) + " family") +
                  " alone",
              "it is no fallback: embed plain PTX, such as " + dotted(i.arch.sm) + "+PTX or 8.0+PTX");
      }
    }
    check_evenness(v, b);
    check_driver(v, b);
    check_waste(v, b);
  }
}

}  // namespace clary::tool
