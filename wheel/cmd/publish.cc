// clary publish: wheels to a folder, a Hugging Face repository or a GitHub release, with a manifest that names them.
#include "wheel/core/publish.h"

#include "wheel/cmd/keys.h"
#include "wheel/cmd/options.h"
#include "wheel/core/json.h"
#include "wheel/core/site_folder.h"
#include "wheel/core/verify.h"

namespace clary::tool {
namespace {

// What a reader would be told: no error of the policy.
Result<FileFacts> proven(Ctx& ctx, const std::string& path, const Policy& policy) {
  Result<FileFacts> facts = read_facts(ctx, path, {.digests = true, .threads = ctx.proc.cores()});
  if (!facts) return facts;
  if (facts->kind != FileKind::kWheel || !facts->wheel.name)
    return Error{"not a wheel: " + path, facts->wheel.name_fault};
  const FileFindings found = verify_facts(*facts, policy, Against{});
  for (const Finding& f : found.findings) {
    if (f.severity == Severity::kError)
      return Error{"not fit to be published: " + base_name(path) + ": " + f.rule->id + " " + f.where +
                       (f.where.empty() ? "" : ": ") + f.text,
                   "clary verify --policy " + policy.name + " " + shell(path)};
  }
  return facts;
}

}  // namespace

int cmd_publish(Ctx& ctx, Cli& cli) {
  Strings files, accept;
  Publication what;
  std::string key, policy_name = "default", days;
  cli.files("WHEEL", files, false);
  cli.value("--to", "STORE", what.to);
  cli.value("--key", "FILE", key);
  cli.values("--accept", "KEY", accept);
  cli.value("--expires", "DAYS", days);
  cli.value("--policy", "NAME", policy_name);
  cli.value("--yank", "WHEEL", what.yank);
  cli.value("--reason", "TEXT", what.reason);
  cli.flag("--renew", what.renew);
  if (!cli.parse()) return cli.exit_code();
  what.dry_run = cli.dry_run();
  if (what.to.empty()) what.to = default_store(ctx);
  if (what.to.empty())
    return fail(ctx, {"missing option: --to", "--to hf:OWNER/NAME, github:OWNER/NAME@TAG or a folder"});
  if (files.empty() && what.yank.empty() && !what.renew)
    return fail(ctx, {"missing argument: WHEEL", "clary publish dist/*.whl --to " + what.to});
  if (!what.yank.empty() && what.reason.empty())
    return fail(ctx, {"missing option: --reason", "say why it is withdrawn: readers see it"});
  if (!days.empty() && !is_digits(days)) return fail(ctx, {"not a number of days: `" + printable(days) + "`", ""});
  if (!days.empty()) what.expires = ctx.clock.now() + 86400 * std::strtoll(days.c_str(), nullptr, 10);
  if (Result<std::optional<SecretKey>> secret = secret_key(ctx, key); !secret)
    return fail(ctx, secret.error());
  else
    what.key = *secret;
  for (const std::string& text : accept) {
    const Result<PublicKey> parsed = public_key(ctx, text);
    if (!parsed) return fail(ctx, parsed.error());
    what.accept.push_back(parsed->str());
  }
  const Result<Policy> policy = load_policy(ctx, policy_name);
  if (!policy) return fail(ctx, policy.error());
  for (const std::string& file : files) {
    Result<FileFacts> facts = proven(ctx, file, *policy);
    if (!facts) return fail(ctx, facts.error(), kFinding);
    what.wheels.push_back(*std::move(facts));
  }
  // From here on every wheel is proven and can be signed for.

  const Result<Published> done = publish(ctx, what);
  if (!done) return fail(ctx, done.error(), kFinding);
  if (cli.json())
    ctx.out.write(dump({{"schema", "clary-publish/1"},
                        {"store", done->store},
                        {"serial", done->serial},
                        {"changed", done->changed},
                        {"sent", done->sent},
                        {"there", done->there},
                        {"written", done->written},
                        {"dry_run", cli.dry_run()}}));
  else if (cli.dry_run())
    ctx.out.write(join(done->written, "\n") + (done->written.empty() ? "" : "\n"));
  if (!done->changed) {
    ctx.err.write("already there: " + join(done->there, ", ") + " at " + done->store + "\n");
    return kFine;
  }
  ctx.err.write((cli.dry_run() ? "would publish " : "published ") + count(done->sent.size(), "wheel") + " to " +
                done->store + ", manifest " + std::to_string(done->serial) +
                (what.key ? ", signed by " + what.key->public_key().name() : ", not signed") + "\n");
  if (!what.key) warn(ctx, "readers cannot tell who published this: clary sign --new-key NAME, then --key NAME.key");
  return kFine;
}

}  // namespace clary::tool
