// clary verify: whether a wheel is what its name, its metadata and a policy say.
#include "wheel/core/verify.h"
#include "wheel/cmd/cmd.h"
#include "wheel/core/digest.h"
#include "wheel/core/json.h"
#include "wheel/core/pack.h"

namespace clary::tool {
namespace {

// --require and --driver sharpen the policy for one run.
Result<Done> sharpen(Policy& policy, const std::string& require, const std::string& driver) {
  if (auto ok = check_driver_version(driver); !ok) return ok.error();
  if (!driver.empty()) policy.driver = driver;
  if (require.empty()) return Done{};
  const Result<ArchList> list = ArchList::parse(require, {});
  if (!list) return list.error();
  policy.require_sass.clear();
  for (const ArchTarget& target : list->targets()) {
    if (target.sass) policy.require_sass.push_back(target.arch.sm);
    if (target.ptx && !target.arch.feature) policy.require_ptx = "plain";
  }
  return Done{};
}

// --rebuild: two builds of one wheel have the same bytes.
int compare_builds(Ctx& ctx, const std::string& first, const std::string& second, bool json) {
  const Result<Mapping> a = ctx.disk.map(first), b = ctx.disk.map(second);
  if (!a || !b) return fail(ctx, (a ? b : a).error(), kFinding);
  const Strings differences = wheel_differences(a->bytes, b->bytes);
  const std::string digest = hex(sha256_of(a->bytes));
  if (json) {
    ctx.out.write(dump({{"schema", "clary-rebuild/1"},
                        {"same", differences.empty()},
                        {"sha256", digest},
                        {"differences", differences}}));
  } else if (differences.empty()) {
    ctx.out.write("the same bytes: sha256 " + digest + "\n");
  } else {
    ctx.out.write(join(differences, "\n") + "\n");
  }
  return differences.empty() ? kFine : kFinding;
}

}  // namespace

int cmd_verify(Ctx& ctx, Cli& cli) {
  Strings files;
  std::string policy_name = "default", form = "text", require, driver, torch;
  std::string rebuild;
  bool strict = false;
  cli.files("FILE", files);
  cli.value("--policy", "NAME", policy_name);
  cli.value("--format", "FORM", form, {"text", "json", "sarif"});
  cli.value("--require", "ARCHS", require);
  cli.value("--driver", "VERSION", driver);
  cli.value("--torch", "FOLDER", torch);
  cli.value("--rebuild", "WHEEL", rebuild);
  cli.flag("--strict", strict);
  if (!cli.parse()) return cli.exit_code();
  if (cli.json()) form = "json";
  if (!rebuild.empty()) return compare_builds(ctx, files[0], rebuild, form == "json");

  Result<Policy> policy = load_policy(ctx, policy_name);
  if (!policy) return fail(ctx, policy.error());
  if (Result<Done> done = sharpen(*policy, require, driver); !done) return fail(ctx, done.error());
  Against against;
  if (!torch.empty()) {
    Result<Against> exports = load_torch_exports(ctx, torch);
    if (!exports) return fail(ctx, exports.error());
    against = *std::move(exports);
  }
  // From here on the question is fixed; each file is an answer by itself.

  int code = kFine;
  std::vector<FileFindings> all;
  for (const std::string& file : files) {
    Result<FileFacts> facts = read_facts(ctx, file, {.digests = true, .threads = ctx.proc.cores()});
    if (!facts) {
      code = fail(ctx, facts.error(), kFinding);
      continue;
    }
    all.push_back(verify_facts(*facts, *policy, against));
    const FileFindings& found = all.back();
    if (found.count(Severity::kError) || (strict && found.count(Severity::kWarning))) code = kFinding;
    if (form == "text")
      ctx.out.write((all.size() > 1 ? "\n" : "") + findings_text(found, policy->name, ctx.out.colour));
  }
  if (form == "json") ctx.out.write(findings_json(all, policy->name));
  if (form == "sarif") ctx.out.write(findings_sarif(all));
  if (form == "text" && code != kFine && !all.empty() && !all[0].findings.empty()) {
    ctx.err.write(std::string("\nhint: clary explain ") + all[0].findings[0].rule->id + "\n");
  }
  return code;
}

}  // namespace clary::tool
