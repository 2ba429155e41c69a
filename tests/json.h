// Whether a text is one JSON value (RFC 8259), nothing more.
#pragma once
#include <cctype>
#include <cstring>
#include <string>

namespace clary::test {

class JsonReader {
 public:
  static bool valid(const std::string& text) {
    JsonReader reader{text.c_str()};
    return reader.value() && (reader.space(), *reader.at_ == 0);
  }

 private:
  explicit JsonReader(const char* text) : at_(text) {}
  void space() {
    while (*at_ && std::strchr(" \t\r\n", *at_)) at_++;
  }
  bool take(char c) {
    space();
    return *at_ == c && at_++;
  }
  bool word(const char* w) {
    const size_t n = std::strlen(w);
    return std::strncmp(at_, w, n) == 0 && (at_ += n);
  }
  bool string() {
    if (!take('"')) return false;
    for (; *at_ != '"'; at_++) {
      if (static_cast<unsigned char>(*at_) < 0x20) return false;
      if (*at_ == '\\' && !std::strchr("\"\\/bfnrtu", *++at_)) return false;
    }
    at_++;
    return true;
  }
  bool number() {
    const char* start = at_;
    if (*at_ == '-') at_++;
    while (std::isdigit(static_cast<unsigned char>(*at_)) || (*at_ && std::strchr(".eE+-", *at_))) at_++;
    return at_ > start && std::isdigit(static_cast<unsigned char>(at_[-1]));
  }
  bool list(char end, bool keys) {
    if (take(end)) return true;
    do {
      if (keys && !(string() && take(':'))) return false;
      if (!value()) return false;
    } while (take(','));
    return take(end);
  }
  bool value() {
    space();
    if (*at_ == '"') return string();
    if (take('{')) return list('}', true);
    if (take('[')) return list(']', false);
    return word("null") || word("true") || word("false") || number();
  }
  const char* at_;
};

}  // namespace clary::test
