// T1 to T4 and P1: what is asked of libtorch and of Python.
#include <algorithm>

#include "wheel/core/tables.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

std::string some(const Strings& names) {
  return demangled(names[0]) + (names.size() > 1 ? " and " + thousands(names.size() - 1) + " more" : "");
}

Strings imports_of(const BinaryFacts& b, SymbolOwner owner) {
  Strings out;
  for (const Import& import : b.imports) {
    if (import.owner == owner && !import.weak) out.push_back(import.name);
  }
  return out;
}

// The torch a wheel is for, by its label or its requirement.
const TorchRelease* torch_of(const WheelFacts& w, std::string* cuda) {
  if (!w.name) return nullptr;
  const StackLabel label = StackLabel::of(w.name->version().local());
  *cuda = label.cuda;
  const Requirement* requirement = w.has_metadata ? w.metadata.requirement("torch") : nullptr;
  const TorchRelease* found = nullptr;
  for (const TorchRelease& r : tables().torch) {
    const std::string full = r.version.str();
    if (!label.torch.empty()
            ? full == label.torch || r.line() == label.torch
            : requirement && !requirement->versions.empty() && requirement->versions.admits(r.version)) {
      if (found && found->line() != r.line()) return nullptr;  // for several
      found = &r;
    }
  }
  return found;
}

void check_cxx_abi(Verifier& v, const BinaryFacts& b, const Strings& torch) {
  const auto has = [&](std::string_view part) {
    return std::find_if(torch.begin(), torch.end(), [&](const std::string& s) { return s.find(part) != s.npos; });
  };
  const auto modern = has("NSt7__cxx1112basic_string"),
             old = std::find_if(torch.begin(), torch.end(), [](const std::string& s) {
               return s.find("SsE") != s.npos || s.find("RKSs") != s.npos ||
                      s.ends_with("Ss");  // std::string as it was before the C++11 ABI
             });
  if (modern != torch.end() && old != torch.end()) {
    v.add("T4.abi", b.path, "mixes the two C++ ABIs: " + demangled(*modern) + " and " + demangled(*old),
          "objects of one library were compiled with different _GLIBCXX_USE_CXX11_ABI");
    return;
  }
  std::string cuda;
  const TorchRelease* release = v.wheel() ? torch_of(*v.wheel(), &cuda) : nullptr;
  if (!release || b.machine != "x86_64" || b.format != "ELF" ||
      (cuda.empty() && !release->cxx11abi && !release->cxx11abi_cuda.empty()))
    return;
  const bool wants = release->has_cxx11abi(cuda);
  if (wants && old != torch.end()) {
    v.add("T4.abi", b.path,
          "compiled with _GLIBCXX_USE_CXX11_ABI=0; torch " + release->version.str() +
              " has the C++11 ABI: " + demangled(*old));
  } else if (!wants && modern != torch.end()) {
    v.add("T4.abi", b.path,
          "compiled with the C++11 ABI; torch " + release->version.str() +
              " was built with _GLIBCXX_USE_CXX11_ABI=0: " + demangled(*modern));
  }
}

void check_stable(Verifier& v, const BinaryFacts& b, const Version& promised) {
  for (const std::string& name : imports_of(b, SymbolOwner::kTorchShim)) {
    const auto known = tables().torch_shim.find(name);
    if (known == tables().torch_shim.end()) {
      v.add("T2.unknown", b.path, name + " is not a known function of the stable ABI");
    } else if (promised < *Version::parse(known->second)) {
      v.add("T2.newer", b.path,
            name + " came with torch " + std::string(known->second) + ", promised is " + promised.str());
    }
  }
}

struct PythonAbi {
  enum Kind { kNone, kStable, kExact } kind = kExact;
  Interpreter interpreter;
};

std::optional<PythonAbi> python_abi(const WheelName& name) {
  PythonAbi out;
  const Tag& tag = name.tags()[0];
  const std::optional<Interpreter> interpreter = Interpreter::of(tag.python);
  if (!interpreter) return std::nullopt;
  out.interpreter = *interpreter;
  out.kind = tag.abi == "none" ? PythonAbi::kNone : tag.abi == "abi3" ? PythonAbi::kStable : PythonAbi::kExact;
  for (const Tag& other : name.tags()) {  // cp39.cp310-abi3: the oldest counts
    const std::optional<Interpreter> one = Interpreter::of(other.python);
    if (one && one->kind == out.interpreter.kind && one->minor < out.interpreter.minor) out.interpreter = *one;
  }
  return out;
}

