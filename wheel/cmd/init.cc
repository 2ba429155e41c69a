// clary init: a recipe for a source tree, from what the tree says about itself.
#include "wheel/cmd/cmd.h"
#include "wheel/core/json.h"
#include "wheel/core/python.h"
#include "wheel/core/scan.h"

namespace clary::tool {

int cmd_init(Ctx& ctx, Cli& cli) {
  std::string source = ".", out;
  bool force = false;
  cli.value("--source", "FOLDER", source);
  cli.value("--out", "FILE", out);
  cli.flag("--force", force);
  if (!cli.parse()) return cli.exit_code();
  if (out.empty()) out = source + "/clary.toml";
  if (ctx.disk.info(out) && !force && !cli.dry_run())
    return fail(ctx, {"there is a recipe already: " + out, "--force replaces it, --dry-run shows what it would be"},
                kFinding);

  const Result<SourceFacts> facts = scan_source(ctx, source);
  if (!facts) return fail(ctx, facts.error());
  const Result<Python> python = python_for(ctx, "");
  const std::string text = recipe_text(*facts, python ? python->minor() : "3.12");
  if (cli.json()) {
    ctx.out.write(dump({{"schema", "clary-init/1"},
                        {"name", facts->name},
                        {"version", facts->version},
                        {"version_from", facts->version_from},
                        {"backend", facts->backend},
                        {"build_requires", facts->build_requires},
                        {"modules", facts->modules},
                        {"variables", facts->variables},
                        {"archs", facts->archs},
                        {"standards", facts->standards},
                        {"requires_python", facts->requires_python},
                        {"torch", facts->torch},
                        {"uses_torch", facts->uses_torch},
                        {"cuda_sources", facts->cuda_sources},
                        {"cxx_sources", facts->cxx_sources},
                        {"notes", facts->notes},
                        {"recipe", text}}));
  } else {
    ctx.out.write(text);
  }
  if (!cli.dry_run()) {
    if (const Result<Done> done = ctx.disk.write(out, text); !done) return fail(ctx, done.error());
    ctx.err.write("wrote " + out + "; next: clary plan\n");
  }
  if (facts->version.empty()) return fail(ctx, {"no version found in " + source, "write it into " + out}, kFinding);
  return kFine;
}

}  // namespace clary::tool
