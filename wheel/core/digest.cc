#include "wheel/core/digest.h"

#include <openssl/evp.h>

namespace clary::tool {

Sha256 sha256_of(Bytes bytes) {
  Sha256 out{};
  EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, EVP_sha256(), nullptr);
  return out;
}

Sha256Stream::Sha256Stream() : state_(EVP_MD_CTX_new(), [](void* p) { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(p)); }) {
  EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(state_.get()), EVP_sha256(), nullptr);
}

void Sha256Stream::add(std::string_view piece) {
  EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(state_.get()), piece.data(), piece.size());
}

Sha256 Sha256Stream::finish() {
  Sha256 out{};
  EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(state_.get()), out.data(), nullptr);
  return out;
}

std::string hex(const Sha256& digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (uint8_t byte : digest) out += kDigits[byte >> 4], out += kDigits[byte & 15];
  return out;
}

std::string base64url(const Sha256& digest) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  for (uint8_t byte : digest) {
    bits = bits << 8 | byte;
    for (have += 8; have >= 6; have -= 6) out += kDigits[bits >> (have - 6) & 63];
  }
  if (have) out += kDigits[bits << (6 - have) & 63];
  return out;
}

}  // namespace clary::tool
