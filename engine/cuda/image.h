// The GPU code inside the library: an archive of images (tools/build_images.py), one per kernel source and target.
//
// Archive, little endian: 16 bytes of header (magic "CLARYIMG", u32 format, u32 count), `count` entries of 64 bytes (ImageEntry),
// then the images, each an LZ4 block (lz4 Block Format 1.6.3).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace clary::cuda {

enum class ImageKind : uint8_t {
  kCubin = 0,   // runs on its sm and on higher minors of the same major
  kArch = 1,    // sm_90a: on exactly this one
  kFamily = 2,  // sm_120f: as kCubin
  kPtx = 3,     // the driver compiles it for any card from this one on; its text ends with NUL
};

struct ImageEntry {
  char name[40];  // kernel source below engine/cuda/kernels without its suffix: "any/quantise"
  uint16_t sm;    // 10 * major + minor
  ImageKind kind;
  uint8_t reserved0;
  uint32_t packed_size;
  uint64_t offset;  // from the archive's first byte
  uint64_t size;    // unpacked
};
static_assert(sizeof(ImageEntry) == 64);

class Archive {
 public:
  Archive() = default;
  // The archive in `bytes`, which must outlive this; empty if it is not one, or damaged.
  explicit Archive(std::span<const uint8_t> bytes);

  std::span<const ImageEntry> entries() const { return entries_; }
  // The images of `name` a device of this capability can run, the best first: arch-specific, family, cubins by falling minor,
  // PTX by falling number. At most 8.
  struct Candidates {
    int count = 0;
    const ImageEntry* entries[8];
  };
  Candidates find(const char* name, int major, int minor) const;
  // Unpacked bytes; empty if the data is damaged.
  std::vector<char> unpack(const ImageEntry& entry) const;

 private:
  std::span<const uint8_t> bytes_;
  std::span<const ImageEntry> entries_;
};

// The archive linked into this library; empty in a build without images.
const Archive& embedded_images();

// Decodes one LZ4 block into exactly out.size() bytes. False, and never a byte read or written outside, if the data is damaged.
bool lz4_decode(std::span<const uint8_t> packed, std::span<char> out);

}  // namespace clary::cuda
