#include "wheel/core/policy.h"

#include <algorithm>
#include <cstdlib>

#include "wheel/core/embed.h"
#include "wheel/core/json.h"
#include "wheel/core/tables.h"

namespace clary::tool {
namespace {

constexpr double kMostBytes = 1e15;
constexpr std::string_view kPrefix = "wheel/data/policy-", kSuffix = ".toml";

Result<Severity> parse_severity(const std::string& text) {
  for (Severity s : {Severity::kOff, Severity::kNote, Severity::kWarning, Severity::kError}) {
    if (text == severity_name(s)) return s;
  }
  return Error{"not a severity: `" + printable(text) + "`", "one of off, note, warning, error"};
}

bool is_family(const std::string& id) {
  return std::any_of(rules().begin(), rules().end(),
                     [&](const Rule& r) { return std::string_view(r.id).starts_with(id + "."); });
}

Result<Done> one_of(const std::string& key, const std::string& value, const Strings& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return Done{};
  return Error{"unknown value of " + key + ": `" + printable(value) + "`", "one of " + join(choices, ", ")};
}

}  // namespace

Strings policy_names() {
  Strings names;
  for (const Embedded& file : embedded_files()) {
    if (!file.name.starts_with(kPrefix)) continue;
    names.emplace_back(file.name.substr(kPrefix.size(), file.name.size() - kPrefix.size() - kSuffix.size()));
  }
  return names;
}

Result<Policy> load_policy(Ctx& ctx, const std::string& name) {
  const std::string_view built_in = embedded(std::string(kPrefix) + name + std::string(kSuffix));
  if (!built_in.empty()) return parse_policy(built_in, name);
  if (name.find('/') == name.npos && !name.ends_with(".toml")) {
    const std::string near = nearest(name, policy_names());
    return Error{"unknown policy: `" + printable(name) + "`", (near.empty() ? "" : "did you mean `" + near + "`? ") +
                                                                  "there are: " + join(policy_names(), ", ") +
                                                                  ", or the path of a .toml file"};
  }
  Result<std::string> text = ctx.disk.read(name);
  if (!text) return text.error();
  return parse_policy(*text, name);
}

Result<Policy> parse_policy(std::string_view text, const std::string& name) {
  const Result<Json> json = parse_toml(text, name);
  if (!json) return json.error();
  const Strings keys = {"about",    "manylinux", "local-version", "torch",       "providers", "needed",  "startup",
                        "max-size", "driver",    "require-sass",  "require-ptx", "dead",      "severity"};
  if (Result<Done> known = check_keys(*json, keys, name); !known) return known.error();

  Policy p;
  p.name = base_name(name);
  p.about = text_of(*json, "about");
  p.manylinux = text_of(*json, "manylinux", p.manylinux);
  p.local_version = text_of(*json, "local-version", p.local_version);
  p.torch = text_of(*json, "torch", p.torch);
  p.providers = strings_of(*json, "providers");
  p.needed = strings_of(*json, "needed");
  p.startup = strings_of(*json, "startup");
  p.driver = text_of(*json, "driver");
  p.require_ptx = text_of(*json, "require-ptx", p.require_ptx);
  if (auto ok = check_driver_version(p.driver); !ok) return ok.error();
  if (p.manylinux != "tag" && !tables().policy(p.manylinux))
    return Error{"unknown manylinux policy: `" + printable(p.manylinux) + "`", "such as manylinux_2_28, or tag"};
  if (auto ok = one_of("local-version", p.local_version, {"any", "forbid"}); !ok) return ok.error();
  if (auto ok = one_of("require-ptx", p.require_ptx, {"no", "plain"}); !ok) return ok.error();
  const bool stable = p.torch.starts_with("stable-") && Version::parse(p.torch.substr(7));
  if (!stable) {
    if (auto ok = one_of("torch", p.torch, {"auto", "none", "locked", "stable-2.10"}); !ok) return ok.error();
  }
  for (const std::string& provider : p.providers) {
    if (auto ok = one_of("providers", provider, {"torch", "cuda", "driver", "python"}); !ok) return ok.error();
  }
  if (const std::string size = text_of(*json, "max-size"); !size.empty()) {
    const Result<uint64_t> bytes = parse_size(size);
    if (!bytes) return bytes.error();
    p.max_size = *bytes;
  }
  for (const std::string& word : strings_of(*json, "require-sass")) {
    const std::optional<Arch> arch = Arch::parse(word);
    if (!arch) return Error{"not a GPU architecture in require-sass: `" + printable(word) + "`", "such as \"9.0\""};
    p.require_sass.push_back(arch->sm);
  }
  for (const Json& row : list_of(*json, "dead")) {
    DeadCode dead{text_of(row, "match"), {}};
    for (const std::string& word : strings_of(row, "only")) {
      const std::optional<Arch> arch = Arch::parse(word);
      if (!arch) return Error{"not a GPU architecture in dead: `" + printable(word) + "`", "such as \"9.0a\""};
      dead.only.push_back(*arch);
    }
    p.dead.push_back(dead);
  }
  if (json->contains("severity")) {
    for (const auto& [id, value] : (*json)["severity"].items()) {
      if (!find_rule(id) && !is_family(id))
        return Error{"unknown rule in " + name + ": `" + printable(id) + "`", "clary explain lists them"};
      const Result<Severity> severity = parse_severity(value.is_string() ? value.get<std::string>() : "");
      if (!severity) return severity.error();
      p.severity[id] = *severity;
    }
  }
  return p;
}

Severity Policy::severity_of(const Rule& rule) const {
  const std::string id = rule.id;
  if (const auto exact = severity.find(id); exact != severity.end()) return exact->second;
  if (const auto family = severity.find(id.substr(0, id.find('.'))); family != severity.end()) return family->second;
  return rule.severity;
}

Result<uint64_t> parse_size(std::string_view text) {
  static constexpr struct {
    std::string_view name;
    double bytes;
  } kUnits[] = {
      {"kib", 1024.0}, {"mib", 1048576.0}, {"gib", 1073741824.0}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"b", 1},
      {"", 1}};
  const std::string low = lower(trim(text));
  const size_t digits = std::min(low.find_first_not_of("0123456789."), low.size());
  const std::string unit(trim(std::string_view(low).substr(digits)));
  for (const auto& known : kUnits) {
    if (unit != known.name || !digits) continue;
    const double bytes = std::strtod(low.c_str(), nullptr) * known.bytes;
    if (bytes <= kMostBytes) return static_cast<uint64_t>(bytes);
  }
  return Error{"not a size: `" + printable(text) + "`", "such as 100 MB or 2 GiB"};
}

Result<Done> check_driver_version(const std::string& text) {
  const std::vector<std::string_view> parts = split(text, '.');
  const bool good =
      std::all_of(parts.begin(), parts.end(), [](auto part) { return is_digits(part) && part.size() < 7; });
  if (text.empty() || good) return Done{};
  return Error{"not a driver version: `" + printable(text) + "`", "such as 525.60.13, as nvidia-smi prints it"};
}

int compare_drivers(std::string_view a, std::string_view b) {
  const std::vector<std::string_view> x = split(a, '.'), y = split(b, '.');
  for (size_t i = 0; i < std::max(x.size(), y.size()); i++) {
    const int m = i < x.size() ? std::atoi(std::string(x[i]).c_str()) : 0,
              n = i < y.size() ? std::atoi(std::string(y[i]).c_str()) : 0;
    if (m != n) return m < n ? -1 : 1;
  }
  return 0;
}

}  // namespace clary::tool
