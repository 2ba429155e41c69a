// images.bin inside the library. CLARY_IMAGES is its path; CMake rebuilds this file when it changes. Without it: no images.
#include "engine/cuda/image.h"

#ifdef CLARY_IMAGES
__asm__(
    ".pushsection .rodata.clary_images, \"a\"\n"
    ".balign 64\n"
    ".hidden clary_images_begin\n.global clary_images_begin\n"
    "clary_images_begin:\n"
    ".incbin \"" CLARY_IMAGES
    "\"\n"
    ".hidden clary_images_end\n.global clary_images_end\n"
    "clary_images_end:\n"
    ".popsection\n");
extern "C" {
[[gnu::visibility("hidden")]] extern const uint8_t clary_images_begin[];
[[gnu::visibility("hidden")]] extern const uint8_t clary_images_end[];
}
#endif

namespace clary::cuda {

const Archive& embedded_images() {
#ifdef CLARY_IMAGES
  static const Archive archive({clary_images_begin, clary_images_end});
#else
  static const Archive archive;
#endif
  return archive;
}

}  // namespace clary::cuda
