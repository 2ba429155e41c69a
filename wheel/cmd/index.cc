// clary index: a static package index from a folder of wheels.
#include <algorithm>

#include "wheel/cmd/cmd.h"
#include "wheel/core/json.h"
#include "wheel/core/site.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

// Why a wheel must not be served: what W1, W2 and W3 find, the last of them first: a hostile archive is more than an
// unlisted file. Everything else is the publisher's policy.
std::string refusal(const FileFacts& facts) {
  FileFindings found = verify_facts(facts, Policy{}, Against{});
  std::stable_sort(found.findings.begin(), found.findings.end(), [](const Finding& a, const Finding& b) {
    return std::string_view(a.rule->id).substr(0, 2) > std::string_view(b.rule->id).substr(0, 2);
  });
  for (const Finding& f : found.findings) {
    const bool gate = std::string_view(f.rule->id).starts_with("W1.") ||
                      std::string_view(f.rule->id).starts_with("W2.") ||
                      std::string_view(f.rule->id).starts_with("W3.");
    if (f.severity == Severity::kError && gate)
      return std::string(f.rule->id) + " " + f.where + (f.where.empty() ? "" : ": ") + f.text;
  }
  return "";
}

}  // namespace

int cmd_index(Ctx& ctx, Cli& cli) {
  std::string folder, site, base_url;
  cli.word("FOLDER", folder);
  cli.value("--out", "SITE", site);
  cli.value("--base-url", "URL", base_url);
  if (!cli.parse()) return cli.exit_code();
  if (folder.empty()) return fail(ctx, {"missing argument: FOLDER", "clary index wheelhouse --out site"});
  if (site.empty()) return fail(ctx, {"missing option: --out", "clary index " + folder + " --out site"});

  // Every wheel is read and proven before anything is written.
  const Result<Strings> names = ctx.disk.list(folder);
  if (!names) return fail(ctx, names.error());
  std::vector<SiteWheel> wheels;
  for (const std::string& name : *names) {
    if (!name.ends_with(".whl")) continue;
    const std::string path = folder + "/" + name;
    const Result<FileFacts> facts = read_facts(ctx, path, {.digests = true, .threads = ctx.proc.cores()});
    if (!facts) return fail(ctx, facts.error(), kFinding);
    if (const std::string why = refusal(*facts); !why.empty())
      return fail(ctx, {"not fit to be served: " + name + ": " + why, "clary verify " + shell(path)}, kFinding);
    const std::optional<FileInfo> info = ctx.disk.info(path);
    wheels.push_back({*facts->wheel.name, name, facts->sha256, facts->wheel.metadata.requires_python,
                      facts->wheel.metadata_text, facts->size, info ? info->modified : 0});
  }
  if (wheels.empty()) return fail(ctx, {"no wheel in " + folder, ""}, kFinding);

  // Wheels before the pages that name them, so that a reader never follows a link to nothing.
  const std::vector<SitePage> pages = make_site(wheels, base_url);
  Strings written;
  if (base_url.empty()) {
    for (const SiteWheel& w : wheels) written.push_back(site + "/wheels/" + w.file);
  }
  for (const SitePage& page : pages) written.push_back(site + "/" + page.path);
  if (!cli.dry_run()) {
    for (const std::string& path : written) {
      if (Result<Done> done = ctx.disk.make_dirs(dir_name(path)); !done) return fail(ctx, done.error());
    }
    for (const SiteWheel& w : wheels) {
      if (!base_url.empty()) break;
      if (Result<Done> done = ctx.disk.link_or_copy(folder + "/" + w.file, site + "/wheels/" + w.file); !done)
        return fail(ctx, done.error());
    }
    for (const SitePage& page : pages) {
      if (Result<Done> done = ctx.disk.write(site + "/" + page.path, page.content); !done)
        return fail(ctx, done.error());
    }
  }
  if (cli.json())
    ctx.out.write(dump({{"schema", "clary-index/1"},
                        {"site", site},
                        {"wheels", wheels.size()},
                        {"dry_run", cli.dry_run()},
                        {"files", written}}));
  else if (cli.dry_run())
    ctx.out.write(join(written, "\n") + "\n");
  ctx.err.write(std::string(cli.dry_run() ? "would index " : "indexed ") + count(wheels.size(), "wheel") + " in " +
                count(pages.size(), "page") + "\n");
  return kFine;
}

}  // namespace clary::tool
