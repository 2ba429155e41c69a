#include "wheel/core/publish.h"

#include <algorithm>

#include "wheel/core/http.h"
#include "wheel/core/json.h"

namespace clary::tool {
namespace {

constexpr int kTries = 8;
constexpr int64_t kKeep = 5;  // numbered manifests

// What is offered and what a publisher adds to it.
struct Draft {
  Manifest manifest;
  bool was_signed = false, exists = false;
};

Result<Draft> draft_of(Ctx& ctx, Store& store, const Snapshot& at, const Publication& what) {
  const SourceOptions options{.remember = !what.dry_run};
  Result<std::optional<Believed>> now = read_manifest(ctx, store, at, options);
  if (!now) return now.error();
  Draft out;
  if (!*now || (*now)->text.empty()) return out;  // nothing, or wheels without a manifest
  out.manifest = std::move((*now)->manifest), out.was_signed = !(*now)->signer.empty(), out.exists = true;
  return out;
}

Result<bool> add_wheels(Draft& draft, const Publication& what, const std::string& folder) {
  bool changed = false;
  for (const FileFacts& facts : what.wheels) {
    Described wheel = describe(facts);
    for (const WheelEntry& old : draft.manifest.wheels) {
      if (old.file == wheel.entry.file && old.sha256 != wheel.entry.sha256)
        return Error{"another wheel of that name is published: " + old.file + " with SHA-256 " + old.sha256,
                     "give the new one its own version or build number: a published name never changes its content"};
    }
    if (!folder.empty()) (*wheel.json)["urls"] = Json::array({folder + percent(wheel.entry.file)});
    changed |= draft.manifest.put(wheel.entry, *wheel.json);
  }
  if (!what.yank.empty()) {
    const auto& wheels = draft.manifest.wheels;
    const auto found =
        std::find_if(wheels.begin(), wheels.end(), [&](const WheelEntry& w) { return w.file == what.yank; });
    if (found == wheels.end()) return Error{"not published: " + what.yank, "clary resolve lists what is"};
    changed |= found->yanked != what.reason;
    draft.manifest.yank(what.yank, what.reason);
  }
  return changed;
}

Result<Done> set_keys(Draft& draft, const Publication& what) {
  if (draft.was_signed && !what.key)
    return Error{"its manifest is signed, and no key was given", "--key FILE, or export CLARY_KEY=FILE"};
  if (!what.accept.empty()) draft.manifest.keys = what.accept;
  const Strings& keys = draft.manifest.keys;
  if (!what.key || keys.empty()) return Done{};
  if (std::find(keys.begin(), keys.end(), what.key->public_key().str()) == keys.end())
    return Error{"readers accept other keys than " + what.key->public_key().name(),
                 "sign with an accepted key and --accept this one first"};
  return Done{};
}

Change change_of(Ctx& ctx, Draft& draft, const Publication& what, const Store& store, const Snapshot& at,
                 Published& out) {
  Change change;
  Strings names;
  for (const FileFacts& facts : what.wheels) {
    const std::string file = base_name(facts.path), name = store.folder() + file;
    const StoredFile* there = at.find(name);
    const bool same = there && there->size == facts.size && (there->sha256.empty() || there->sha256 == facts.sha256);
    (same ? out.there : out.sent).push_back(file);
    if (!same || there->sha256.empty()) change.blobs.push_back({name, facts.path, facts.sha256, facts.size});
    names.push_back(file);
  }
  for (const StoredFile& f : at.files) {  // a number that an interrupted publisher took is not used again
    if (f.name.starts_with("manifest-") && is_digits(f.name.substr(9, 6)))
      draft.manifest.serial = std::max<int64_t>(draft.manifest.serial, std::strtoll(f.name.c_str() + 9, nullptr, 10));
  }
  const std::string text = draft.manifest.write(ctx.clock.now(), what.expires);
  const std::string numbered = manifest_file(draft.manifest.serial), latest = store.manifest_name();
  change.message = names.empty() ? "manifest " + std::to_string(draft.manifest.serial) : join(names, ", ");
  change.texts.emplace_back(numbered, text);
  std::string signature;
  if (what.key) {
    const std::string comment = "timestamp:" + std::to_string(ctx.clock.now()) + "\tfile:" + numbered + "\thashed";
    signature = what.key->sign(text, comment);
    change.texts.emplace_back(numbered + ".minisig", signature);
    if (!at.find("clary.pub") || !what.accept.empty())
      change.texts.emplace_back("clary.pub", what.key->public_key().file());
  }
  change.texts.emplace_back(latest, text);
  if (what.key) change.texts.emplace_back(latest + ".minisig", signature);
  for (int64_t old = draft.manifest.serial - kKeep; old > 0 && at.find(manifest_file(old)); old--) {
    change.removed.push_back(manifest_file(old));
    if (at.find(manifest_file(old) + ".minisig")) change.removed.push_back(manifest_file(old) + ".minisig");
  }
  out.serial = draft.manifest.serial;
  for (const Blob& blob : change.blobs) out.written.push_back(blob.name);
  for (const auto& [name, content] : change.texts) out.written.push_back(name);
  return change;
}

}  // namespace

Result<Published> publish(Ctx& ctx, const Publication& what) {
  Result<std::unique_ptr<Store>> store = open_store(ctx, what.to);
  if (!store) return store.error();
  for (int n = 1; n <= kTries; n++) {
    const Result<Snapshot> at = (*store)->look();
    if (!at) return at.error();
    Result<Draft> draft = draft_of(ctx, **store, *at, what);
    if (!draft) return draft.error();
    const Result<bool> changed = add_wheels(*draft, what, (*store)->folder());
    if (!changed) return changed.error();
    if (Result<Done> good = set_keys(*draft, what); !good) return good.error();
    Published out{.store = (*store)->name(), .serial = draft->manifest.serial};
    const bool first_signature = what.key && !draft->was_signed;
    if (!*changed && !what.renew && draft->exists && !first_signature && what.accept.empty()) {
      for (const FileFacts& facts : what.wheels) out.there.push_back(base_name(facts.path));
      return out;
    }
    // From here on the new manifest is decided, unless somebody else publishes meanwhile.
    const Change change = change_of(ctx, *draft, what, **store, *at, out);
    out.changed = true;
    if (what.dry_run) return out;
    const Result<bool> done = (*store)->commit(*at, change);
    if (!done) return done.error();
    if (*done) return out;
    ctx.clock.sleep(backoff(n, nullptr));
  }
  return Error{"others publish there without end: " + what.to, "try again later"};
}

}  // namespace clary::tool
