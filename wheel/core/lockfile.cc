#include "wheel/core/lockfile.h"

#include "wheel/core/json.h"

namespace clary::tool {

std::string LockFile::str() const {
  Json list = Json::array();
  for (const Delivery& d : wheels) {
    Json stack = Json::object();
    const std::pair<const char*, const std::string*> parts[] = {{"torch", &d.stack.torch},
                                                                {"torchvision", &d.stack.torchvision},
                                                                {"torchaudio", &d.stack.torchaudio},
                                                                {"triton", &d.stack.triton},
                                                                {"index_url", &d.stack.index_url}};
    for (const auto& [key, value] : parts) {
      if (!value->empty()) stack[key] = *value;
    }
    list.push_back({{"project", d.project},
                    {"version", d.version},
                    {"wheel", d.file},
                    {"sha256", d.sha256},
                    {"size", d.size},
                    {"urls", d.addresses},
                    {"stack", stack},
                    {"source", d.source},
                    {"serial", d.serial}});
  }
  return dump({{"schema", "clary-lock/1"},
               {"schema_version", 1},
               {"target", {{"text", target}, {"abi", abi}, {"machine", machine}, {"system", system}}},
               {"wheels", list}});
}

Result<LockFile> LockFile::parse(std::string_view text, const std::string& name) {
  const Result<Json> json = parse_json(text, name);
  if (!json) return json.error();
  if (!json->is_object() || !text_of(*json, "schema").starts_with("clary-lock/"))
    return Error{"not a lock file: " + name, "clary lock writes one"};
  if (number_of(*json, "schema_version", 1) != 1)
    return Error{"a lock file of a newer clary: " + name, "install a newer clary"};
  LockFile out;
  if (const auto target = json->find("target"); target != json->end() && target->is_object())
    out.target = text_of(*target, "text"), out.abi = text_of(*target, "abi"), out.machine = text_of(*target, "machine"),
    out.system = text_of(*target, "system");
  for (const Json& w : list_of(*json, "wheels")) {
    if (!w.is_object()) return Error{"an entry that is no object in " + name, "clary lock writes it anew"};
    const Json stack = w.contains("stack") && w["stack"].is_object() ? w["stack"] : Json::object();
    Delivery d{.project = text_of(w, "project"),
               .version = text_of(w, "version"),
               .file = text_of(w, "wheel"),
               .sha256 = text_of(w, "sha256"),
               .size = static_cast<uint64_t>(std::max<int64_t>(0, number_of(w, "size"))),
               .addresses = strings_of(w, "urls"),
               .stack = {text_of(stack, "torch"), text_of(stack, "torchvision"), text_of(stack, "torchaudio"),
                         text_of(stack, "triton"), text_of(stack, "index_url")},
               .source = text_of(w, "source"),
               .serial = number_of(w, "serial")};
    const Result<WheelName> wheel = WheelName::parse(d.file);
    if (!wheel) return Error{wheel.error().message + " in " + name, "clary lock writes it anew"};
    if (normal_name(wheel->name()) != d.project || d.sha256.size() != 64)
      return Error{"an entry that contradicts itself in " + name + ": " + printable(d.file),
                   "clary lock writes it anew"};
    for (const std::string* version : {&d.stack.torch, &d.stack.torchvision, &d.stack.torchaudio, &d.stack.triton}) {
      if (const Result<Version> v = Version::parse(version->empty() ? "0" : *version); !v) return v.error();
    }
    out.wheels.push_back(std::move(d));
  }
  return out;
}

}  // namespace clary::tool
