#include "wheel/core/manifest.h"

#include <algorithm>

#include "wheel/core/json.h"
#include "wheel/core/site.h"
#include "wheel/core/tables.h"

namespace clary::tool {
namespace {

constexpr const char* kSchema = "clary-manifest/1";
constexpr int64_t kMostSerial = int64_t{1} << 53;

const Json& object_of(const Json& json, const char* key) {
  static const Json nothing = Json::object();
  const auto found = json.find(key);
  return found != json.end() && found->is_object() ? *found : nothing;
}

std::string first_of(const Json& json, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (const std::string text = text_of(json, key); !text.empty()) return text;
  }
  return "";
}

Stack stack_of(const Json& json, bool top) {
  const std::string end = top ? "_version" : "";
  const auto get = [&](const char* name) { return text_of(json, (name + end).c_str()); };
  return {get("torch"), get("torchvision"), get("torchaudio"), get("triton"),
          text_of(json, top ? "torch_index_url" : "index_url")};
}

void put_stack(Json& json, const Stack& stack, bool top) {
  const std::string end = top ? "_version" : "";
  const auto set = [&](const std::string& key, const std::string& value) {
    if (!value.empty()) json[key] = value;
  };
  set("torch" + end, stack.torch), set("torchvision" + end, stack.torchvision);
  set("torchaudio" + end, stack.torchaudio), set("triton" + end, stack.triton);
  set(top ? "torch_index_url" : "index_url", stack.index_url);
}

// A version that goes into a command line or an address must be one.
Result<Done> check_stack(const Stack& stack) {
  for (const std::string* version : {&stack.torch, &stack.torchvision, &stack.torchaudio, &stack.triton}) {
    if (version->empty()) continue;
    if (const Result<Version> parsed = Version::parse(*version); !parsed) return parsed.error();
  }
  return Done{};
}

// "sha256:ab...", "SHA256=ab..." or the digits alone.
std::string digits_of(const std::string& checksum) {
  return lower(checksum.substr(checksum.find_last_of(":=") == checksum.npos ? 0 : checksum.find_last_of(":=") + 1));
}

std::vector<Arch> archs_of(const Json& list) {
  std::vector<Arch> out;
  for (const Json& item : list) {
    const std::string text = item.is_string() ? item.get<std::string>() : item.is_object() ? text_of(item, "arch") : "";
    if (const std::optional<Arch> arch = Arch::parse(text)) out.push_back(*arch);
  }
  return out;
}

// The list that a first installer's manifest has not.
Json list_of_first(const std::vector<WheelEntry>& wheels) {
  Json list = Json::array();
  for (const WheelEntry& old : wheels) list.push_back({{"filename", old.file}, {"sha256", old.sha256}});
  return list;
}

Result<WheelEntry> entry_of(const Json& json) {
  if (!json.is_object()) return Error{"an entry that is no object", ""};
  const std::string file = first_of(json, {"filename", "wheel", "wheel_filename", "wheel_name"});
  Result<WheelName> name = WheelName::parse(file);
  if (!name) return name.error();
  const StackLabel label = StackLabel::of(name->version().local());
  WheelEntry e{.name = *std::move(name)};
  e.file = file;
  e.sha256 = digits_of(first_of(json, {"sha256", "wheel_sha256", "checksum"}));
  if (e.sha256.size() != 64 || e.sha256.find_first_not_of("0123456789abcdef") != e.sha256.npos)
    return Error{"no SHA-256 of " + file, ""};
  e.size = static_cast<uint64_t>(std::max<int64_t>(0, number_of(json, "size")));
  e.urls = strings_of(json, "urls");
  const Json &platform = object_of(json, "platform"), &torch = object_of(json, "torch"),
             &cuda = object_of(json, "cuda");
  e.requires_python = text_of(object_of(json, "python"), "requires");
  e.glibc = text_of(platform, "glibc");
  const std::string isa = text_of(platform, "isa");  // "x86-64-v3"
  e.isa_level = isa.size() == 9 && isa.starts_with("x86-64-v") ? std::clamp(isa[8] - '0', 1, 4) : 1;
  const std::string line = label.torch.empty() ? "" : "==" + label.torch + ".*";
  e.torch_mode = text_of(torch, "mode", line.empty() ? "none" : "locked");
  e.torch_spec = text_of(torch, "spec", line);
  if (torch.contains("cxx11abi") && torch["cxx11abi"].is_boolean()) e.cxx11abi = torch["cxx11abi"].get<bool>();
  e.cuda = text_of(cuda, "version", label.cuda);
  e.cudart = text_of(cuda, "cudart_soname");
  e.driver_min = text_of(cuda, "driver_min_linux");
  e.sass = archs_of(list_of(json, "sass"));
  for (const Json& ptx : list_of(json, "ptx")) {
    const std::optional<Arch> arch = Arch::parse(ptx.is_object() ? text_of(ptx, "arch") : "");
    if (arch && !bool_of(ptx, "locked")) e.ptx.push_back(*arch);
  }
  e.stack = stack_of(object_of(json, "stack"), false);
  const auto yanked = json.find("yanked");
  if (yanked != json.end() && yanked->is_string()) e.yanked = yanked->get<std::string>();
  if (yanked != json.end() && yanked->is_boolean() && yanked->get<bool>()) e.yanked = "no reason given";
  if (Result<Done> good = check_stack(e.stack); !good) return good.error();
  return e;
}

}  // namespace