// "312" of _C.cpython-312-x86_64-linux-gnu.so and _C.cp312-win_amd64.pyd.
std::string python_of_file(const std::string& name) {
  for (std::string_view mark : {".cpython-", ".cp"}) {
    const size_t i = name.find(mark);
    if (i == name.npos) continue;
    const size_t begin = i + mark.size();
    return name.substr(begin, name.find_first_not_of("0123456789", begin) - begin);
  }
  return "";
}

}  // namespace

void check_torch(Verifier& v) {
  const std::string& mode = v.policy.torch;
  for (const BinaryFacts& b : v.facts.binaries) {
    const Strings cxx = imports_of(b, SymbolOwner::kTorch), shim = imports_of(b, SymbolOwner::kTorchShim);
    if (mode == "none" && !(cxx.empty() && shim.empty())) {
      v.add("T1.torch", b.path, "uses libtorch: " + some(cxx.empty() ? shim : cxx),
            "pass pointers, sizes and the stream through a C function instead");
    }
    if (mode.starts_with("stable-")) {
      if (!cxx.empty())
        v.add("T2.cxx", b.path, "uses C++ symbols of libtorch: " + some(cxx),
              "include torch/csrc/stable/ headers only, and define TORCH_TARGET_VERSION");
      check_stable(v, b, *Version::parse(mode.substr(7)));
    }
    if (mode == "auto" && cxx.empty() && !shim.empty()) {
      const Requirement* torch =
          v.wheel() && v.wheel()->has_metadata ? v.wheel()->metadata.requirement("torch") : nullptr;
      for (const TorchRelease& r : tables().torch) {  // the oldest torch the wheel admits is the promise
        if (!torch || torch->versions.empty() || !torch->versions.admits(r.version)) continue;
        check_stable(v, b, *Version::parse(r.line()));
        break;
      }
    }
    if (!cxx.empty()) check_cxx_abi(v, b, cxx);
    if (v.against.name.empty()) continue;
    Strings missing;
    for (const Strings* names : {&cxx, &shim}) {
      for (const std::string& name : *names) {
        if (!v.against.exports.contains(name)) missing.push_back(name);
      }
    }
    if (!missing.empty())
      v.add("T3.missing", b.path, "not in " + v.against.name + ": " + some(missing),
            "importing it with that torch ends in `undefined symbol`");
  }
}

void check_python(Verifier& v) {
  const WheelFacts* w = v.wheel();
  const std::optional<PythonAbi> abi = w && w->name ? python_abi(*w->name) : std::nullopt;
  for (const BinaryFacts& b : v.facts.binaries) {
    for (const std::string& name : b.needed) {
      if (tables().owner_of(name) == Owner::kPython)
        v.add("P1.libpython", b.path, "needs " + printable(name),
              "an extension finds Python's symbols in the running process: do not link libpython");
    }
    if (!abi || abi->interpreter.kind == "pp") continue;
    const Strings python = imports_of(b, SymbolOwner::kPython);
    const std::string name = base_name(b.path);
    if (abi->kind == PythonAbi::kNone && !python.empty()) {
      v.add("P1.none", b.path, "uses Python symbols: " + some(python),
            "tag the wheel for its Python, or make the library a plain one");
    }
    if (abi->kind == PythonAbi::kStable) {
      Strings unstable;
      for (const std::string& symbol : python) {
        const auto known = tables().python_abi.find(symbol);
        if (known == tables().python_abi.end()) {
          unstable.push_back(symbol);
        } else if (Version::parse(known->second)->release(1) >
                   static_cast<uint64_t>(std::max(abi->interpreter.minor, 0))) {
          v.add("P1.newer", b.path,
                symbol + " came with Python " + std::string(known->second) +
                    format(", the tag promises %d.%d", abi->interpreter.major, abi->interpreter.minor));
        }
      }
      if (!unstable.empty())
        v.add("P1.abi3", b.path, "not of the stable ABI: " + some(unstable),
              "define Py_LIMITED_API before Python.h; pybind11 cannot be used");
    }
    const std::string file_python = python_of_file(name);
    if (!file_python.empty() && abi->kind == PythonAbi::kExact) {
      const std::string tag_python = format("%d%d", abi->interpreter.major, abi->interpreter.minor);
      if (file_python != tag_python)
        v.add("P1.suffix", b.path,
              "a module for Python " + file_python.substr(0, 1) + "." + file_python.substr(1) + " in a wheel for cp" +
                  tag_python);
    }
    const bool module = !file_python.empty() || name.find(".abi3.so") != name.npos || name.ends_with(".pyd");
    if (module && b.python_inits.empty())
      v.add("P1.init", b.path, "exports no PyInit_*: it cannot be imported",
            "fine for a library that torch.ops.load_library opens");
  }
}

}  // namespace clary::tool
