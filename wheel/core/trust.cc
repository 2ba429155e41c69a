#include "wheel/core/trust.h"

#include <algorithm>

#include "wheel/core/json.h"
#include "wheel/core/places.h"
#include "wheel/core/site.h"

namespace clary::tool {

Result<Trust> Trust::open(Ctx& ctx, const std::string& key) {
  Trust out(ctx);
  if (!key.empty()) {
    const Result<std::string> file = ctx.disk.info(key) ? ctx.disk.read(key, 10'000) : Result<std::string>(key);
    if (!file) return file.error();
    const Result<PublicKey> parsed = PublicKey::parse(*file);
    if (!parsed) return parsed.error();
    out.given_ = *parsed;
  }
  const std::string dir = config_dir(ctx) + "/keys";
  const Result<Strings> names = ctx.disk.list(dir);
  for (const std::string& name : names ? *names : Strings{}) {
    if (!name.ends_with(".pub")) continue;
    const Result<std::string> text = ctx.disk.read(dir + "/" + name, 10'000);
    const Result<PublicKey> parsed = text ? PublicKey::parse(*text) : text.error();
    if (!parsed)
      return Error{parsed.error().message + " in " + dir + "/" + name, "remove the file, or put the key back"};
    out.believed_.push_back(*parsed);
  }
  if (Result<Done> done = out.load(); !done) return done.error();
  return out;
}

std::string Trust::file() const { return config_dir(ctx_) + "/sources.json"; }

Result<Done> Trust::load() {
  sources_.clear();
  if (!ctx_.disk.info(file())) return Done{};
  const Result<std::string> text = ctx_.disk.read(file(), 16 << 20);
  if (!text) return text.error();
  const Error damaged{"damaged, so nobody knows which manifests were seen: " + file(),
                      "put a copy of it back, or begin anew: rm " + shell(file())};
  const Result<Json> json = parse_json(*text, file());
  if (!json || !json->is_object()) return damaged;
  for (const auto& [source, seen] : json->items()) {
    const Strings keys = strings_of(seen, "keys");
    if (number_of(seen, "serial", -1) < 0 || text_of(seen, "sha256").empty() || !seen.contains("keys") ||
        !seen["keys"].is_array() || keys.size() != seen["keys"].size())  // else a key would count as none
      return damaged;
    sources_[source] = {number_of(seen, "serial"), text_of(seen, "sha256"), keys};
  }
  return Done{};
}

Result<bool> Trust::update(const std::function<bool(std::map<std::string, Seen>&)>& change) {
  if (Result<Done> done = ctx_.disk.make_dirs(config_dir(ctx_)); !done) return done.error();
  const Result<Lock> lock = ctx_.disk.lock(config_dir(ctx_) + "/lock", 60);
  if (!lock) return lock.error();
  if (Result<Done> done = load(); !done) return done.error();
  if (!change(sources_)) return false;
  Json json = Json::object();
  for (const auto& [source, seen] : sources_)
    json[source] = {{"serial", seen.serial}, {"sha256", seen.sha256}, {"keys", seen.keys}};
  if (Result<Done> done = ctx_.disk.write(file(), dump(json)); !done) return done.error();
  return true;
}

Trust::Seen Trust::seen(const std::string& source) const {
  const auto found = sources_.find(source);
  return found == sources_.end() ? Seen{} : found->second;
}

bool Trust::expects_signature(const std::string& source) const { return given_ || !seen(source).keys.empty(); }

Result<std::vector<PublicKey>> Trust::keys_for(const std::string& source) const {
  if (given_) return std::vector<PublicKey>{*given_};
  std::vector<PublicKey> out;
  for (const std::string& line : seen(source).keys) {
    const Result<PublicKey> key = PublicKey::parse(line);
    if (!key) return Error{key.error().message + " in " + file(), "clary sign --forget " + shell(source)};
    out.push_back(*key);
  }
  if (out.empty()) out = believed_;
  return out;
}

Result<Done> Trust::check(const std::string& source, const Manifest& manifest, const std::string& sha256) const {
  const Seen before = seen(source);
  const std::string hint = "clary explain manifest-rolled-back";
  if (manifest.serial < before.serial)
    return Error{format("rolled back: %s has serial %lld, and %lld was seen before", printable(source).c_str(),
                        static_cast<long long>(manifest.serial), static_cast<long long>(before.serial)),
                 hint};
  if (manifest.serial && manifest.serial == before.serial && sha256 != before.sha256)
    return Error{"two manifests of serial " + std::to_string(manifest.serial) + ": " + source, hint};
  if (manifest.expires && manifest.expires < ctx_.clock.now())
    return Error{"expired on " + iso_time(manifest.expires) + ": the manifest of " + source,
                 "ask its publisher to sign a new one: clary publish --renew"};
  return Done{};
}

Result<Done> Trust::remember(const std::string& source, const Manifest& manifest, const std::string& sha256,
                             const PublicKey* signer) {
  const auto after = [&](const Seen& old) {
    Seen now{manifest.serial, sha256, old.keys};
    if (signer && !manifest.keys.empty()) now.keys = manifest.keys;
    if (signer && now.keys.empty()) now.keys = {signer->str()};
    return now;
  };
  if (after(seen(source)) == seen(source)) return Done{};
  const Result<bool> done = update([&](std::map<std::string, Seen>& all) {
    Seen& old = all[source];
    if (old.serial > manifest.serial) return false;  // another process saw a newer one meanwhile
    old = after(old);
    return true;
  });
  return done ? Result<Done>(Done{}) : done.error();
}

Result<bool> Trust::forget(const std::string& source) {
  return update([&](std::map<std::string, Seen>& all) { return all.erase(source) > 0; });
}

}  // namespace clary::tool