Manifest::Manifest() : raw_(std::make_unique<Json>(Json::object())) {}
Manifest::~Manifest() = default;
Manifest::Manifest(Manifest&&) noexcept = default;
Manifest& Manifest::operator=(Manifest&&) noexcept = default;

Result<Manifest> Manifest::parse(std::string_view text, const std::string& name) {
  Result<Json> json = parse_json(text, name);
  if (!json) return json.error();
  if (!json->is_object()) return Error{"not a manifest: " + name, "it is the latest.json that clary publish writes"};
  const int64_t version = number_of(*json, "schema_version", 1);
  if (version != 1)
    return Error{"a manifest of schema version " + std::to_string(version) + ": " + name, "install a newer clary"};
  Manifest out;
  out.serial = number_of(*json, "serial"), out.expires = number_of(*json, "expires");
  if (out.serial < 0 || out.serial > kMostSerial)
    return Error{"a manifest without a serial that can grow: " + name, ""};
  out.keys = strings_of(*json, "keys");
  out.stack = stack_of(*json, true);
  if (Result<Done> good = check_stack(out.stack); !good) return good.error();
  const bool seed = !json->contains("wheels");
  const Json one = seed ? Json::array({*json}) : Json();
  for (const Json& item : seed ? one : list_of(*json, "wheels")) {
    Result<WheelEntry> entry = entry_of(item);
    if (entry && seed) entry->stack = out.stack;
    if (entry)
      out.wheels.push_back(*std::move(entry));
    else
      out.unreadable.push_back(entry.error().message);
  }
  if (seed && out.wheels.empty()) return Error{"no wheel in " + name + ": " + out.unreadable[0], ""};
  *out.raw_ = *std::move(json);
  return out;
}

bool Manifest::put(const WheelEntry& entry, const Json& json) {
  Json& list = (*raw_)["wheels"];
  if (!list.is_array()) {  // a first installer's manifest becomes one with a list
    list = list_of_first(wheels);
  }
  const auto same = [&](const Json& item) { return first_of(item, {"filename"}) == entry.file; };
  const auto found = std::find_if(list.begin(), list.end(), same);
  if (found == list.end()) {
    list.push_back(json);
    wheels.push_back(entry);
    return true;
  }
  Json merged = *found;
  merged.update(json);
  if (merged == *found) return false;
  *found = merged;
  *std::find_if(wheels.begin(), wheels.end(), [&](const WheelEntry& w) { return w.file == entry.file; }) = entry;
  return true;
}

