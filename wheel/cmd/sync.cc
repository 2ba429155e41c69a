// clary sync: an environment as a lock file says.
#include "wheel/cmd/cmd.h"
#include "wheel/cmd/options.h"
#include "wheel/core/json.h"
#include "wheel/core/lockfile.h"
#include "wheel/core/table.h"

namespace clary::tool {

int cmd_sync(Ctx& ctx, Cli& cli) {
  std::string file = "clary.lock.json", installer = "auto", stack = "auto";
  TargetChoice choice;
  bool check = false;
  cli.word("LOCK", file);
  cli.value("--python", "PYTHON", choice.python);
  cli.value("--installer", "PROGRAM", installer, {"auto", "pip", "uv"});
  cli.value("--stack", "WHICH", stack, {"auto", "keep"});
  cli.flag("--check", check);
  if (!cli.parse()) return cli.exit_code();
  const Result<std::string> text = ctx.disk.read(file, 64 << 20);
  if (!text) return fail(ctx, {text.error().message, "clary lock PROJECT writes one"}, kFinding);
  const Result<LockFile> lock = LockFile::parse(*text, file);
  if (!lock) return fail(ctx, lock.error(), kFinding);
  const Result<Target> target = probe_target(ctx, choice);
  if (!target) return fail(ctx, target.error());
  if (target->python.empty()) return fail(ctx, {"no interpreter to install into", "--python PATH"});
  if (lock->abi != target->abi || lock->machine != target->machine || lock->system != target->system)
    return fail(ctx,
                {"locked for " + printable(lock->target) + "; here is " + target_text(*target),
                 "clary lock on such a machine, or with --python and --platform"},
                kFinding);
  const Installer which = installer == "pip" ? Installer::kPip : installer == "uv" ? Installer::kUv : Installer::kAuto;
  const bool reads = check || cli.dry_run();
  Result<Environment> environment = reads ? Environment::look(ctx, *target) : Environment::open(ctx, *target, which);
  if (!environment) return fail(ctx, environment.error());
  // From here on the environment is this command's alone, unless it only looks.

  Table table({"project", "version", "state"});
  Json list = Json::array();
  int code = kFine;
  for (const Delivery& what : lock->wheels) {
    const std::optional<Installed> here = environment->find(what.project);
    std::string state = here && here->sha256 == what.sha256 ? "already there"
                        : here                              ? "is " + here->version
                                                            : "missing";
    const bool differs = state != "already there";
    if (differs && check) code = kFinding;
    if (differs && !reads) {
      if (Result<Done> done = stack == "keep" ? Result<Done>(Done{}) : environment->install_stack(what.stack); !done)
        return fail(ctx, done.error(), kFinding);
      const Result<bool> fresh = deliver(ctx, *environment, what, false);
      if (!fresh) return fail(ctx, fresh.error(), kFinding);
      state = "installed";
    } else if (differs && cli.dry_run() && !check) {
      state = "would be installed";
    }
    table.row({what.project, what.version, printable(state)});
    list.push_back({{"project", what.project}, {"version", what.version}, {"wheel", what.file}, {"state", state}});
  }
  if (cli.json())
    ctx.out.write(dump({{"schema", "clary-sync/1"},
                        {"lock", file},
                        {"python", target->python},
                        {"dry_run", cli.dry_run()},
                        {"wheels", list}}));
  else
    ctx.out.write(table.str());
  if (code != kFine)
    return fail(ctx, {"the environment is not as " + file + " says", "clary sync " + shell(file)}, kFinding);
  return code;
}

}  // namespace clary::tool
