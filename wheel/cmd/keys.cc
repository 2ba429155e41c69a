#include "wheel/cmd/keys.h"

namespace clary::tool {

Result<std::optional<SecretKey>> secret_key(Ctx& ctx, const std::string& given) {
  const std::string path = given.empty() ? ctx.proc.env("CLARY_KEY").value_or("") : given;
  if (path.empty()) return std::optional<SecretKey>();
  const Result<std::string> text = ctx.disk.read(path, 10'000);
  if (!text) return text.error();
  Result<SecretKey> key = SecretKey::parse(*text, ctx.proc.env("CLARY_KEY_PASSWORD").value_or(""));
  if (!key) return Error{key.error().message + ": " + path, key.error().hint};
  return std::optional<SecretKey>(*key);
}

Result<PublicKey> public_key(Ctx& ctx, const std::string& text) {
  if (!ctx.disk.info(text)) return PublicKey::parse(text);
  const Result<std::string> file = ctx.disk.read(text, 10'000);
  if (!file) return file.error();
  return PublicKey::parse(*file);
}

}  // namespace clary::tool
