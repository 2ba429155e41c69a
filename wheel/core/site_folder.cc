#include "wheel/core/site_folder.h"

#include <algorithm>

#include "wheel/core/verify.h"

namespace clary::tool {

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

Result<std::vector<SiteWheel>> read_site_wheels(Ctx& ctx, const std::string& folder) {
  const Result<Strings> names = ctx.disk.list(folder);
  if (!names) return names.error();
  std::vector<SiteWheel> wheels;
  for (const std::string& name : *names) {
    if (!name.ends_with(".whl")) continue;
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
  Result<std::vector<SiteWheel>> wheels = read_site_wheels(ctx, folder);
  if (!wheels) return wheels.error();
  return write_pages(ctx, make_site(*std::move(wheels), ""), site);
}

}  // namespace clary::tool
