#include "wheel/core/lease.h"

#include "wheel/core/http.h"
#include "wheel/core/json.h"
#include "wheel/core/requirement.h"

namespace clary::tool {
namespace {

std::string file_of(const std::string& what) { return "building-" + normal_name(what) + ".json"; }

std::string me(Ctx& ctx) {
  const Result<std::string> host = ctx.disk.read("/proc/sys/kernel/hostname", 200);
  const Result<std::string> id = ctx.disk.read("/proc/self/stat", 20);
  return (host ? std::string(trim(*host)) : "a machine") + "/" + (id ? id->substr(0, id->find(' ')) : "");
}

}  // namespace

Result<Lease> take_lease(Ctx& ctx, Store& store, const std::string& what, int minutes) {
  const std::string file = file_of(what);
  for (int n = 1; n <= 5; n++) {
    const Result<Snapshot> at = store.look();
    if (!at) return at.error();
    const Result<std::optional<std::string>> text = store.read(*at, file);
    if (!text) return text.error();
    const Result<Json> old = *text ? parse_json(**text, file) : Result<Json>(Json::object());
    const bool held = old && old->is_object() && number_of(*old, "until") > ctx.clock.now();
    if (held && text_of(*old, "holder") == me(ctx)) return Lease{Lease::kMine, me(ctx)};
    if (held) return Lease{Lease::kTheirs, text_of(*old, "holder")};
    Change change{.message = "building " + what};
    if (*text) {
      change.removed = {file};
      const Result<bool> freed = store.commit(*at, change);
      if (!freed) return freed.error();
      continue;
    }
    change.texts = {{file, dump({{"holder", me(ctx)}, {"until", ctx.clock.now() + 60 * minutes}})}};
    const Result<bool> written = store.commit(*at, change);
    if (!written) return Lease{Lease::kCannotWrite, written.error().message};
    if (*written) {  // a store that takes two at once keeps one of them: see whose
      const Result<Snapshot> now = store.look();
      const Result<std::optional<std::string>> kept = now ? store.read(*now, file) : now.error();
      const bool mine = kept && *kept && **kept == change.texts[0].second;
      if (mine) return Lease{Lease::kMine, me(ctx)};
    }
    ctx.clock.sleep(backoff(n, nullptr));
  }
  return Lease{Lease::kTheirs, "another machine"};
}

void give_back_lease(Ctx& ctx, Store& store, const std::string& what) {
  for (int n = 1; n <= 5; n++) {
    const Result<Snapshot> at = store.look();
    if (!at) return;
    const Result<bool> done = store.commit(*at, {.message = "built " + what, .removed = {file_of(what)}});
    if (!done || *done) return;
    ctx.clock.sleep(backoff(n, nullptr));
  }
}

}  // namespace clary::tool
