#include "wheel/core/minisign.h"

#include <sodium.h>

#include <algorithm>
#include <vector>

#include "wheel/core/text.h"

namespace clary::tool {
namespace {

const bool kReady = sodium_init() >= 0;

std::string base64(std::string_view bytes) {
  std::string out(sodium_base64_ENCODED_LEN(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  out.resize(out.size() - 1);
  return out;
}

// Exactly `size` bytes, or nothing.
std::string unbase64(std::string_view text, size_t size) {
  std::string out(size + 3, '\0');
  size_t length = 0;
  const int rc = sodium_base642bin(reinterpret_cast<uint8_t*>(out.data()), out.size(), text.data(), text.size(),
                                   nullptr, &length, nullptr, sodium_base64_VARIANT_ORIGINAL);
  if (rc != 0 || length != size) return "";
  out.resize(size);
  return out;
}

template <size_t N>
void take(std::string_view& from, std::array<uint8_t, N>& to) {
  std::copy_n(from.begin(), N, to.begin());
  from.remove_prefix(N);
}

template <size_t N>
std::string_view chars(const std::array<uint8_t, N>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), N};
}

const uint8_t* octets(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

std::string hex_of(const KeyId& id) {  // as minisign prints it: the last byte first
  std::string out;
  for (auto byte = id.rbegin(); byte != id.rend(); ++byte) out += format("%02X", *byte);
  return out;
}

std::string blake2b(std::string_view message, size_t size) {
  std::string out(size, '\0');
  crypto_generichash(reinterpret_cast<uint8_t*>(out.data()), size, octets(message), message.size(), nullptr, 0);
  return out;
}

uint64_t number64(std::string_view bytes) {
  uint64_t out = 0;
  for (size_t i = 0; i < 8; i++) out |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  return out;
}

std::string little64(uint64_t v) {
  std::string out;
  for (int i = 0; i < 8; i++) out += static_cast<char>(v >> (8 * i) & 0xff);
  return out;
}

// Scrypt's stream, which hides identifier, key and checksum. Limits are in the file; ours take an eighth of minisign's GiB.
struct Limits {
  uint64_t ops = crypto_pwhash_scryptsalsa208sha256_OPSLIMIT_SENSITIVE / 8;
  uint64_t memory = crypto_pwhash_scryptsalsa208sha256_MEMLIMIT_SENSITIVE / 8;
  bool bearable() const {
    return ops <= crypto_pwhash_scryptsalsa208sha256_OPSLIMIT_SENSITIVE &&
           memory <= crypto_pwhash_scryptsalsa208sha256_MEMLIMIT_SENSITIVE;
  }
};
std::string hidden(std::string_view bytes, std::string_view salt, const std::string& password, const Limits& limits) {
  std::string out(bytes.size(), '\0');
  if (crypto_pwhash_scryptsalsa208sha256(reinterpret_cast<uint8_t*>(out.data()), out.size(), password.data(),
                                         password.size(), octets(salt), limits.ops, limits.memory) != 0)
    return "";
  for (size_t i = 0; i < out.size(); i++) out[i] = static_cast<char>(out[i] ^ bytes[i]);
  return out;
}

bool verified(std::string_view message, const std::array<uint8_t, 64>& signature, const PublicKey& key) {
  return kReady && crypto_sign_verify_detached(signature.data(), octets(message), message.size(), key.key.data()) == 0;
}

}  // namespace

Result<PublicKey> PublicKey::parse(std::string_view text) {
  PublicKey out;
  for (std::string_view line : lines(text)) {
    const std::string bytes = unbase64(trim(line), 42);
    if (!bytes.starts_with("Ed")) continue;
    std::string_view rest = std::string_view(bytes).substr(2);
    take(rest, out.id), take(rest, out.key);
    return out;
  }
  return Error{"not a minisign public key: " + printable(text.substr(0, 60)),
               "it is a line that begins with RW; clary sign --new-key NAME makes one"};
}

std::string PublicKey::str() const { return base64("Ed" + std::string(chars(id)) + std::string(chars(key))); }
std::string PublicKey::name() const { return hex_of(id); }
std::string PublicKey::file() const { return "untrusted comment: minisign public key " + name() + "\n" + str() + "\n"; }

SecretKey::~SecretKey() { sodium_memzero(key_.data(), key_.size()); }

SecretKey SecretKey::make() {
  SecretKey out;
  std::array<uint8_t, 32> unused{};
  crypto_sign_keypair(unused.data(), out.key_.data());
  randombytes_buf(out.id_.data(), out.id_.size());
  return out;
}

std::string SecretKey::file(const std::string& password) const {
  const std::string open = std::string(chars(id_)) + std::string(chars(key_));
  const std::string body = open + blake2b("Ed" + open, 32);
  std::string salt(32, '\0');
  std::string out = "Ed";
  if (password.empty()) {
    out += std::string(2, '\0') + "B2" + salt + little64(0) + little64(0) + body;
  } else {
    randombytes_buf(salt.data(), salt.size());
    out += "ScB2" + salt + little64(Limits().ops) + little64(Limits().memory) + hidden(body, salt, password, {});
  }
  return "untrusted comment: minisign " + std::string(password.empty() ? "" : "encrypted ") + "secret key\n" +
         base64(out) + "\n";
}

Result<SecretKey> SecretKey::parse(std::string_view file, const std::string& password) {
  const std::vector<std::string_view> parts = lines(file);
  const std::string bytes = parts.size() < 2 ? "" : unbase64(trim(parts[1]), 158);
  const bool known = bytes.starts_with("Ed") && bytes.compare(4, 2, "B2") == 0;
  if (!known) return Error{"not a minisign secret key", "clary sign --new-key NAME makes one"};
  const std::string salt = bytes.substr(6, 32);
  std::string body = bytes.substr(54);
  if (bytes.compare(2, 2, "Sc") == 0) {
    if (password.empty()) return Error{"the key is encrypted", "set CLARY_KEY_PASSWORD"};
    const Limits limits{number64(bytes.substr(38, 8)), number64(bytes.substr(46, 8))};
    if (!limits.bearable()) return Error{"the key's encryption has unusual limits", "write it again with minisign -C"};
    body = hidden(body, salt, password, limits);
  }
  const std::string open = body.substr(0, std::min<size_t>(body.size(), 72));
  if (body.size() != 104 || blake2b("Ed" + open, 32) != body.substr(72))
    return Error{"wrong password for this key, or it is damaged", "set CLARY_KEY_PASSWORD"};
  SecretKey out;
  std::string_view rest = open;
  take(rest, out.id_), take(rest, out.key_);
  return out;
}

PublicKey SecretKey::public_key() const {
  PublicKey out;
  out.id = id_;
  std::copy_n(key_.begin() + 32, 32, out.key.begin());
  return out;
}

std::string SecretKey::sign(std::string_view message, const std::string& trusted) const {
  const std::string digest = blake2b(message, 64);
  std::array<uint8_t, 64> signature{}, global{};
  crypto_sign_detached(signature.data(), nullptr, octets(digest), digest.size(), key_.data());
  const std::string covered = std::string(chars(signature)) + trusted;
  crypto_sign_detached(global.data(), nullptr, octets(covered), covered.size(), key_.data());
  return "untrusted comment: signature from clary, key " + hex_of(id_) + "\n" +
         base64("ED" + std::string(chars(id_)) + std::string(chars(signature))) + "\ntrusted comment: " + trusted +
         "\n" + base64(chars(global)) + "\n";
}

Result<Signature> Signature::parse(std::string_view file) {
  static constexpr std::string_view kTrusted = "trusted comment: ";
  const std::vector<std::string_view> parts = lines(file);
  const Error wrong{"not a minisign signature", "clary sign FILE --key KEY makes one"};
  if (file.size() > 10'000 || parts.size() < 4 || !parts[2].starts_with(kTrusted)) return wrong;
  const std::string first = unbase64(trim(parts[1]), 74), second = unbase64(trim(parts[3]), 64);
  if ((!first.starts_with("ED") && !first.starts_with("Ed")) || second.empty()) return wrong;
  Signature out;
  out.prehashed = first[1] == 'D';
  std::string_view rest = std::string_view(first).substr(2), last = second;
  take(rest, out.id), take(rest, out.signature), take(last, out.global);
  out.trusted = parts[2].substr(kTrusted.size());
  return out;
}

std::string Signature::key_name() const { return hex_of(id); }

bool Signature::covers_comment(const PublicKey& key) const {
  return id == key.id && verified(std::string(chars(signature)) + trusted, global, key);
}

bool Signature::covers(std::string_view message, const PublicKey& key) const {
  return covers_comment(key) && verified(prehashed ? blake2b(message, 64) : std::string(message), signature, key);
}

}  // namespace clary::tool
