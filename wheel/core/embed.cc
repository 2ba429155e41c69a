// Each row of the generated embed.inc is CLARY_EMBED(symbol, name, path of the file).
#include "wheel/core/embed.h"

#if defined(__APPLE__) || defined(_WIN32)
#error "embedding is written for ELF"
#endif

#define CLARY_EMBED(symbol, name, path)                                                                          \
  __asm__(".section .rodata\n.global clary_embed_" #symbol "\n.global clary_embed_" #symbol                      \
          "_end\n"                                                                                               \
          "clary_embed_" #symbol ":\n.incbin \"" path "\"\nclary_embed_" #symbol "_end:\n.byte 0\n.previous\n"); \
  extern "C" const char clary_embed_##symbol[], clary_embed_##symbol##_end[];
#include "embed.inc"
#undef CLARY_EMBED

namespace clary::tool {

std::span<const Embedded> embedded_files() {
  static const Embedded files[] = {
#define CLARY_EMBED(symbol, name, path) \
  {name, {clary_embed_##symbol, static_cast<size_t>(clary_embed_##symbol##_end - clary_embed_##symbol)}},
#include "embed.inc"
#undef CLARY_EMBED
  };
  return files;
}

std::string_view embedded(std::string_view name) {
  for (const Embedded& file : embedded_files()) {
    if (file.name == name) return file.text;
  }
  return {};
}

}  // namespace clary::tool