void Manifest::yank(const std::string& file, const std::string& reason) {
  for (Json& item : (*raw_)["wheels"]) {
    if (text_of(item, "filename") == file) item["yanked"] = reason;
  }
  for (WheelEntry& w : wheels) {
    if (w.file == file) w.yanked = reason;
  }
}

std::string Manifest::write(int64_t now, int64_t until) {
  Json head = {{"schema", kSchema}, {"schema_version", 1}, {"generated", iso_time(now)}, {"serial", ++serial}};
  if (until) head["expires"] = until;
  if (!keys.empty()) head["keys"] = keys;
  const auto newest = std::max_element(wheels.begin(), wheels.end(), [](const WheelEntry& a, const WheelEntry& b) {
    return a.yanked.empty() != b.yanked.empty() ? !a.yanked.empty() : a.name.version() < b.name.version();
  });
  if (newest != wheels.end()) {
    stack = newest->stack;
    put_stack(head, stack, true);
    head["package"] = normal_name(newest->name.name()), head["version"] = newest->name.version().str();
    head["wheel"] = newest->file, head["sha256"] = newest->sha256;
  }
  Json& raw = *raw_;
  for (const auto& [key, value] : raw.items()) {  // what others wrote there stays
    if (!head.contains(key) && key != "wheels" && key != "expires") head[key] = value;
  }
  head["wheels"] = raw.contains("wheels") ? raw["wheels"] : list_of_first(wheels);
  raw = std::move(head);
  return dump(raw);
}

Strings pin_from_environment(Ctx& ctx, Stack& stack) {
  Strings pinned;
  const std::pair<const char*, std::string*> pins[] = {{"TORCH_VERSION", &stack.torch},
                                                       {"TORCHVISION_VERSION", &stack.torchvision},
                                                       {"TORCHAUDIO_VERSION", &stack.torchaudio},
                                                       {"TRITON_VERSION", &stack.triton}};
  for (const auto& [name, field] : pins) {
    const std::string value = ctx.proc.env(name).value_or("");
    if (value.empty()) continue;
    *field = value;
    pinned.push_back(name);
  }
  return pinned;
}

Stack released_stack(const std::string& torch, const std::string& cuda) {
  Stack out;
  const Result<Version> version = Version::parse(torch);
  const TorchRelease* release = version ? tables().release(*version) : nullptr;
  if (release)
    out = {release->version.str(), release->torchvision, release->torchaudio, release->triton, ""};
  else if (version && version->is_prerelease())  // a nightly alone: what goes with it is for its index to say
    out.torch = version->public_str();
  if (!out.torch.empty() && !cuda.empty()) out.index_url = torch_index(*version, cuda);
  return out;
}

