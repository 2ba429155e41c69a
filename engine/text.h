// Text into a caller's buffer that may be too small or null: what fits is written, what is needed is counted, as snprintf does.
#pragma once
#include <cstdarg>
#include <cstddef>
#include <cstdio>

namespace clary {

class Text {
 public:
  Text(char* buffer, size_t capacity) : buffer_(buffer), capacity_(capacity) {}
  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    const size_t used = static_cast<size_t>(length_) < capacity_ ? static_cast<size_t>(length_) : capacity_;
    std::va_list args;
    va_start(args, format);
    length_ += std::vsnprintf(buffer_ ? buffer_ + used : nullptr, capacity_ - used, format, args);
    va_end(args);
  }
  int length() const { return length_; }  // of all of it, without the final NUL

 private:
  char* buffer_;
  size_t capacity_;
  int length_ = 0;
};

// A text as the inside of a JSON string, cut where it does not fit.
class Escaped {
 public:
  explicit Escaped(const char* text) {
    size_t n = 0;
    for (; *text && n + 7 < sizeof text_; text++) {
      const unsigned char c = static_cast<unsigned char>(*text);
      if (c == '"' || c == '\\') {
        text_[n++] = '\\';
        text_[n++] = *text;
      } else if (c < 0x20) {
        n += static_cast<size_t>(std::snprintf(text_ + n, sizeof text_ - n, "\\u%04x", c));
      } else {
        text_[n++] = *text;
      }
    }
    text_[n] = 0;
  }
  const char* c_str() const { return text_; }

 private:
  char text_[512];
};

}  // namespace clary
