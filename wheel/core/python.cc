#include "wheel/core/python.h"

#include <algorithm>
#include <cstdlib>

#include "wheel/core/checkup.h"
#include "wheel/core/version.h"

namespace clary::tool {
namespace {

constexpr const char* kAsk =
    "import sys,sysconfig as s;print(sys.version.split()[0],s.get_paths()['purelib'],int(bool(s.get_config_var("
    "'Py_GIL_DISABLED'))),sys.implementation.name)";
constexpr int kOldest = 9, kNewest = 16;  // of Python 3

int minor_number(const Python& p) {
  const std::vector<std::string_view> parts = split(p.version, '.');
  return parts.size() < 2 || parts[0] != "3" ? 0 : std::atoi(std::string(parts[1]).c_str());
}

}  // namespace

std::string Python::minor() const {
  return version.substr(0, version.find('.', version.find('.') + 1)) + (threaded ? "t" : "");
}

Result<Python> ask_python(Ctx& ctx, const std::string& program) {
  const Result<Finished> said = ctx.proc.run({program, "-I", "-c", kAsk}, 20);
  if (!said) return Error{"no " + program + " that starts", said.error().message};
  const std::string text = said->exit_code == 0 ? said->out : "";
  const std::vector<std::string_view> words = split_any(text, " \n");
  if (words.size() != 4) return Error{"no Python: " + program, std::string(trim(said->err.substr(0, 200)))};
  if (words[3] != "cpython") return Error{"not CPython: " + program, ""};
  return Python{program, std::string(words[0]), std::string(words[1]), words[2] == "1"};
}

std::vector<Python> find_pythons(Ctx& ctx) {
  Strings programs = {"python3"};
  for (int minor = kOldest; minor <= kNewest; minor++) {
    for (const char* suffix : {"", "t"}) {
      const std::string program = format("python3.%d%s", minor, suffix);
      if (ctx.proc.find(program)) programs.push_back(program);
    }
  }
  const std::string home = ctx.proc.env("HOME").value_or("");
  const std::string pyenv = ctx.proc.env("PYENV_ROOT").value_or(home + "/.pyenv") + "/versions";
  const std::string uv = ctx.proc.env("UV_PYTHON_INSTALL_DIR").value_or(home + "/.local/share/uv/python");
  for (const std::string& folder : {pyenv, uv}) {
    const Result<Strings> names = ctx.disk.list(folder);
    for (const std::string& name : names ? *names : Strings{}) {
      const std::string program = folder + "/" + name + "/bin/python3";
      if (ctx.disk.info(program)) programs.push_back(program);
    }
  }
  std::vector<Python> out;
  for (const std::string& program : programs) {
    const Result<Python> python = ask_python(ctx, program);
    if (!python || minor_number(*python) < kOldest) continue;
    const bool known =
        std::any_of(out.begin(), out.end(), [&](const Python& p) { return p.minor() == python->minor(); });
    if (!known) out.push_back(*python);
  }
  std::sort(out.begin(), out.end(), [](const Python& a, const Python& b) {
    return std::pair(minor_number(a), a.threaded) < std::pair(minor_number(b), b.threaded);
  });
  return out;
}

Result<Python> python_for(Ctx& ctx, const std::string& minor) {
  const std::optional<std::string> venv = ctx.proc.env("VIRTUAL_ENV");
  for (const std::string& program :
       {venv ? *venv + "/bin/python" : std::string(), "python" + minor, std::string("python3")}) {
    if (program.empty()) continue;
    const Result<Python> python = ask_python(ctx, program);
    if (python && (minor.empty() || python->minor() == minor)) return python;
  }
  Strings there;
  for (const Python& python : find_pythons(ctx)) {
    if (python.minor() == minor) return python;
    there.push_back(python.minor());
  }
  if (minor.empty()) return Error{"no python3 that starts", ""};
  return Error{"no Python " + minor + " on this machine",
               "there are: " + join(there, ", ") + "; get one with: uv python install " + minor};
}

Job make_environment(Ctx& ctx, const Python& python, const std::string& folder) {
  // Debian's Python comes without ensurepip; then uv makes the environment.
  const Result<Finished> whole = ctx.proc.run({python.program, "-I", "-c", "import venv, ensurepip"}, 20);
  const bool complete = whole && whole->exit_code == 0;
  if (complete || !ctx.proc.find("uv")) return {.argv = {python.program, "-I", "-m", "venv", folder}, .seconds = 300};
  return {.argv = {"uv", "venv", "--seed", "--python", python.program, folder}, .seconds = 300};
}

std::string cache_folder(Ctx& ctx) {
  if (const std::string given = ctx.proc.env("CLARY_CACHE").value_or(""); !given.empty()) return absolute(ctx, given);
  const std::string xdg = ctx.proc.env("XDG_CACHE_HOME").value_or("");
  return (xdg.empty() ? ctx.proc.env("HOME").value_or("/tmp") + "/.cache" : xdg) + "/clary";
}

std::string current_folder(Ctx& ctx) {
  const std::string folder = first_line_of(ctx, {"pwd", "-P"});
  return folder.empty() ? "." : folder;
}

std::string absolute(Ctx& ctx, const std::string& path) {
  if (path.starts_with("/")) return path;
  std::string out = current_folder(ctx);             // no links in it: `..` is its parent
  if (out == ".") return path.empty() ? out : path;  // nobody knows where we are
  std::string_view rest = path;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find('/'));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    if (part == "..")
      out = dir_name(out);
    else if (!part.empty() && part != ".")
      out += (out.ends_with('/') ? "" : "/") + std::string(part);
  }
  return out;
}

}  // namespace clary::tool
