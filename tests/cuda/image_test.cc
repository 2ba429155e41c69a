// The archive of images: the decoder against damage, the choice of an image, and what this build embeds.
#include "engine/cuda/image.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

namespace clary::cuda {
namespace {

std::string decode(const std::vector<uint8_t>& packed, size_t size) {
  std::vector<char> out(size);
  return lz4_decode(packed, out) ? std::string(out.begin(), out.end()) : "damaged";
}

TEST(Lz4, Decodes) {
  EXPECT_EQ(decode({0x00}, 0), "");
  EXPECT_EQ(decode({0x50, 'h', 'e', 'l', 'l', 'o'}, 5), "hello");
  // 1 literal, match of 4 + 3 one byte back, then 5 literals
  EXPECT_EQ(decode({0x13, 'a', 1, 0, 0x50, 'b', 'c', 'd', 'e', 'f'}, 13), "aaaaaaaabcdef");
  // lengths past 15 on both sides
  std::vector<uint8_t> packed = {0xff, 5};
  for (int i = 0; i < 20; i++) packed.push_back(static_cast<uint8_t>('a' + i));
  packed.insert(packed.end(), {20, 0, 255, 1, 0x00});
  EXPECT_EQ(decode(packed, 20 + 275).size(), 295u);
}

TEST(Lz4, RefusesDamage) {
  EXPECT_EQ(decode({}, 0), "damaged");
  EXPECT_EQ(decode({0x50, 'h'}, 5), "damaged");                      // literals missing
  EXPECT_EQ(decode({0x50, 'h', 'e', 'l', 'l', 'o'}, 4), "damaged");  // too many
  EXPECT_EQ(decode({0x50, 'h', 'e', 'l', 'l', 'o'}, 6), "damaged");  // too few
  EXPECT_EQ(decode({0x10, 'a', 2, 0, 0x00}, 5), "damaged");          // before the beginning
  EXPECT_EQ(decode({0x10, 'a', 0, 0, 0x00}, 5), "damaged");          // offset 0
  EXPECT_EQ(decode({0x1f, 'a', 1, 0, 255, 255}, 100), "damaged");
  EXPECT_EQ(decode({0x10, 'a', 1}, 5), "damaged");  // half an offset
}

TEST(Lz4, NoInputReachesOutside) {
  std::mt19937 random(7);
  for (int i = 0; i < 200000; i++) {
    std::vector<uint8_t> packed(random() % 24);
    for (uint8_t& b : packed) b = static_cast<uint8_t>(random() % 4 ? random() % 24 : random());
    std::vector<char> out(random() % 48);
    (void)lz4_decode(packed, out);  // address sanitizer watches
  }
}

struct Made {
  std::vector<uint64_t> words;  // aligned
  size_t size = 0;
  std::span<const uint8_t> view() const { return {reinterpret_cast<const uint8_t*>(words.data()), size}; }
};
Made make(std::vector<std::pair<int, ImageKind>> images) {
  std::string s = "CLARYIMG";
  const uint32_t head[2] = {1, static_cast<uint32_t>(images.size())};
  s.append(reinterpret_cast<const char*>(head), 8);
  const uint64_t data = s.size() + images.size() * sizeof(ImageEntry);
  for (const auto& [sm, kind] : images) {
    ImageEntry e = {};
    std::strcpy(e.name, "any/thing");
    e.sm = static_cast<uint16_t>(sm);
    e.kind = kind;
    e.packed_size = 6;
    e.offset = data;
    e.size = 5;
    s.append(reinterpret_cast<const char*>(&e), sizeof e);
  }
  s.append("\x50hello");
  Made made{std::vector<uint64_t>(s.size() / 8 + 1), s.size()};
  std::memcpy(made.words.data(), s.data(), s.size());
  return made;
}

std::string chosen(const Archive& archive, int major, int minor) {
  std::string text;
  const Archive::Candidates c = archive.find("any/thing", major, minor);
  for (int i = 0; i < c.count; i++)
    text += std::to_string(c.entries[i]->sm) + "cafp"[static_cast<int>(c.entries[i]->kind)] + ' ';
  return text;
}

TEST(Archive, ChoosesTheBestFirst) {
  using enum ImageKind;
  const Made made = make(
      {{75, kCubin}, {80, kCubin}, {89, kCubin}, {90, kCubin}, {90, kArch}, {120, kFamily}, {75, kPtx}, {80, kPtx}});
  const Archive archive(made.view());
  EXPECT_EQ(chosen(archive, 7, 0), "");
  EXPECT_EQ(chosen(archive, 7, 5), "75c 75p ");
  EXPECT_EQ(chosen(archive, 8, 0), "80c 80p 75p ");
  EXPECT_EQ(chosen(archive, 8, 6), "80c 80p 75p ");
  EXPECT_EQ(chosen(archive, 8, 9), "89c 80c 80p 75p ");
  EXPECT_EQ(chosen(archive, 9, 0), "90a 90c 80p 75p ");
  EXPECT_EQ(chosen(archive, 10, 0), "80p 75p ");
  EXPECT_EQ(chosen(archive, 12, 1), "120f 80p 75p ");
  EXPECT_EQ(archive.find("any/other", 9, 0).count, 0);
  const std::vector<char> code = archive.unpack(archive.entries()[0]);
  EXPECT_EQ(std::string(code.begin(), code.end()), "hello");
}

TEST(Archive, RefusesDamage) {
  Made made = make({{90, ImageKind::kCubin}});
  EXPECT_EQ(Archive(made.view()).entries().size(), 1u);
  EXPECT_EQ(Archive(made.view().first(15)).entries().size(), 0u);
  EXPECT_EQ(Archive(made.view().first(60)).entries().size(), 0u);
  EXPECT_EQ(Archive(made.view().first(made.size - 1)).entries().size(), 0u);
  made.words[0] ^= 1;
  EXPECT_EQ(Archive(made.view()).entries().size(), 0u);
}

TEST(Embedded, EveryImageUnpacksToWhatItSays) {
  const Archive& archive = embedded_images();
  ASSERT_FALSE(archive.entries().empty());
  for (const ImageEntry& e : archive.entries()) {
    const std::vector<char> code = archive.unpack(e);
    ASSERT_EQ(code.size(), e.size) << e.name << ' ' << e.sm;
    if (e.kind == ImageKind::kPtx) {
      EXPECT_EQ(code.back(), 0);
      EXPECT_NE(std::string(code.data()).find(".version"), std::string::npos);
    } else {
      EXPECT_EQ(std::memcmp(code.data(),
                            "\x7f"
                            "ELF",
                            4),
                0);
    }
  }
}

TEST(Embedded, CoversEveryCardSinceTuring) {
  for (const int sm : {75, 80, 86, 87, 89, 90, 100, 103, 120, 121}) {
    const Archive::Candidates c = embedded_images().find("any/quantise", sm / 10, sm % 10);
    ASSERT_GE(c.count, 2) << sm;
    EXPECT_NE(c.entries[0]->kind, ImageKind::kPtx) << sm;
    EXPECT_EQ(c.entries[c.count - 1]->kind, ImageKind::kPtx) << sm;
  }
  for (const int sm : {110, 130})
    EXPECT_EQ(embedded_images().find("any/quantise", sm / 10, sm % 10).entries[0]->kind, ImageKind::kPtx);
}

}  // namespace
}  // namespace clary::cuda
