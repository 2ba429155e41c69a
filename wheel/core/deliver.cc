#include "wheel/core/deliver.h"

#include "wheel/core/json.h"
#include "wheel/core/site.h"
#include "wheel/core/site_folder.h"

namespace clary::tool {

Delivery delivery_of(const Offer& offer, const WheelEntry& wheel) {
  Delivery out{normal_name(wheel.name.name()),
               wheel.name.version().str(),
               wheel.file,
               wheel.sha256,
               wheel.size,
               {},
               "",
               "",
               wheel.stack,
               offer.store->name(),
               offer.manifest.serial,
               {}};
  const Result<Url> home = Url::parse(offer.store->address(offer.at, wheel.file));
  for (const std::string& url : wheel.urls) {
    const Result<Url> parsed = is_url(url) ? Url::parse(url) : Result<Url>(Error{});
    if (parsed && parsed->is_loopback() && home && !home->is_loopback())
      continue;  // no manifest asks this machine's services
    out.addresses.push_back(is_url(url) ? url : offer.store->address(offer.at, replace_all(url, "%2B", "+")));
  }
  if (wheel.urls.empty()) out.addresses.push_back(offer.store->address(offer.at, wheel.file));
  out.token = offer.store->token();
  if (home) out.token_origin = home->origin();
  return out;
}

Result<Cache::Held> fetch_wheel(Ctx& ctx, const Delivery& what) {
  Cache cache(ctx);
  std::optional<Error> first;
  if (cache.has(what.sha256, what.file)) return cache.get({.sha256 = what.sha256, .size = what.size}, what.file);
  for (const std::string& address : what.addresses) {
    const bool web = is_url(address);
    const Result<Url> url = web ? Url::parse(address) : Result<Url>(Error{});
    const std::string token = url && url->origin() == what.token_origin ? what.token : "";
    Result<Cache::Held> held =
        web ? cache.get({{address}, what.sha256, what.size, token}, what.file) : cache.add(address, what.sha256);
    if (held) return held;
    if (!first) first = held.error();
  }
  return first ? *first : Error{"no address of " + what.file, ""};
}

Result<bool> deliver(Ctx& ctx, Environment& environment, const Delivery& what, bool replace) {
  const std::optional<Installed> here = environment.find(what.project);
  if (here && here->sha256 == what.sha256 && !replace) return false;
  const Result<Cache::Held> held = fetch_wheel(ctx, what);
  if (!held) return held.error();
  const Result<FileFacts> facts = read_facts(ctx, held->path, {.digests = true, .threads = ctx.proc.cores()});
  if (!facts) return facts.error();
  if (const std::string why = refusal(*facts); !why.empty())
    return Error{"not fit to be installed: " + what.file + ": " + why, "clary verify " + shell(held->path)};
  // From here on the file is the announced one and well formed.
  const Json receipt = {
      {"schema", "clary-receipt/1"}, {"project", what.project},   {"version", what.version},
      {"wheel", what.file},          {"sha256", what.sha256},     {"source", what.source},
      {"serial", what.serial},       {"urls", what.addresses},    {"installed", iso_time(ctx.clock.now())},
      {"pinned_by", what.pinned},    {"torch", what.stack.torch}, {"index_url", what.stack.index_url}};
  if (Result<Done> done = environment.install(what.project, held->path, what.sha256, dump(receipt)); !done)
    return done.error();
  return true;
}

}  // namespace clary::tool
