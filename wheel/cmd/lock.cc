// clary lock: what resolve chooses now, written down for clary sync.
#include "wheel/cmd/cmd.h"
#include "wheel/cmd/options.h"
#include "wheel/core/lockfile.h"

namespace clary::tool {

int cmd_lock(Ctx& ctx, Cli& cli) {
  Strings projects;
  SourceOptions source;
  TargetChoice choice;
  std::string out = "clary.lock.json";
  bool any_torch = false, pre = false, check = false;
  cli.files("PROJECT", projects);
  take_source(cli, source);
  take_target(cli, choice);
  cli.flag("--any-torch", any_torch);
  cli.flag("--pre", pre);
  cli.flag("--check", check);
  cli.value("--out", "FILE", out);
  if (!cli.parse()) return cli.exit_code();
  source.remember = !cli.dry_run();
  const Result<Target> target = probe_target(ctx, choice);
  if (!target) return fail(ctx, target.error());
  const Result<Offer> offer = read_offer(ctx, source);
  if (!offer) return fail(ctx, offer.error(), kFinding);
  warn(ctx, offer->warning);

  LockFile lock{target_text(*target), target->abi, target->machine, target->system, {}};
  for (const std::string& project : projects) {
    Result<Wish> wish = parse_wish(project);
    if (!wish) return fail(ctx, wish.error());
    wish->keep_torch = !any_torch, wish->pre = pre;
    const std::vector<Candidate> candidates = resolve(offer->manifest, *wish, *target);
    if (candidates.empty() || !candidates[0].fits())
      return fail(ctx, none_fits(candidates, *wish, offer->store->name()), kFinding);
    Delivery what = delivery_of(*offer, *candidates[0].wheel);
    what.pinned = pin_from_environment(ctx, what.stack);
    lock.wheels.push_back(std::move(what));
  }
  // From here on every project has its wheel.

  const std::string text = lock.str();
  if (cli.json()) ctx.out.write(text);
  if (check) {
    const Result<std::string> old = ctx.disk.read(out, 64 << 20);
    if (old && *old == text) return kFine;
    return fail(ctx, {"out of date: " + out, "clary lock " + join(projects, " ")}, kFinding);
  }
  for (const Delivery& d : lock.wheels) ctx.err.write(d.project + " " + d.version + ": " + d.file + "\n");
  ctx.err.write((cli.dry_run() ? "would write " : "wrote ") + out + "\n");
  if (cli.dry_run()) return kFine;
  if (Result<Done> done = ctx.disk.write(out, text); !done) return fail(ctx, done.error());
  return kFine;
}

}  // namespace clary::tool
