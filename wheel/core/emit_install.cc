#include "wheel/core/emit_install.h"

#include "clary/clary.h"

namespace clary::tool {
namespace {

std::string address(const Delivery& what) {
  for (const std::string& a : what.addresses) {
    if (is_url(a)) return a;
  }
  return what.addresses.empty() ? what.file : "file://" + replace_all(percent(what.addresses[0]), "%2F", "/");
}

Strings pins(const Stack& stack) {
  Strings out;
  const std::pair<const char*, const std::string*> parts[] = {{"torch", &stack.torch},
                                                              {"torchvision", &stack.torchvision},
                                                              {"torchaudio", &stack.torchaudio},
                                                              {"triton", &stack.triton}};
  for (const auto& [name, version] : parts) {
    if (!version->empty()) out.push_back(std::string(name) + "==" + *version);
  }
  return out;
}

std::string head(const Delivery& what) {
  return "# " + what.project + " " + what.version + " from " + what.source + ", manifest " +
         std::to_string(what.serial) + "\n";
}

std::string quoted(const std::string& text) { return yaml(text); }  // TOML's basic strings are JSON's

}  // namespace

std::string emit_requirements(const Delivery& what) {
  std::string out = head(what);
  if (!what.stack.index_url.empty()) out += "--index-url " + what.stack.index_url + "\n";
  for (const std::string& pin : pins(what.stack)) out += pin + "\n";
  return out + what.project + " @ " + address(what) + "#sha256=" + what.sha256 + "\n";
}

std::string emit_constraints(const Delivery& what) {
  std::string out = head(what);
  for (const std::string& pin : pins(what.stack)) out += pin + "\n";
  return out + what.project + "==" + what.version + "\n";
}

std::string emit_pylock(const Delivery& what, const std::string& requires_python) {
  std::string out = "lock-version = \"1.0\"\ncreated-by = \"clary " CLARY_VERSION "\"\n";
  if (!requires_python.empty()) out += "requires-python = " + quoted(requires_python) + "\n";
  out += "\n[[packages]]\nname = " + quoted(what.project) + "\nversion = " + quoted(what.version) +
         "\n\n[[packages.wheels]]\nname = " + quoted(what.file) + "\nurl = " + quoted(address(what)) + "\n";
  if (what.size) out += "size = " + std::to_string(what.size) + "\n";
  return out + "hashes = {sha256 = " + quoted(what.sha256) + "}\n";
}

std::string emit_dockerfile(const Delivery& what) {
  std::string out = head(what) + "RUN --mount=type=cache,target=/root/.cache/pip \\\n";
  if (const Strings stack = pins(what.stack); !stack.empty()) {
    out += "    python3 -m pip install " + join(stack, " ");
    if (!what.stack.index_url.empty()) out += " --index-url " + shell(what.stack.index_url);
    out += " && \\\n";
  }
  return out + "    python3 -m pip install --no-deps " +
         shell(what.project + " @ " + address(what) + "#sha256=" + what.sha256) + "\n";
}

}  // namespace clary::tool
