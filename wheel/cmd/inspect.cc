// clary inspect: what is inside a wheel, a library or a GPU image.
#include "wheel/cmd/cmd.h"
#include "wheel/core/report.h"

namespace clary::tool {

int cmd_inspect(Ctx& ctx, Cli& cli) {
  Strings files;
  ReportOptions options;
  cli.files("FILE", files);
  cli.flag("--symbols", options.symbols);
  cli.flag("--images", options.images);
  if (!cli.parse()) return cli.exit_code();

  int code = kFine;
  std::vector<FileFacts> all;
  for (const std::string& file : files) {
    Result<FileFacts> facts = read_facts(ctx, file, {.digests = false, .threads = ctx.proc.cores()});
    if (!facts) {
      code = fail(ctx, facts.error(), kFinding);
      continue;
    }
    if (!cli.json()) ctx.out.write((all.empty() ? "" : "\n") + text_report(*facts, options));
    all.push_back(*std::move(facts));
  }
  if (cli.json()) ctx.out.write(json_report(all, options));
  return code;
}

}  // namespace clary::tool