Described describe(const FileFacts& facts) {
  WheelEntry e{.name = *facts.wheel.name};
  e.file = base_name(facts.path), e.sha256 = facts.sha256, e.size = facts.size;
  e.requires_python = facts.wheel.metadata.requires_python;
  const StackLabel label = StackLabel::of(e.name.version().local());
  const Requirement* torch = facts.wheel.metadata.requirement("torch");
  size_t torch_symbols = 0, shim_symbols = 0;
  std::string glibc, toolkit, files_isa;
  Json sass = Json::array(), ptx = Json::array(), files = Json::object();
  Strings packings;
  uint64_t major = 0;
  for (const BinaryFacts& b : facts.binaries) {
    torch_symbols += b.owners[static_cast<size_t>(SymbolOwner::kTorch)];
    shim_symbols += b.owners[static_cast<size_t>(SymbolOwner::kTorchShim)];
    e.isa_level = std::max(e.isa_level, b.isa_level);
    if (const auto floor = b.floors.find("GLIBC"); floor != b.floors.end()) {
      const Result<Version> have = Version::parse(e.glibc);
      if (!have || *have < floor->second.newest) e.glibc = floor->second.newest.str();
    }
    for (const std::string& needed : b.needed) {
      if (needed.starts_with("libcudart.so.")) e.cudart = needed;
    }
    for (const Import& import : b.imports) {
      if (import.owner == SymbolOwner::kTorch && import.name.find("__cxx11") != import.name.npos) e.cxx11abi = true;
    }
    for (const GpuImage& image : b.gpu.images) {
      if (const Result<Version> v = Version::parse(image.toolkit)) {
        if (toolkit.empty() || *Version::parse(toolkit) < *v) toolkit = image.toolkit;
        if (image.kind == ImageKind::kSass) major = std::max(major, v->release(0));
      }
      if (std::find(packings.begin(), packings.end(), packing_name(image.packing)) == packings.end())
        packings.emplace_back(packing_name(image.packing));
      if (image.kind == ImageKind::kSass && std::find(e.sass.begin(), e.sass.end(), image.arch) == e.sass.end())
        e.sass.push_back(image.arch);
      if (image.kind != ImageKind::kPtx) continue;
      const bool locked = image.arch.feature != 0;
      const Json row = {{"arch", image.arch.dotted()}, {"isa", image.isa}, {"locked", locked}};
      if (std::find(ptx.begin(), ptx.end(), row) == ptx.end()) ptx.push_back(row);
      if (!locked && std::find(e.ptx.begin(), e.ptx.end(), image.arch) == e.ptx.end()) e.ptx.push_back(image.arch);
    }
  }
  std::sort(e.sass.begin(), e.sass.end());
  for (const Arch& arch : e.sass) sass.push_back(arch.dotted());
  for (const MemberFacts& m : facts.wheel.members) {
    if (m.name.find(".so") != m.name.npos || m.name.ends_with(".pyd")) files[m.name] = m.digest;
  }
  e.torch_mode = torch_symbols || !label.torch.empty() ? "locked" : shim_symbols ? "stable" : "none";
  e.torch_spec = torch ? torch->versions.str() : label.torch.empty() ? "" : "==" + label.torch + ".*";
  if (torch && !torch->versions.empty() && e.torch_mode == "none") e.torch_mode = "stable";
  e.cuda = !label.cuda.empty() ? label.cuda : "";
  const Result<Version> cuda =
      Version::parse(!e.cuda.empty() ? e.cuda : e.cudart.substr(std::min<size_t>(e.cudart.size(), 13)));
  if (!major && cuda) major = cuda->release(0);
  if (const CudaMajor* known = major ? tables().major(major) : nullptr) e.driver_min = known->driver;
  const std::string pinned = torch ? torch->versions.pinned() : "";
  e.stack = released_stack(is_nightly(pinned) ? pinned : label.torch, label.cuda);

  Json platform = {{"tag", Tag(e.name.tags()[0]).platform},
                   {"isa", e.isa_level > 1 ? format("x86-64-v%d", e.isa_level) : "baseline"}};
  if (!e.glibc.empty()) platform["glibc"] = e.glibc;
  Json torch_json = {{"mode", e.torch_mode}, {"spec", e.torch_spec}};
  if (e.cxx11abi) torch_json["cxx11abi"] = *e.cxx11abi;
  Json cuda_json = Json::object();
  const std::pair<const char*, std::string> fields[] = {
      {"version", e.cuda}, {"toolkit", toolkit}, {"cudart_soname", e.cudart}, {"driver_min_linux", e.driver_min}};
  for (const auto& [key, value] : fields) {
    if (!value.empty()) cuda_json[key] = value;
  }
  Json stack = Json::object();
  put_stack(stack, e.stack, false);
  auto json = std::make_shared<Json>(Json{
      {"filename", e.file},
      {"size", e.size},
      {"sha256", e.sha256},
      {"python", {{"tag", e.name.tags()[0].python}, {"abi", e.name.tags()[0].abi}, {"requires", e.requires_python}}},
      {"platform", platform},
      {"torch", torch_json},
      {"cuda", cuda_json},
      {"sass", sass},
      {"ptx", ptx},
      {"compression", join(packings, " ")},
      {"stack", stack},
      {"files", files}});
  return {std::move(e), std::move(json)};
}

}  // namespace clary::tool
