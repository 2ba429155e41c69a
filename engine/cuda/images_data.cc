// images.bin inside the library. CLARY_IMAGES is its path; CMake rebuilds this file when it changes. Without it: no images.
#include "engine/cuda/image.h"

#ifdef CLARY_IMAGES
__asm__(
    ".pushsection .rodata.clary_images, \"a\"\n"
    ".balign 64\n"
    ".hidden kImagesBegin\n.global kImagesBegin\n"
    "kImagesBegin:\n"
    ".incbin \"" CLARY_IMAGES
    "\"\n"
    ".hidden kImagesEnd\n.global kImagesEnd\n"
    "kImagesEnd:\n"
    ".popsection\n");
extern "C" {
[[gnu::visibility("hidden")]] extern const uint8_t kImagesBegin[];
[[gnu::visibility("hidden")]] extern const uint8_t kImagesEnd[];
}
#endif

namespace clary::cuda {

const Archive& embedded_images() {
#ifdef CLARY_IMAGES
  static const Archive archive({kImagesBegin, kImagesEnd});
#else
  static const Archive archive;
#endif
  return archive;
}

}  // namespace clary::cuda
