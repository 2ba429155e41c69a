#include "wheel/core/site_folder.h"

#include <algorithm>

#include "wheel/core/digest.h"
#include "wheel/core/json.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

constexpr uint64_t kMostPage = uint64_t{64} << 20;

// What a site's own pages say of the wheel `file`; nothing unless it lies there as it was when they were written.
std::optional<SiteWheel> as_listed(Ctx& ctx, const std::string& folder, const Json& file) {
  const std::string name = text_of(file, "filename"), path = folder + "/" + name;
  const Result<WheelName> parsed = WheelName::parse(name);
  const std::optional<FileInfo> info = ctx.disk.info(path);
  if (!parsed || !info || number_of(file, "size", -1) != static_cast<int64_t>(info->size) ||
      text_of(file, "upload-time") != iso_time(info->modified) || !file.contains("hashes"))
    return std::nullopt;
  SiteWheel out{*parsed,    name,          text_of(file["hashes"], "sha256"), text_of(file, "requires-python"), "",
                info->size, info->modified};
  const Result<std::string> metadata = ctx.disk.read(path + ".metadata", kMostPage);
  if (!metadata || !file.contains("core-metadata") || out.sha256.empty() ||
      text_of(file["core-metadata"], "sha256") != hex(sha256_of(bytes_of(*metadata))))
    return std::nullopt;
  out.metadata = *metadata;
  return out;
}

// By file name. Wheels of hundreds of megabytes are read and proven when they come, not at each publication after.
std::map<std::string, SiteWheel> listed_wheels(Ctx& ctx, const std::string& folder, const std::string& site) {
  std::map<std::string, SiteWheel> out;
  const Result<Strings> projects = ctx.disk.list(site + "/simple");
  for (const std::string& project : projects ? *projects : Strings{}) {
    const std::string path = site + "/simple/" + project + "/index.v1.json";
    const Result<std::string> text = ctx.disk.read(path, kMostPage);
    const Result<Json> page = text ? parse_json(*text, path) : text.error();
    if (!page || !page->is_object()) continue;
    for (const Json& file : list_of(*page, "files")) {
      std::optional<SiteWheel> wheel = file.is_object() ? as_listed(ctx, folder, file) : std::nullopt;
      if (wheel) out.insert({wheel->file, *std::move(wheel)});
    }
  }
  return out;
}

}  // namespace

std::string refusal(const FileFacts& facts) {
  FileFindings found = verify_facts(facts, Policy{}, Against{});
  std::stable_sort(found.findings.begin(), found.findings.end(), [](const Finding& a, const Finding& b) {
    return std::string_view(a.rule->id).substr(0, 2) > std::string_view(b.rule->id).substr(0, 2);
  });
  for (const Finding& f : found.findings) {
    const std::string_view id = f.rule->id;
    const bool gate = id.starts_with("W1.") || id.starts_with("W2.") || id.starts_with("W3.");
    if (f.severity == Severity::kError && gate)
      return std::string(id) + " " + f.where + (f.where.empty() ? "" : ": ") + f.text;
  }
  return "";
}

Result<std::vector<SiteWheel>> read_site_wheels(Ctx& ctx, const std::string& folder,
                                                const std::map<std::string, SiteWheel>& known) {
  const Result<Strings> names = ctx.disk.list(folder);
  if (!names) return names.error();
  std::vector<SiteWheel> wheels;
  for (const std::string& name : *names) {
    if (!name.ends_with(".whl")) continue;
    if (const auto found = known.find(name); found != known.end()) {
      wheels.push_back(found->second);
      continue;
    }
    const std::string path = folder + "/" + name;
    const Result<FileFacts> facts = read_facts(ctx, path, {.digests = true, .threads = ctx.proc.cores()});
    if (!facts) return facts.error();
    if (const std::string why = refusal(*facts); !why.empty())
      return Error{"not fit to be served: " + name + ": " + why, "clary verify " + shell(path)};
    const std::optional<FileInfo> info = ctx.disk.info(path);
    wheels.push_back({*facts->wheel.name, name, facts->sha256, facts->wheel.metadata.requires_python,
                      facts->wheel.metadata_text, facts->size, info ? info->modified : 0});
  }
  if (wheels.empty()) return Error{"no wheel in " + folder, ""};
  return wheels;
}

Result<Done> write_pages(Ctx& ctx, const std::vector<SitePage>& pages, const std::string& site) {
  for (const SitePage& page : pages) {
    const std::string path = site + "/" + page.path;
    if (const Result<std::string> old = ctx.disk.read(path, page.content.size() + 1); old && *old == page.content)
      continue;
    if (Result<Done> done = ctx.disk.make_dirs(dir_name(path)); !done) return done;
    if (Result<Done> done = ctx.disk.write(path, page.content); !done) return done;
  }
  return Done{};
}

Result<Done> write_site(Ctx& ctx, const std::string& folder, const std::string& site) {
  Result<std::vector<SiteWheel>> wheels = read_site_wheels(ctx, folder, listed_wheels(ctx, folder, site));
  if (!wheels) return wheels.error();
  return write_pages(ctx, make_site(*std::move(wheels), ""), site);
}

}  // namespace clary::tool
