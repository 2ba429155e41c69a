// The GPU code inside a file: fatbin containers and bare cubins, read without a GPU, a driver or NVIDIA's tools.
//
// A container (magic 0xBA55ED50) holds the images of one translation unit, one entry each: PTX or SASS (a cubin), plain,
// LZ4 or Zstandard. The entry's flags alone tell `a` and `f` code from plain; NVIDIA's own lister prints 120f as sm_120.
// The layout is not published; wheel_gpu_test checks every field against cuobjdump where that is installed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "wheel/core/arch.h"
#include "wheel/core/bytes.h"
#include "wheel/core/elf.h"

namespace clary::tool {

enum class ImageKind : uint8_t { kSass, kPtx, kLto, kOther };
enum class Packing : uint8_t { kNone, kLz4, kZstd, kOther };
const char* kind_name(ImageKind kind);      // "SASS"
const char* packing_name(Packing packing);  // "zstd"

struct GpuImage {
  ImageKind kind = ImageKind::kOther;
  Packing packing = Packing::kNone;
  Arch arch;
  std::string isa;      // of PTX: "9.0"
  std::string toolkit;  // "13.0.88"; empty: the image does not say
  uint64_t stored = 0;  // bytes in the file
  uint64_t size = 0;    // unpacked
  uint64_t offset = 0;  // of the stored bytes in the file
  uint32_t container = 0;
  bool bare = false;  // a cubin or PTX by itself, in no container
  std::string name() const { return kind == ImageKind::kSass ? arch.sass() : arch.ptx(); }
};

struct GpuCode {
  std::vector<GpuImage> images;
  uint32_t containers = 0;  // translation units with GPU code (a bare cubin counts as one)
  uint64_t area = 0;        // bytes of the containers
  Strings faults;
  bool empty() const { return images.empty() && faults.empty(); }
};

// Of a .fatbin, .cubin or .ptx file; empty when it is none of them.
GpuCode gpu_code_of_file(Bytes file);
// Of a host library: its fatbin sections, and containers and cubins lying in other data sections.
GpuCode gpu_code_of_elf(const Elf& elf);
// Of one stretch of a file: `area` begins at `offset` of it. `strict`: nothing but containers and zeros may be there.
void read_containers(Bytes file, uint64_t offset, uint64_t size, bool strict, GpuCode& to);

// One image unpacked, as the driver would; at most `limit` bytes.
Result<Buffer> unpack(Bytes file, const GpuImage& image, uint64_t limit = uint64_t{1} << 30);

}  // namespace clary::tool
