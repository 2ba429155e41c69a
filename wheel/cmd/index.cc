// clary index: a static package index from a folder of wheels.
#include "wheel/cmd/cmd.h"
#include "wheel/core/json.h"
#include "wheel/core/site_folder.h"

namespace clary::tool {

int cmd_index(Ctx& ctx, Cli& cli) {
  std::string folder, site, base_url;
  cli.word("FOLDER", folder);
  cli.value("--out", "SITE", site);
  cli.value("--base-url", "URL", base_url);
  if (!cli.parse()) return cli.exit_code();
  if (folder.empty()) return fail(ctx, {"missing argument: FOLDER", "clary index wheelhouse --out site"});
  if (site.empty()) return fail(ctx, {"missing option: --out", "clary index " + folder + " --out site"});

  const Result<std::vector<SiteWheel>> wheels = read_site_wheels(ctx, folder);
  if (!wheels) return fail(ctx, wheels.error(), kFinding);
  // From here on every wheel is read and proven; nothing is written yet.

  // Wheels before the pages that name them, so that a reader never follows a link to nothing.
  const std::vector<SitePage> pages = make_site(*wheels, base_url);
  Strings written;
  for (const SiteWheel& w : *wheels) {
    if (base_url.empty()) written.push_back(site + "/wheels/" + w.file);
  }
  const size_t copied = written.size();
  for (const SitePage& page : pages) written.push_back(site + "/" + page.path);
  if (!cli.dry_run()) {
    if (Result<Done> done = ctx.disk.make_dirs(site + (copied ? "/wheels" : "")); !done) return fail(ctx, done.error());
    const Result<Lock> lock = ctx.disk.lock(site + "/.clary-lock", 600);
    if (!lock) return fail(ctx, lock.error());
    for (size_t i = 0; i < copied; i++) {
      const std::string from = folder + "/" + (*wheels)[i].file;
      if (Result<Done> done = ctx.disk.link_or_copy(from, written[i]); !done) return fail(ctx, done.error());
    }
    if (Result<Done> done = write_pages(ctx, pages, site); !done) return fail(ctx, done.error());
  }
  if (cli.json())
    ctx.out.write(dump({{"schema", "clary-index/1"},
                        {"site", site},
                        {"wheels", wheels->size()},
                        {"dry_run", cli.dry_run()},
                        {"files", written}}));
  else if (cli.dry_run())
    ctx.out.write(join(written, "\n") + "\n");
  ctx.err.write(std::string(cli.dry_run() ? "would index " : "indexed ") + count(wheels->size(), "wheel") + " in " +
                count(pages.size(), "page") + "\n");
  return kFine;
}

}  // namespace clary::tool
