#include "wheel/core/source.h"

#include <algorithm>

#include "wheel/core/digest.h"
#include "wheel/core/site_folder.h"
#include "wheel/core/url.h"

namespace clary::tool {
namespace {

// The value of a word of a trusted comment: "timestamp:1795219200\tfile:manifest-000012.json".
std::string comment_word(std::string_view comment, std::string_view key) {
  for (std::string_view word : split_any(comment, "\t ")) {
    if (word.starts_with(key)) return std::string(word.substr(key.size()));
  }
  return "";
}

Error unsigned_manifest(const std::string& source) {
  return {"not signed: the manifest of " + source, "clary explain manifest-unsigned"};
}

struct Verified {
  std::string text;
  PublicKey key;
  bool first = false;  // the key came with the manifest
};

Result<Verified> verified(Store& store, const Snapshot& at, const std::string& signature_text, const Trust& trust) {
  const std::string source = store.name();
  const Result<Signature> signature = Signature::parse(signature_text);
  if (!signature)
    return Error{signature.error().message + ": of the manifest of " + source, "clary explain signature-wrong"};
  Result<std::vector<PublicKey>> keys = trust.keys_for(source);
  if (!keys) return keys.error();
  const bool first = keys->empty();
  if (first) {
    const Result<std::optional<std::string>> pub = store.read(at, "clary.pub");
    if (!pub) return pub.error();
    if (!*pub)
      return Error{"signed by key " + signature->key_name() + ", which is not known: " + source,
                   "ask its publisher for the key, then pass --key RW..."};
    const Result<PublicKey> key = PublicKey::parse(**pub);
    if (!key) return key.error();
    keys->push_back(*key);
  }
  for (const PublicKey& key : *keys) {
    if (!signature->covers_comment(key)) continue;
    std::string file = comment_word(signature->trusted, "file:");
    if (!file.starts_with("manifest-") || file.find('/') != file.npos) file = store.manifest_name();
    const Result<std::optional<std::string>> text = store.read(at, file);
    if (!text) return text.error();
    if (!*text)
      return Error{"signed, and not there: " + file + " of " + source, "its publisher should run clary publish again"};
    if (signature->covers(**text, key)) return Verified{**text, key, first};
  }
  Strings names;
  for (const PublicKey& key : *keys) names.push_back(key.name());
  return Error{"wrong signature: the manifest of " + source + " is not signed by " + join(names, " or "),
               "clary explain signature-wrong"};
}

std::string place_of(Ctx& ctx, const SourceOptions& options) {
  return options.from.empty() ? default_store(ctx) : options.from;
}

// Wheels in a folder without a manifest: each is read as it is.
Result<std::optional<Believed>> bare_wheels(Ctx& ctx, Store& store, const Snapshot& at) {
  std::optional<Believed> out;
  for (const StoredFile& f : at.files) {
    if (!f.name.ends_with(".whl") || is_url(store.address(at, f.name))) continue;
    const Result<FileFacts> facts =
        read_facts(ctx, store.address(at, f.name), {.digests = true, .threads = ctx.proc.cores()});
    if (!facts) return facts.error();
    if (!out) out.emplace();
    if (const std::string why = refusal(*facts); !why.empty()) {
      out->manifest.unreadable.push_back(f.name + ": " + why);
      continue;
    }
    Described wheel = describe(*facts);
    wheel.entry.urls = {f.name};
    out->manifest.put(wheel.entry, *wheel.json);
  }
  return out;
}

}  // namespace

std::string manifest_file(int64_t serial) { return format("manifest-%06lld.json", static_cast<long long>(serial)); }

Result<std::optional<Believed>> read_manifest(Ctx& ctx, Store& store, const Snapshot& at,
                                              const SourceOptions& options) {
  Result<Trust> trust = Trust::open(ctx, options.key);
  if (!trust) return trust.error();
  const std::string source = store.name(), name = store.manifest_name();
  Believed out;
  std::optional<PublicKey> signer;
  const Result<std::optional<std::string>> signature = store.read(at, name + ".minisig");
  if (!signature) return signature.error();
  if (*signature) {
    Result<Verified> good = verified(store, at, **signature, *trust);
    if (!good) return good.error();
    out.text = std::move(good->text), signer = good->key, out.signer = good->key.name();
    if (good->first)
      out.warning = "first manifest of " + source + ": from now on only key " + out.signer + " counts (pass --key " +
                    good->key.str() + " to be sure)";
  } else {
    if (trust->expects_signature(source) || options.signed_only) return unsigned_manifest(source);
    Result<std::optional<std::string>> text = store.read(at, name);
    if (!text) return text.error();
    if (!*text) return bare_wheels(ctx, store, at);
    out.text = *std::move(*text);
    out.warning = "not signed: whoever can write to " + source + " decides what is installed";
  }
  // From here on the text is the publisher's, or nobody claims it is.
  Result<Manifest> manifest = Manifest::parse(out.text, name + " of " + source);
  if (!manifest) return manifest.error();
  const std::string sha256 = hex(sha256_of(bytes_of(out.text)));
  if (Result<Done> good = trust->check(source, *manifest, sha256); !good) return good.error();
  if (options.remember) {
    if (Result<Done> done = trust->remember(source, *manifest, sha256, signer ? &*signer : nullptr); !done)
      return done.error();
  }
  out.manifest = *std::move(manifest);
  return std::optional<Believed>(std::move(out));
}

Result<std::optional<Offer>> find_offer(Ctx& ctx, const SourceOptions& options) {
  const std::string where = place_of(ctx, options);
  if (where.empty()) return std::optional<Offer>();
  Offer out;
  Result<std::unique_ptr<Store>> store = open_store(ctx, where);
  if (!store) return store.error();
  out.store = *std::move(store);
  Result<Snapshot> at = out.store->look();
  if (!at) return at.error();
  out.at = *std::move(at);
  Result<std::optional<Believed>> found = read_manifest(ctx, *out.store, out.at, options);
  if (!found) return found.error();
  if (!*found) return std::optional<Offer>();
  out.manifest = std::move((*found)->manifest);
  out.text = std::move((*found)->text), out.signer = std::move((*found)->signer),
  out.warning = std::move((*found)->warning);
  return std::optional<Offer>(std::move(out));
}

Error nothing_offered(Ctx& ctx, const SourceOptions& options) {
  const std::string where = place_of(ctx, options);
  if (where.empty())
    return {"nowhere to look for wheels",
            "--from hf:OWNER/NAME, github:OWNER/NAME, https://.../latest.json or a folder; or export HF_REPO_ID"};
  return {"no wheels at " + where, "clary publish WHEEL --to " + where};
}

Result<Offer> read_offer(Ctx& ctx, const SourceOptions& options) {
  Result<std::optional<Offer>> offer = find_offer(ctx, options);
  if (!offer) return offer.error();
  if (!*offer) return nothing_offered(ctx, options);
  return **std::move(offer);
}

}  // namespace clary::tool
