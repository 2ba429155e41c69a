// clary install: the wheel that fits, its torch first; where there is none, built, proven and published for the next machine.
#include "wheel/cmd/cmd.h"
#include "wheel/cmd/options.h"
#include "wheel/command.h"
#include "wheel/core/chain.h"
#include "wheel/core/emit_install.h"
#include "wheel/core/json.h"
#include "wheel/core/lease.h"
#include "wheel/core/recipe.h"
#include "wheel/core/requirement.h"

namespace clary::tool {
namespace {

struct InstallOptions {
  std::string project, policy = "wheel-first", installer = "auto", stack = "auto", emit, out, recipe, publish_to;
  SourceOptions source;
  TargetChoice target;
  bool any_torch = false, pre = false, replace = false, rollback = false;
};

constexpr int kLeaseMinutes = 60;

Installer installer_of(const std::string& word) {
  return word == "pip" ? Installer::kPip : word == "uv" ? Installer::kUv : Installer::kAuto;
}

std::string emitted(const std::string& form, const Delivery& what, const WheelEntry& wheel) {
  if (form == "requirements") return emit_requirements(what);
  if (form == "constraints") return emit_constraints(what);
  if (form == "pylock") return emit_pylock(what, wheel.requires_python);
  return emit_dockerfile(what);
}

// What must be there first. auto: only what the wheel needs and the environment lacks; exact: the manifest's versions.
Stack stack_for(const InstallOptions& o, const WheelEntry& wheel, const Manifest& manifest, const Target& target,
                Ctx& ctx, Strings* pinned) {
  Stack stack = wheel.stack;
  if (stack.torch.empty() && wheel.torch_mode != "none") stack = manifest.stack;
  *pinned = pin_from_environment(ctx, stack);
  const bool needed = wheel.torch_mode != "none" && !wheel.torch_spec.empty();
  const Result<Specifier> spec = Specifier::parse(wheel.torch_spec);
  const Result<Version> here = Version::parse(target.torch_asked ? "" : target.torch);
  const bool fits = spec && here && spec->admits(here->without_local(), true);
  const bool wanted = o.stack == "exact" || (o.stack == "auto" && (!pinned->empty() || (needed && !fits)));
  if (!wanted) return {};
  if (stack.torch.empty()) stack.index_url.clear();
  return stack;
}

// The build of one machine while the others wait; the wheel's path, or nothing when another machine's has come meanwhile.
Result<std::string> build_once(Ctx& ctx, const InstallOptions& o, const Target& target) {
  std::unique_ptr<Store> store;
  if (!o.publish_to.empty()) {
    Result<std::unique_ptr<Store>> opened = open_store(ctx, o.publish_to);
    if (!opened) return opened.error();
    store = *std::move(opened);
  }
  const std::string what = o.project + "-" + target.abi + "-" + target.machine;
  if (store) {
    const Result<Lease> lease = take_lease(ctx, *store, what, kLeaseMinutes);
    if (!lease) return lease.error();
    if (lease->state == Lease::kTheirs) {
      ctx.err.write("waiting: " + printable(lease->holder) + " builds this wheel\n");
      ctx.clock.sleep(15);
      return std::string();
    }
  }
  const std::string out = "wheelhouse/clary-" + what;
  Strings args = {"build", "--out", out};
  if (!o.recipe.empty()) args.insert(args.end(), {"--recipe", o.recipe});
  // One cell of the plan: this machine's.
  const Result<Version> python = Version::parse(target.python_version), torch = Version::parse(target.torch);
  if (python)
    args.insert(args.end(), {"--python", format("%d.%d", static_cast<int>(python->release(0)),
                                                static_cast<int>(python->release(1)))});
  if (torch) args.insert(args.end(), {"--torch", torch->without_local().str()});
  if (!target.cuda.empty()) args.insert(args.end(), {"--cuda", target.cuda});
  args.insert(args.end(), {"--platform", target.system + "_" + target.machine});
  const int code = run_clary(ctx, args);
  Result<std::string> built = Error{"the build failed", "clary build says why"};
  const Result<Strings> names = ctx.disk.list(out);
  for (const std::string& name : code == kFine && names ? *names : Strings{}) {
    if (name.ends_with(".whl")) built = out + "/" + name;
  }
  if (built && store) {
    const int published = run_clary(ctx, {"publish", *built, "--to", o.publish_to});
    if (published != kFine) warn(ctx, "built, and not published: " + *built);
  }
  if (store) give_back_lease(ctx, *store, what);
  return built;
}

// A recipe that was not named counts only for its own project.
bool may_build(Ctx& ctx, const InstallOptions& o, const Wish& wish) {
  if (o.policy == "never-build") return false;
  if (!o.recipe.empty()) return true;
  if (!ctx.disk.info("clary.toml")) return false;
  const Result<std::string> text = ctx.disk.read("clary.toml");
  const Result<Recipe> recipe = text ? parse_recipe(*text, "clary.toml") : text.error();
  return !recipe || wish.name.empty() ||
         normal_name(recipe->name) == wish.name;  // clary build says what is wrong with it
}

int report(Ctx& ctx, Cli& cli, const Delivery& what, const WheelEntry& wheel, const std::string& state) {
  if (cli.json())
    ctx.out.write(dump({{"schema", "clary-install/1"},
                        {"project", what.project},
                        {"version", what.version},
                        {"wheel", wheel.file},
                        {"sha256", what.sha256},
                        {"source", what.source},
                        {"state", state},
                        {"torch", what.stack.torch},
                        {"index_url", what.stack.index_url},
                        {"dry_run", cli.dry_run()}}));
  ctx.err.write(state + ": " + wheel.file + "\n");
  return kFine;
}

// The wheel that was there before the last install: its receipt says which.
int rollback(Ctx& ctx, Cli& cli, const InstallOptions& o, const Target& target) {
  Result<Environment> environment = Environment::open(ctx, target, installer_of(o.installer));
  if (!environment) return fail(ctx, environment.error());
  const Result<Wish> wish = parse_wish(o.project);
  if (!wish || wish->name.empty())
    return fail(ctx, {"missing argument: PROJECT", "clary install --rollback sageattention"});
  const std::string text = environment->previous_receipt(wish->name);
  const Result<Json> json = parse_json(text.empty() ? "-" : text, "previous.json");
  if (!json || !json->is_object())
    return fail(ctx, {"nothing to go back to: " + wish->name + " was installed by clary once, or never", ""}, kFinding);
  Delivery what{.project = wish->name,
                .version = text_of(*json, "version"),
                .file = text_of(*json, "wheel"),
                .sha256 = text_of(*json, "sha256"),
                .addresses = strings_of(*json, "urls"),
                .source = text_of(*json, "source"),
                .serial = number_of(*json, "serial")};
  const Result<WheelName> name = WheelName::parse(what.file);
  if (!name) return fail(ctx, name.error());
  const WheelEntry wheel{.name = *name, .file = what.file};
  if (cli.dry_run()) return report(ctx, cli, what, wheel, "would go back to");
  const Result<bool> done = deliver(ctx, *environment, what, true);
  if (!done) return fail(ctx, done.error(), kFinding);
  return report(ctx, cli, what, wheel, "went back to");
}

int install_one(Ctx& ctx, Cli& cli, InstallOptions& o, const Wish& wish, const Target& target) {
  for (int round = 0;; round++) {
    const bool asked = o.policy != "build-only";
    Result<std::optional<Offer>> found = asked ? find_offer(ctx, o.source) : std::optional<Offer>();
    if (!found) return fail(ctx, found.error(), kFinding);  // whom one cannot believe is no reason to build
    std::optional<Offer>& offer = *found;
    std::vector<Candidate> candidates;
    if (offer) candidates = resolve(offer->manifest, wish, target);
    if (candidates.empty() || !candidates[0].fits()) {
      const Error why = offer ? none_fits(candidates, wish, offer->store->name()) : nothing_offered(ctx, o.source);
      if (!may_build(ctx, o, wish)) return fail(ctx, why, kFinding);
      if (asked) ctx.err.write(why.message + "; building it\n");
      if (cli.dry_run()) return kFine;
      const Result<std::string> built = build_once(ctx, o, target);
      if (!built) return fail(ctx, built.error(), kFinding);
      if (!built->empty()) o.source = {.from = dir_name(*built)};
      o.policy = built->empty() ? "wheel-first" : "never-build";  // what was built fits, or nothing will
      if (round > 240)
        return fail(ctx, {"waited an hour for another machine's build", "--policy build-only"}, kFinding);
      continue;
    }
    // From here on one wheel is chosen.
    const WheelEntry& wheel = *candidates[0].wheel;
    warn(ctx, offer->warning);
    Delivery what = delivery_of(*offer, wheel);
    what.stack = stack_for(o, wheel, offer->manifest, target, ctx, &what.pinned);
    if (!o.emit.empty()) {
      if (what.stack.torch.empty()) what.stack = wheel.stack;
      const std::string text = emitted(o.emit, what, wheel);
      if (o.out.empty() || cli.dry_run()) {
        ctx.out.write(text);
      } else if (Result<Done> done = ctx.disk.write(o.out, text); !done) {
        return fail(ctx, done.error());
      }
      return kFine;
    }
    if (target.python.empty())
      return fail(ctx,
                  {"no interpreter to install into", "--python PATH; a version alone is for --emit and --dry-run"});
    if (cli.dry_run()) return report(ctx, cli, what, wheel, "would install");
    Result<Environment> environment = Environment::open(ctx, target, installer_of(o.installer));
    if (!environment) return fail(ctx, environment.error());
    if (Result<Done> done = environment->install_stack(what.stack); !done) return fail(ctx, done.error(), kFinding);
    const Result<bool> fresh = deliver(ctx, *environment, what, o.replace);
    if (!fresh) return fail(ctx, fresh.error(), kFinding);
    return report(ctx, cli, what, wheel, *fresh ? "installed" : "already there");
  }
}

// Without a project: the first link of the recipe's chain that is for this machine and has a wheel.
Result<std::string> choose_link(Ctx& ctx, const InstallOptions& o, const Wish& like, const Target& target) {
  const std::string path = o.recipe.empty() ? "clary.toml" : o.recipe;
  const Result<std::string> text = ctx.disk.info(path) ? ctx.disk.read(path) : Result<std::string>(std::string());
  if (!text) return text.error();
  const Result<std::vector<ChainLink>> chain = parse_chain(*text, path);
  if (!chain) return chain.error();
  if (chain->empty()) return std::string();
  const Result<Offer> offer = read_offer(ctx, o.source);
  if (!offer) return offer.error();
  for (const ChainLink& link : *chain) {
    const Result<bool> holds = chain_holds(link.when, target);
    if (!holds) return holds.error();
    Result<Wish> wish = parse_wish(link.pkg);
    if (!wish) return wish.error();
    wish->keep_torch = like.keep_torch, wish->pre = like.pre, wish->free_bytes = like.free_bytes;
    const std::vector<Candidate> candidates =
        *holds ? resolve(offer->manifest, *wish, target) : std::vector<Candidate>{};
    if (!candidates.empty() && candidates[0].fits()) return link.pkg;
    ctx.err.write("not " + link.pkg + ": " +
                  (*holds ? none_fits(candidates, *wish, offer->store->name()).message : "not " + link.when) + "\n");
  }
  return Error{"no link of the chain in " + path + " is for this machine", target_text(target)};
}

}  // namespace

int cmd_install(Ctx& ctx, Cli& cli) {
  InstallOptions o;
  cli.word("PROJECT", o.project);
  take_source(cli, o.source);
  take_target(cli, o.target);
  cli.value("--policy", "POLICY", o.policy, {"wheel-first", "never-build", "build-only"});
  cli.value("--recipe", "FILE", o.recipe);
  cli.value("--publish", "STORE", o.publish_to);
  cli.value("--stack", "WHICH", o.stack, {"auto", "exact", "keep"});
  cli.value("--installer", "PROGRAM", o.installer, {"auto", "pip", "uv"});
  cli.value("--emit", "FORM", o.emit, {"requirements", "constraints", "pylock", "dockerfile"});
  cli.value("--out", "FILE", o.out);
  cli.flag("--any-torch", o.any_torch);
  cli.flag("--pre", o.pre);
  cli.flag("--replace", o.replace);
  cli.flag("--rollback", o.rollback);
  if (!cli.parse()) return cli.exit_code();
  o.source.remember = !cli.dry_run();

  Result<Wish> wish = parse_wish(o.project);
  if (!wish) return fail(ctx, wish.error());
  wish->keep_torch = !o.any_torch, wish->pre = o.pre;
  const Result<Target> target = probe_target(ctx, o.target);
  if (!target) return fail(ctx, target.error());
  wish->free_bytes = ctx.disk.free_bytes(target->site.empty() ? "." : target->site).value_or(~uint64_t{0});
  if (o.project.empty() && !o.rollback) {
    const Result<std::string> link = choose_link(ctx, o, *wish, *target);
    if (!link) return fail(ctx, link.error(), kFinding);
    const Result<Wish> chosen = parse_wish(*link);
    o.project = *link, wish->name = chosen->name, wish->versions = chosen->versions;
  }
  if (o.rollback) return rollback(ctx, cli, o, *target);
  return install_one(ctx, cli, o, *wish, *target);
}

}  // namespace clary::tool
