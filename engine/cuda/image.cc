// Reading the archive of images.
#include "engine/cuda/image.h"

#include <algorithm>
#include <cstring>

namespace clary::cuda {
namespace {

constexpr uint32_t kFormat = 1;
constexpr size_t kHeaderSize = 16;

// How well an image suits a device; 0: it cannot run there.
int suits(const ImageEntry& e, int major, int minor) {
  const int sm = major * 10 + minor;
  const bool same_major = e.sm / 10 == major && e.sm <= sm;
  switch (e.kind) {
    case ImageKind::kArch:
      return e.sm == sm ? 4000 : 0;
    case ImageKind::kFamily:
      return same_major ? 3000 + e.sm : 0;
    case ImageKind::kCubin:
      return same_major ? 2000 + e.sm : 0;
    case ImageKind::kPtx:
      return e.sm <= sm ? 1 + e.sm : 0;
  }
  return 0;
}

}  // namespace

Archive::Archive(std::span<const uint8_t> bytes) {
  uint32_t head[2];  // format, count
  if (bytes.size() < kHeaderSize || std::memcmp(bytes.data(), "CLARYIMG", 8) != 0) return;
  std::memcpy(head, bytes.data() + 8, sizeof head);
  if (head[0] != kFormat || head[1] > (bytes.size() - kHeaderSize) / sizeof(ImageEntry)) return;
  const std::span entries(reinterpret_cast<const ImageEntry*>(bytes.data() + kHeaderSize), head[1]);
  for (const ImageEntry& e : entries)
    if (e.offset > bytes.size() || e.packed_size > bytes.size() - e.offset || e.size > (64u << 20) ||
        !std::memchr(e.name, 0, sizeof e.name))
      return;
  bytes_ = bytes;
  entries_ = entries;
}

Archive::Candidates Archive::find(const char* name, int major, int minor) const {
  Candidates found;
  for (const ImageEntry& e : entries_) {
    const int rank = std::strcmp(e.name, name) == 0 ? suits(e, major, minor) : 0;
    if (!rank) continue;
    int at = std::min<int>(found.count, std::size(found.entries) - 1);
    if (at < found.count && suits(*found.entries[at], major, minor) >= rank) continue;
    for (; at > 0 && suits(*found.entries[at - 1], major, minor) < rank; at--)
      found.entries[at] = found.entries[at - 1];
    found.entries[at] = &e;
    found.count = std::min<int>(found.count + 1, std::size(found.entries));
  }
  return found;
}

std::vector<char> Archive::unpack(const ImageEntry& entry) const {
  std::vector<char> out(entry.size);
  if (!lz4_decode(bytes_.subspan(entry.offset, entry.packed_size), out)) out.clear();
  return out;
}

bool lz4_decode(std::span<const uint8_t> packed, std::span<char> out) {
  const uint8_t *in = packed.data(), *const in_end = in + packed.size();
  char *to = out.data(), *const to_end = to + out.size();
  // A length of 15 in the token goes on in bytes, up to one below 255.
  const auto extend = [&](size_t length) {
    uint8_t byte = 255;
    if (length == 15)
      while (byte == 255 && in < in_end) length += byte = *in++;
    return length;
  };
  while (in < in_end) {
    const uint8_t token = *in++;
    const size_t literals = extend(token >> 4);
    if (literals > static_cast<size_t>(in_end - in) || literals > static_cast<size_t>(to_end - to)) return false;
    if (literals) std::memcpy(to, in, literals);
    in += literals;
    to += literals;
    if (in == in_end) return to == to_end;  // the last sequence has no match
    if (in_end - in < 2) return false;
    const size_t offset = in[0] | static_cast<size_t>(in[1]) << 8;
    in += 2;
    const size_t length = extend(token & 15) + 4;
    if (offset == 0 || offset > static_cast<size_t>(to - out.data()) || length > static_cast<size_t>(to_end - to))
      return false;
    for (size_t i = 0; i < length; i++) to[i] = to[i - offset];  // may overlap: a repeated pattern
    to += length;
  }
  return false;
}

}  // namespace clary::cuda
