// Signatures that minisign (https://jedisct1.github.io/minisign/) reads and writes: Ed25519 over BLAKE2b-512 of the file,
// and over the signature and its trusted comment. libsodium does the arithmetic.
#pragma once
#include <array>
#include <string>
#include <string_view>

#include "wheel/core/bytes.h"
#include "wheel/core/result.h"

namespace clary::tool {

using KeyId = std::array<uint8_t, 8>;

struct PublicKey {
  KeyId id{};
  std::array<uint8_t, 32> key{};
  // The line that minisign -P takes, or the whole file.
  static Result<PublicKey> parse(std::string_view text);
  std::string str() const;   // that line
  std::string file() const;  // with its comment
  std::string name() const;  // the identifier, hexadecimal
  bool operator==(const PublicKey&) const = default;
};

class SecretKey {
 public:
  static SecretKey make();
  // A password is asked of nobody: it comes from the caller.
  static Result<SecretKey> parse(std::string_view file, const std::string& password);
  ~SecretKey();
  SecretKey(const SecretKey&) = default;

  std::string file(const std::string& password) const;  // empty: not encrypted
  PublicKey public_key() const;
  // The .minisig file. REQUIRES: no line end in `trusted`.
  std::string sign(std::string_view message, const std::string& trusted) const;

 private:
  SecretKey() = default;
  KeyId id_{};
  std::array<uint8_t, 64> key_{};
};

struct Signature {
  KeyId id{};
  bool prehashed = true;
  std::array<uint8_t, 64> signature{}, global{};
  std::string trusted;  // comment, covered by `global`
  static Result<Signature> parse(std::string_view file);
  std::string key_name() const;
  bool covers_comment(const PublicKey& key) const;  // says nothing about the message yet
  bool covers(std::string_view message, const PublicKey& key) const;
};

}  // namespace clary::tool
