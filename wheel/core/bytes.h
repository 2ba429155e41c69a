// Bytes of a file nobody trusts: on-disk integers, and views that cannot leave the file.
//
// A format's structs are made of ul16, ul32 and ul64 (little-endian, no alignment), so that `at<Header>(file, offset)` is
// either a pointer to the whole struct or null. No reader below does arithmetic on a raw pointer.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string_view>

namespace clary::tool {

using Bytes = std::span<const uint8_t>;

template <class T>
struct Little {
  uint8_t byte[sizeof(T)];
  operator T() const {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); i++) value = static_cast<T>(value | static_cast<T>(byte[i]) << (8 * i));
    return value;
  }
};
using ul16 = Little<uint16_t>;
using ul32 = Little<uint32_t>;
using ul64 = Little<uint64_t>;

// Bytes [offset, offset + length), if the file has them all.
inline std::optional<Bytes> slice(Bytes file, uint64_t offset, uint64_t length) {
  if (offset > file.size() || length > file.size() - offset) return std::nullopt;
  return file.subspan(offset, length);
}

// As many of them as the file has.
inline Bytes clip(Bytes file, uint64_t offset, uint64_t length) {
  if (offset >= file.size()) return {};
  return file.subspan(offset, std::min<uint64_t>(length, file.size() - offset));
}

template <class T>
const T* at(Bytes file, uint64_t offset) {
  static_assert(alignof(T) == 1);
  std::optional<Bytes> bytes = slice(file, offset, sizeof(T));
  return bytes ? reinterpret_cast<const T*>(bytes->data()) : nullptr;
}

inline std::string_view text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline Bytes bytes_of(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

// The NUL-terminated string at `offset`; `most` bytes of it, or up to the end, where there is no NUL.
inline std::string_view c_string(Bytes file, uint64_t offset, size_t most) {
  const std::string_view rest = text(clip(file, offset, most));
  return rest.substr(0, rest.find('\0'));
}

// Strings of a table, where many may begin at one place: a hostile table of one long string, asked for n times, would be
// copied n times. All of them together may be as long as `total`; after that every one is empty and `spent` is true.
class StringPool {
 public:
  StringPool(Bytes table, uint64_t total) : table_(table), left_(total) {}
  std::string_view at(uint64_t offset, size_t most = 64 << 10) {
    if (spent) return {};
    const std::string_view found = c_string(table_, offset, most);
    spent = found.size() > left_;
    if (spent) return {};
    left_ -= found.size();
    return found;
  }
  bool spent = false;

 private:
  Bytes table_;
  uint64_t left_;
};

// Memory that is not zeroed first: what an archive member is unpacked into. Empty where there is not so much of it.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size) : data_(new (std::nothrow) uint8_t[size]), size_(data_ ? size : 0) {}
  uint8_t* data() { return data_.get(); }
  size_t size() const { return size_; }
  void shrink(size_t size) { size_ = std::min(size, size_); }
  Bytes bytes() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  size_t size_ = 0;
};

}  // namespace clary::tool
