// clary resolve: which wheel on offer is for this machine, and why the others are not.
#include "wheel/cmd/cmd.h"
#include "wheel/cmd/options.h"
#include "wheel/core/json.h"

namespace clary::tool {

int cmd_resolve(Ctx& ctx, Cli& cli) {
  std::string project;
  SourceOptions source;
  TargetChoice choice;
  bool any_torch = false, pre = false;
  cli.word("PROJECT", project);
  take_source(cli, source);
  take_target(cli, choice);
  cli.flag("--any-torch", any_torch);
  cli.flag("--pre", pre);
  if (!cli.parse()) return cli.exit_code();
  source.remember = !cli.dry_run();

  Result<Wish> wish = parse_wish(project);
  if (!wish) return fail(ctx, wish.error());
  wish->keep_torch = !any_torch, wish->pre = pre;
  const Result<Target> target = probe_target(ctx, choice);
  if (!target) return fail(ctx, target.error());
  const Result<Offer> offer = read_offer(ctx, source);
  if (!offer) return fail(ctx, offer.error(), kFinding);
  // From here on the offer is what its publisher signed, or is said not to be signed.

  const std::vector<Candidate> candidates = resolve(offer->manifest, *wish, *target);
  const bool found = !candidates.empty() && candidates[0].fits();
  warn(ctx, offer->warning);
  for (const std::string& line : offer->manifest.unreadable) warn(ctx, "left out: " + printable(line));
  if (cli.json()) {
    Json list = Json::array();
    for (const Candidate& c : candidates)
      list.push_back({{"wheel", c.wheel->file},
                      {"sha256", c.wheel->sha256},
                      {"fits", c.fits()},
                      {"rule", c.rule},
                      {"reason", c.fits() ? c.note : c.reason}});
    ctx.out.write(dump({{"schema", "clary-resolve/1"},
                        {"source", offer->store->name()},
                        {"serial", offer->manifest.serial},
                        {"signer", offer->signer},
                        {"target", target_text(*target)},
                        {"best", found ? Json(candidates[0].wheel->file) : Json()},
                        {"candidates", list}}));
  } else {
    ctx.err.write(target_text(*target) + "\n");
    ctx.out.write(candidates_table(candidates));
  }
  return found ? kFine : fail(ctx, none_fits(candidates, *wish, offer->store->name()), kFinding);
}

}  // namespace clary::tool
