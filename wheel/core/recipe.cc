#include "wheel/core/recipe.h"

#include <algorithm>

#include "wheel/core/json.h"
#include "wheel/core/requirement.h"

namespace clary::tool {
namespace {

Json table_of(const Json& json, const char* key) {
  return json.contains(key) && json[key].is_object() ? json[key] : Json::object();
}

std::map<std::string, std::string> map_of(const Json& json, const char* key) {
  std::map<std::string, std::string> out;
  const Json table = table_of(json, key);
  for (const auto& [name, value] : table.items()) {
    out[name] = value.is_string() ? value.get<std::string>() : dump_line(value);
  }
  return out;
}

Result<Done> choice(const char* key, const std::string& value, const Strings& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return Done{};
  return Error{std::string("unknown value of ") + key + ": `" + printable(value) + "`",
               "one of " + join(choices, ", ")};
}

}  // namespace

Result<Version> version_in(std::string_view text, const std::string& name) {
  // VERSION "1.2.3", __version__ = "1.2.3", version: '1.2.3', or nothing but the version.
  for (std::string_view line : lines(text)) {
    const std::string low = lower(line);
    const size_t word = low.find("version"), open = line.find_first_of("\"'", std::min(word, line.size())),
                 close = open == line.npos ? line.npos : line.find(line[open], open + 1);
    if (word == low.npos || close == line.npos) continue;
    if (Result<Version> found = Version::parse(line.substr(open + 1, close - open - 1))) return found;
  }
  if (Result<Version> whole = Version::parse(trim(text.substr(0, 100)))) return whole;
  return Error{"no version in " + name, "a line such as VERSION \"1.2.3\""};
}

Result<Recipe> parse_recipe(std::string_view text, const std::string& name) {
  const Result<Json> json = parse_toml(text, name);
  if (!json) return json.error();
  if (auto ok = check_keys(
          *json, {"package", "matrix", "build", "test", "cost", "patch", "exclude", "policy", "publish", "fallback"},
          name);
      !ok)
    return ok.error();
  const Json package = table_of(*json, "package"), matrix = table_of(*json, "matrix"), build = table_of(*json, "build"),
             cost = table_of(*json, "cost");
  if (auto ok = check_keys(
          matrix, {"torch", "cuda", "python", "platform", "arch", "python-abi", "abi3-floor", "torch-abi", "local"},
          name + " [matrix]");
      !ok)
    return ok.error();
  const Json test = table_of(*json, "test");
  if (auto ok = check_keys(build,
                           {"base-image", "folder", "cuda", "requires", "env", "settings", "patches", "expect-modules"},
                           name + " [build]");
      !ok)
    return ok.error();
  if (auto ok = check_keys(test, {"call"}, name + " [test]"); !ok) return ok.error();
  if (auto ok = check_keys(cost, {"units", "seconds", "memory-mb"}, name + " [cost]"); !ok) return ok.error();

  Recipe r;
  r.name = text_of(package, "name");
  if (!is_project_name(r.name)) return Error{"no [package] name in " + name, "add name = \"...\""};
  r.version_from = text_of(package, "version-from");
  const Result<Version> version = Version::parse(r.version_from.empty() ? text_of(package, "version") : "0");
  if (!version) return Error{"no [package] version in " + name + ": " + version.error().message, ""};
  r.version = *version;
  r.torch = strings_of(matrix, "torch");
  r.cuda = strings_of(matrix, "cuda");
  r.python = strings_of(matrix, "python");
  r.platform = strings_of(matrix, "platform");
  r.arch = text_of(matrix, "arch", r.arch);
  r.python_abi = text_of(matrix, "python-abi", r.python_abi);
  r.abi3_floor = text_of(matrix, "abi3-floor", r.abi3_floor);
  r.torch_abi = text_of(matrix, "torch-abi", r.torch_abi);
  r.local = text_of(matrix, "local", r.local);
  r.base_image = text_of(build, "base-image");
  r.folder = text_of(build, "folder", r.folder);
  r.cuda_compiler = text_of(build, "cuda", r.cuda_compiler);
  r.packages = strings_of(build, "requires");
  r.env = map_of(build, "env");
  r.settings = map_of(build, "settings");
  r.patches = strings_of(build, "patches");
  r.expect_modules = strings_of(build, "expect-modules");
  r.policy = text_of(table_of(*json, "policy"), "name");
  r.call = text_of(test, "call");
  for (const Json& row : list_of(*json, "patch")) {
    if (auto ok = check_keys(row, {"file", "find", "replace", "times", "reason"}, name + " [[patch]]"); !ok)
      return ok.error();
    r.edits.push_back({text_of(row, "file"), text_of(row, "find"), text_of(row, "replace"), text_of(row, "reason"),
                       static_cast<int>(number_of(row, "times", 1))});
    const Edit& edit = r.edits.back();
    const bool outside = edit.file.starts_with("/") || ("/" + edit.file + "/").find("/../") != std::string::npos;
    if (edit.file.empty() || edit.find.empty() || outside)
      return Error{"a [[patch]] without a file of the sources and a text to find in " + name,
                   "file = \"setup.py\", find = \"...\", replace = \"...\""};
  }
  const bool version_or_word = r.cuda_compiler == "auto" || r.cuda_compiler == "no" || Version::parse(r.cuda_compiler);
  if (!version_or_word)
    return Error{"unknown value of cuda in " + name + ": `" + printable(r.cuda_compiler) + "`",
                 "auto, no, or a version such as 13.2"};
  if (auto ok = choice("python-abi", r.python_abi, {"cp", "abi3", "none"}); !ok) return ok.error();
  if (auto ok = choice("torch-abi", r.torch_abi, {"locked", "none"}); !ok) return ok.error();
  r.units = static_cast<int>(std::clamp<int64_t>(number_of(cost, "units", r.units), 1, 100'000));
  r.seconds = static_cast<int>(std::clamp<int64_t>(number_of(cost, "seconds", r.seconds), 1, 100'000));
  r.memory_mb = static_cast<int>(std::clamp<int64_t>(number_of(cost, "memory-mb", r.memory_mb), 1, 1'000'000));
  for (const Json& row : list_of(*json, "exclude")) {
    if (auto ok = check_keys(row, {"torch", "cuda", "python", "platform", "reason"}, name + " [[exclude]]"); !ok)
      return ok.error();
    const std::string reason = text_of(row, "reason");
    if (reason.empty())
      return Error{"an [[exclude]] without a reason in " + name, "say why the cell is left out: reason = \"...\""};
    r.excludes.push_back({text_of(row, "torch", "*"), text_of(row, "cuda", "*"), text_of(row, "python", "*"),
                          text_of(row, "platform", "*"), reason});
  }
  return r;
}

}  // namespace clary::tool
