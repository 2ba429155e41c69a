// clary doctor: what this machine has for building, checking and running wheels, and what repairs what it lacks.
#include <algorithm>

#include "clary/clary.h"
#include "wheel/cmd/cmd.h"
#include "wheel/core/checkup.h"
#include "wheel/core/json.h"
#include "wheel/core/table.h"

namespace clary::tool {
namespace {

std::string text_of(const std::vector<CheckupLine>& all, bool colour) {
  Table table({"", "", ""});
  for (const CheckupLine& line : all) {
    table.row({line.name(), line.topic, printable(line.text)});
    if (!line.repair.empty()) table.row({"", "", "repair: " + line.repair});
  }
  std::string out = table.str();
  if (!colour) return out;
  std::string painted;
  for (std::string_view line : lines(out)) {
    const char* paint = line.starts_with("OK")     ? "\x1b[32m"
                        : line.starts_with("WARN") ? "\x1b[33m"
                        : line.starts_with("FAIL") ? "\x1b[31m"
                                                   : "";
    const size_t end = *paint ? line.find(' ') : 0;
    painted += std::string(paint) + std::string(line.substr(0, end)) + (*paint ? "\x1b[0m" : "") +
               std::string(line.substr(end)) + "\n";
  }
  return painted;
}

std::string json_of(const std::vector<CheckupLine>& all) {
  Json list = Json::array();
  for (const CheckupLine& line : all)
    list.push_back({{"state", line.name()}, {"topic", line.topic}, {"text", line.text}, {"repair", line.repair}});
  return dump({{"schema", "clary-doctor/1"}, {"tool", "clary " CLARY_VERSION}, {"checks", list}});
}

}  // namespace

int cmd_doctor(Ctx& ctx, Cli& cli) {
  std::string bundle;
  cli.value("--bundle", "FILE", bundle);
  if (!cli.parse()) return cli.exit_code();

  const std::vector<CheckupLine> lines = checkup(ctx);
  ctx.out.write(cli.json() ? json_of(lines) : text_of(lines, ctx.out.colour));
  if (!bundle.empty() && cli.dry_run()) {
    ctx.err.write("would write " + bundle + "\n");
  } else if (!bundle.empty()) {
    const std::string system = first_line_of(ctx, {"uname", "-srm"});
    const Result<Done> done = ctx.disk.write(
        bundle, "clary " CLARY_VERSION ", " + system + "\n\n" + text_of(lines, false) + "\n" + json_of(lines));
    if (!done) return fail(ctx, done.error());
    ctx.err.write("wrote " + bundle + ": it holds no token and no file of yours; read it before you share it\n");
  }
  const bool failed =
      std::any_of(lines.begin(), lines.end(), [](const CheckupLine& line) { return line.state == CheckupLine::kFail; });
  return failed ? kFinding : kFine;
}

}  // namespace clary::tool
