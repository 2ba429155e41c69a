// clary cache: the wheels that were downloaded.
#include "wheel/core/cache.h"

#include <algorithm>

#include "wheel/cmd/cmd.h"
#include "wheel/core/json.h"
#include "wheel/core/policy.h"
#include "wheel/core/site.h"
#include "wheel/core/table.h"

namespace clary::tool {
namespace {

// Older than `days`, then the least used beyond `most` bytes. Neither: all.
std::vector<CachedWheel> to_prune(std::vector<CachedWheel> wheels, int64_t now, int days,
                                  std::optional<uint64_t> most) {
  if (days < 0 && !most) return wheels;
  std::sort(wheels.begin(), wheels.end(), [](const CachedWheel& a, const CachedWheel& b) { return a.used > b.used; });
  std::vector<CachedWheel> out;
  uint64_t kept = 0;
  for (CachedWheel& w : wheels) {
    const bool old = days >= 0 && w.used < now - int64_t{86400} * days;
    const bool much = most && kept + w.size > *most;
    if (old || much)
      out.push_back(std::move(w));
    else
      kept += w.size;
  }
  return out;
}

}  // namespace

int cmd_cache(Ctx& ctx, Cli& cli) {
  std::string action = "list", days, most_text;
  cli.word("ACTION", action, {"list", "verify", "prune", "path"});
  cli.value("--unused-for", "DAYS", days);
  cli.value("--keep", "SIZE", most_text);
  if (!cli.parse()) return cli.exit_code();
  if (!days.empty() && (!is_digits(days) || days.size() > 6))
    return fail(ctx, {"not a number of days: `" + printable(days) + "`", ""});
  std::optional<uint64_t> most;
  if (!most_text.empty()) {
    const Result<uint64_t> size = parse_size(most_text);
    if (!size) return fail(ctx, size.error());
    most = *size;
  }
  Cache cache(ctx);
  if (action == "path") {
    ctx.out.write(cli.json() ? dump({{"schema", "clary-cache/1"}, {"path", cache.dir()}}) : cache.dir() + "\n");
    return kFine;
  }
  std::vector<CachedWheel> wheels = cache.list();
  if (action == "prune")
    wheels = to_prune(std::move(wheels), ctx.clock.now(), days.empty() ? -1 : std::stoi(days), most);
  Json list = Json::array();
  Table table({"wheel", ">size", "used", action == "list" ? "sha256" : "state"});
  uint64_t bytes = 0;
  int code = kFine;
  for (const CachedWheel& w : wheels) {
    std::string state = action == "list" ? w.sha256.substr(0, 12) : "good";
    if (action == "verify") {
      const std::string fault = cache.fault(w);
      if (!fault.empty()) code = kFinding;
      if (!fault.empty() && !cli.dry_run()) {
        const Result<bool> gone = cache.drop(w);
        state = fault + (gone && *gone ? ": removed" : ": in use");
      } else if (!fault.empty()) {
        state = fault;
      }
    } else if (action == "prune") {
      const Result<bool> gone = cli.dry_run() ? Result<bool>(true) : cache.drop(w);
      if (!gone) return fail(ctx, gone.error());
      state = *gone ? (cli.dry_run() ? "would go" : "removed") : "in use";
      if (!*gone) continue;
    }
    bytes += w.size;
    table.row({printable(w.file), human_bytes(w.size), iso_time(w.used).substr(0, 10), state});
    list.push_back({{"wheel", w.file},
                    {"sha256", w.sha256},
                    {"size", w.size},
                    {"used", w.used},
                    {"path", w.path},
                    {"state", state}});
  }
  if (cli.json())
    ctx.out.write(dump({{"schema", "clary-cache/1"},
                        {"path", cache.dir()},
                        {"bytes", bytes},
                        {"wheels", list},
                        {"dry_run", cli.dry_run()}}));
  else if (!table.empty())
    ctx.out.write(table.str());
  ctx.err.write(count(table.size(), "wheel") + ", " + human_bytes(bytes) + " in " + cache.dir() + "\n");
  return code;
}

}  // namespace clary::tool
