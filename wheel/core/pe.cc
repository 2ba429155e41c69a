#include "wheel/core/pe.h"

#include <algorithm>

namespace clary::tool {
namespace {

struct CoffHeader {
  ul16 machine, sections;
  ul32 time, symbols, symbol_count;
  ul16 optional_size, characteristics;
};
struct SectionHeader {
  uint8_t name[8];
  ul32 virtual_size, address, raw_size, raw_offset, relocations, lines;
  ul16 relocation_count, line_count;
  ul32 characteristics;
};
struct Directory {
  ul32 address, size;
};
struct ImportRow {
  ul32 lookup, time, forwarder, name, thunks;
};
struct DelayRow {
  ul32 attributes, name, module, thunks, lookup, bound, unload, time;
};
struct ExportTable {
  ul32 flags, time;
  ul16 major, minor;
  ul32 name, base, functions, names, function_table, name_table, ordinals;
};

constexpr size_t kMaxRows = 10'000, kMaxSections = 96;  // Windows itself loads no more sections
constexpr size_t kMaxName = 4096;                       // of a symbol; of a DLL kMaxPath
constexpr size_t kMaxPath = 260;

struct Image {
  Bytes file;
  std::vector<SectionHeader> sections;
  bool is64 = true;
  // What is left of the names that fit into a file, whose import tables may all point to one list.
  uint64_t names_left = 2 * file.size() / sizeof(ul32) + 1024, chars_left = 2 * file.size() + (64 << 10);

  // Bytes of the file from a relative virtual address on.
  Bytes from(uint32_t address) const {
    for (const SectionHeader& s : sections) {
      if (address >= s.address && address - s.address < s.raw_size) {
        return clip(file, uint64_t{s.raw_offset} + (address - s.address), s.raw_size - (address - s.address));
      }
    }
    return {};
  }
  std::string_view string(uint32_t address, uint64_t skip, size_t most) {
    const std::string_view found = c_string(from(address), skip, std::min<uint64_t>(most, chars_left));
    chars_left -= found.size();
    return found;
  }
  std::string_view symbol(uint32_t address, uint64_t skip) {
    if (names_left) names_left--;
    return names_left ? string(address, skip, kMaxName) : std::string_view{};
  }

  std::vector<std::string_view> names(uint32_t lookup) {
    std::vector<std::string_view> out;
    const Bytes table = from(lookup);
    const uint64_t width = is64 ? 8 : 4;
    for (uint64_t i = 0; names_left; i++) {
      uint64_t value = 0;
      if (const auto* wide = at<ul64>(table, i * width); is64 && wide)
        value = *wide;
      else if (const auto* narrow = at<ul32>(table, i * width); !is64 && narrow)
        value = *narrow;
      if (!value) break;
      const bool ordinal = value >> (is64 ? 63 : 31);
      if (ordinal)
        names_left--;
      else
        out.push_back(symbol(static_cast<uint32_t>(value), 2));  // after a 2-byte hint
    }
    return out;
  }
};

}  // namespace

bool Pe::looks_like(Bytes file) {
  const auto* offset = at<ul32>(file, 0x3c);
  if (file.size() < 64 || text(file.first(2)) != "MZ" || !offset) return false;
  const std::optional<Bytes> magic = slice(file, *offset, 4);
  return magic && text(*magic) == std::string_view("PE\0\0", 4);
}

Result<Pe> Pe::parse(Bytes file) {
  if (!looks_like(file)) return Error{"not a PE file", ""};
  const uint64_t coff_at = *at<ul32>(file, 0x3c) + uint64_t{4};
  const auto* coff = at<CoffHeader>(file, coff_at);
  const uint64_t optional_at = coff_at + sizeof(CoffHeader);
  const auto* magic = at<ul16>(file, optional_at);
  if (!coff || !magic || (*magic != 0x10b && *magic != 0x20b)) return Error{"a PE file cut off in its header", ""};

  Pe pe;
  pe.machine = coff->machine == 0x8664   ? "x86_64"
               : coff->machine == 0xaa64 ? "aarch64"
               : coff->machine == 0x14c  ? "i686"
                                         : format("machine 0x%x", coff->machine + 0u);
  Image image{file, {}, *magic == 0x20b};
  if (coff->sections > kMaxSections) pe.faults.push_back("more sections than Windows loads");
  for (uint16_t i = 0; i < std::min<size_t>(coff->sections, kMaxSections); i++) {
    const auto* section = at<SectionHeader>(file, optional_at + coff->optional_size + i * sizeof(SectionHeader));
    if (!section) {
      pe.faults.push_back("its section table lies outside the file");
      break;
    }
    if (!slice(file, section->raw_offset, section->raw_size))
      pe.faults.push_back("a section lies outside the file: a torn download");
    image.sections.push_back(*section);
  }
  const uint64_t directories_at = optional_at + (image.is64 ? 112 : 96);
  const auto* how_many = at<ul32>(file, directories_at - 4);
  const auto directory = [&](uint32_t i) -> const Directory* {
    const bool there =
        how_many && i < *how_many && (i + 1) * sizeof(Directory) + (image.is64 ? 112 : 96) <= coff->optional_size;
    return there ? at<Directory>(file, directories_at + i * sizeof(Directory)) : nullptr;
  };
  if (const Directory* imports = directory(1)) {
    const Bytes table = image.from(imports->address);
    for (size_t i = 0; i < kMaxRows; i++) {
      const auto* row = at<ImportRow>(table, i * sizeof(ImportRow));
      if (!row || !row->name) break;
      pe.imports.push_back(
          {image.string(row->name, 0, kMaxPath), image.names(row->lookup ? row->lookup : row->thunks), false});
    }
  }
  if (const Directory* delayed = directory(13)) {
    const Bytes table = image.from(delayed->address);
    for (size_t i = 0; i < kMaxRows; i++) {
      const auto* row = at<DelayRow>(table, i * sizeof(DelayRow));
      if (!row || !row->name) break;
      pe.imports.push_back({image.string(row->name, 0, kMaxPath), image.names(row->lookup), true});
    }
  }
  if (const Directory* exports = directory(0)) {
    const Bytes table = image.from(exports->address);
    if (const auto* header = at<ExportTable>(table, 0)) {
      const Bytes names = image.from(header->name_table);
      for (uint32_t i = 0; i < header->names && image.names_left; i++) {
        const auto* name = at<ul32>(names, uint64_t{i} * 4);
        if (!name) break;
        pe.exports.push_back(image.symbol(*name, 0));
      }
    }
  }
  if (!image.names_left || !image.chars_left) pe.faults.push_back("its names are longer than the file");
  for (const SectionHeader& s : image.sections) {
    const std::string_view name = c_string(Bytes(s.name), 0, sizeof s.name);
    const bool fatbin = name.starts_with(".nv_fatb") || name.starts_with("__nv_rel");
    if (fatbin) read_containers(file, s.raw_offset, s.raw_size, false, pe.gpu);
  }
  return pe;
}

}  // namespace clary::tool
