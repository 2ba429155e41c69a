#include "wheel/core/leaks.h"

#include <algorithm>
#include <cstring>

namespace clary::tool {
namespace {

constexpr size_t kMostOfAKind = 5;

struct TokenForm {
  std::string_view prefix;
  size_t least;  // characters after it
};
constexpr TokenForm kTokens[] = {{"hf_", 30},         {"ghp_", 36},     {"gho_", 36}, {"ghs_", 36},
                                 {"github_pat_", 40}, {"pypi-AgE", 60}, {"AKIA", 16}};
constexpr std::string_view kHomes[] = {"/home/", "/root/", "/Users/"};

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

size_t find_from(std::string_view hay, std::string_view needle, size_t from) {
  if (from >= hay.size()) return hay.npos;
  const void* hit = memmem(hay.data() + from, hay.size() - from, needle.data(), needle.size());
  return hit ? static_cast<size_t>(static_cast<const char*>(hit) - hay.data()) : hay.npos;
}

// A token is random: at least ten different characters in it. "hf_aaaa..." of a test is none.
bool looks_random(std::string_view word) {
  bool seen[256] = {};
  for (char c : word) seen[static_cast<uint8_t>(c)] = true;
  return std::count(std::begin(seen), std::end(seen), true) >= 10;
}

}  // namespace

std::vector<Leak> find_leaks(Bytes bytes, bool paths) {
  const std::string_view content = text(bytes);
  std::vector<Leak> out;
  for (const TokenForm& form : kTokens) {
    size_t found = 0;
    for (size_t i = find_from(content, form.prefix, 0); i != content.npos && found < kMostOfAKind;
         i = find_from(content, form.prefix, i + 1)) {
      if (i > 0 && is_word(content[i - 1])) continue;
      size_t end = i + form.prefix.size();
      while (end < content.size() && end - i < 200 && is_word(content[end])) end++;
      const std::string_view secret = content.substr(i + form.prefix.size(), end - i - form.prefix.size());
      if (secret.size() < form.least || !looks_random(secret)) continue;
      out.push_back({Leak::kToken, std::string(form.prefix) + std::string(secret.substr(0, 4)) + "..."});
      found++;
    }
  }
  if (!paths) return out;
  std::vector<std::string> homes;
  for (std::string_view home : kHomes) {
    for (size_t i = find_from(content, home, 0); i != content.npos && homes.size() < kMostOfAKind;
         i = find_from(content, home, i + 1)) {
      if (i > 0 && (is_word(content[i - 1]) || content[i - 1] == '/' || content[i - 1] == '.')) continue;
      size_t end = i;
      while (end < content.size() && end - i < 120 &&
             (is_word(content[end]) || std::string_view("/.+@").find(content[end]) != std::string_view::npos))
        end++;
      if (end - i < home.size() + 3) continue;
      std::string path(content.substr(i, end - i));
      if (std::find(homes.begin(), homes.end(), path) == homes.end()) homes.push_back(path);
    }
  }
  for (std::string& path : homes) out.push_back({Leak::kPath, std::move(path)});
  return out;
}

}  // namespace clary::tool
