#include "wheel/core/elf.h"

#include <algorithm>
#include <unordered_map>

namespace clary::tool {
namespace {

template <class Word>
struct Ident {
  uint8_t magic[4], klass, data, version, osabi, abi_version, pad[7];
  ul16 type, machine;
  ul32 version2;
  Word entry, segments, sections;
  ul32 flags;
  ul16 header_size, segment_size, segment_count, section_size, section_count, names;
};

struct Elf64 {
  using Word = ul64;
  using Header = Ident<ul64>;
  struct Section {
    ul32 name, type;
    ul64 flags, address, offset, size;
    ul32 link, info;
    ul64 align, entry_size;
  };
  struct Segment {
    ul32 type, flags;
    ul64 offset, address, physical, file_size, memory_size, align;
  };
  struct Symbol {
    ul32 name;
    uint8_t info, other;
    ul16 section;
    ul64 value, size;
  };
};

struct Elf32 {
  using Word = ul32;
  using Header = Ident<ul32>;
  struct Section {
    ul32 name, type, flags, address, offset, size, link, info, align, entry_size;
  };
  struct Segment {
    ul32 type, offset, address, physical, file_size, memory_size, flags, align;
  };
  struct Symbol {
    ul32 name, value, size;
    uint8_t info, other;
    ul16 section;
  };
};

struct VerNeed {
  ul16 version, count;
  ul32 file, aux, next;
};
struct VerNeedAux {
  ul32 hash;
  ul16 flags, other;
  ul32 name, next;
};
struct VerDef {
  ul16 version, flags, index, count;
  ul32 hash, aux, next;
};
struct NoteHeader {
  ul32 name_size, size, type;
};
struct GnuHash {
  ul32 buckets, first_symbol, bloom_words, bloom_shift;
};

enum : uint32_t {
  kLoad = 1,
  kDynamic = 2,
  kInterp = 3,
  kNote = 4,
  kStack = 0x6474e551,
  kRelro = 0x6474e552,
  kProperty = 0x6474e553
};
enum : uint32_t { kSectionNoBits = 8, kSectionNote = 7, kSectionDynsym = 11 };
enum : uint64_t {
  kNeeded = 1,
  kHash = 4,
  kStrTab = 5,
  kSymTab = 6,
  kStrSize = 10,
  kSoname = 14,
  kRpath = 15,
  kTextRel = 22,
  kBindNow = 24,
  kRunpath = 29,
  kFlags = 30,
  kGnuHash = 0x6ffffef5,
  kFlags1 = 0x6ffffffb,
  kVerDef = 0x6ffffffc,
  kVerDefNum = 0x6ffffffd,
  kVerNeed = 0x6ffffffe,
  kVerNeedNum = 0x6fffffff,
  kVerSym = 0x6ffffff0
};
constexpr size_t kMaxSections = 100'000, kMaxSymbols = 10'000'000, kMaxEntries = 100'000;
constexpr size_t kMaxName = 255;  // of a section, a library or a version; symbols may be longer

// What all sections, notes or names of a file may add up to. Linkers let none of them overlap; readers that visit each would
// otherwise read one hostile megabyte as often as there is room for headers.
uint64_t budget(Bytes file) { return 2 * file.size() + (64 << 10); }

}  // namespace

bool Elf::looks_like(Bytes file) {
  return file.size() >= 20 && text(file.first(4)) ==
                                  "\x7f"
                                  "ELF";
}

Result<Elf> Elf::parse(Bytes file) {
  if (!looks_like(file)) return Error{"not an ELF file", ""};
  if (file[5] != 1) return Error{"a big-endian ELF file", ""};
  Elf elf;
  elf.file_ = file;
  elf.is64 = file[4] == 2;
  if (file[4] != 1 && file[4] != 2) return Error{"an ELF file that is neither 32 nor 64 bit", ""};
  if (!(elf.is64 ? elf.read_headers<Elf64>() : elf.read_headers<Elf32>()))
    return Error{"an ELF file cut off in its header", ""};
  if (elf.machine == kMachineCuda) return elf;  // a cubin: nothing in it is bound by a dynamic loader
  elf.is64 ? elf.read_dynamic<Elf64>() : elf.read_dynamic<Elf32>();
  return elf;
}

Bytes Elf::bytes_of(const ElfSection& section) const {
  return section.type == kSectionNoBits ? Bytes{} : clip(file_, section.offset, section.size);
}

const ElfSection* Elf::section(std::string_view name) const {
  const auto found =
      std::find_if(sections.begin(), sections.end(), [&](const ElfSection& s) { return s.name == name; });
  return found == sections.end() ? nullptr : &*found;
}

std::string Elf::machine_name() const {
  switch (machine) {
    case 62:
      return is64 ? "x86_64" : "x32";
    case 183:
      return "aarch64";
    case 3:
      return "i686";
    case 40:
      return "armv7l";
    case 21:
      return "ppc64le";
    case 22:
      return "s390x";
    case 243:
      return "riscv64";
    case 258:
      return "loongarch64";
    case kMachineCuda:
      return "cuda";
    default:
      return "machine " + std::to_string(machine);
  }
}

std::optional<uint64_t> Elf::offset_of(uint64_t address) const {
  for (const Segment& s : segments_) {
    if (s.type == kLoad && address >= s.address && address - s.address < s.file_size)
      return s.offset + (address - s.address);
  }
  return std::nullopt;
}

template <class Layout>
bool Elf::read_headers() {
  const auto* header = at<typename Layout::Header>(file_, 0);
  if (!header) return false;
  osabi = header->osabi, abi_version = header->abi_version;
  type = header->type, machine = header->machine, flags = header->flags;

  uint64_t segment_count = header->segment_count, section_count = header->section_count, names = header->names;
  const auto* first = at<typename Layout::Section>(file_, header->sections);
  if (header->sections != 0 && first) {  // counts too large for 16 bits are in the null section
    if (section_count == 0) section_count = first->size;
    if (segment_count == 0xffff) segment_count = first->info;
    if (names == 0xffff) names = first->link;
  }
  if (segment_count > kMaxSections || section_count > kMaxSections) {
    faults.push_back("more segments or sections than any linker makes");
    segment_count = std::min<uint64_t>(segment_count, 64), section_count = 0;
  }
  bool torn = false;
  for (uint64_t i = 0; i < segment_count; i++) {
    const auto* s = at<typename Layout::Segment>(file_, header->segments + i * sizeof(typename Layout::Segment));
    if (!s) {
      faults.push_back("its segment table lies outside the file");
      break;
    }
    segments_.push_back({s->type, s->flags, s->offset, s->address, s->file_size});
    if (s->type == kStack) stack_executable = s->flags & 1;
    if (s->type == kRelro) relro = true;
    if (s->type == kInterp) interpreter = c_string(clip(file_, s->offset, s->file_size), 0, kMaxName);
    torn |= s->type == kLoad && !slice(file_, s->offset, s->file_size);
  }
  if (torn) faults.push_back("a segment lies outside the file: a torn download");
  tables_end = std::max<uint64_t>({sizeof(typename Layout::Header),
                                   header->segments + segment_count * sizeof(typename Layout::Segment),
                                   header->sections + section_count * sizeof(typename Layout::Section)});
  const auto* name_section =
      names < section_count
          ? at<typename Layout::Section>(file_, header->sections + names * sizeof(typename Layout::Section))
          : nullptr;
  const Bytes strings =
      header->sections != 0 && name_section ? clip(file_, name_section->offset, name_section->size) : Bytes{};
  uint64_t left = budget(file_);
  for (uint64_t i = 0; i < section_count && header->sections != 0; i++) {
    const auto* s = at<typename Layout::Section>(file_, header->sections + i * sizeof(typename Layout::Section));
    if (!s) {
      faults.push_back("its section table lies outside the file");
      break;
    }
    const uint64_t bytes = s->type == kSectionNoBits ? 0 : clip(file_, s->offset, s->size).size();
    if (bytes > left) {
      faults.push_back("its sections overlap");
      break;
    }
    left -= bytes;
    sections.push_back(
        {c_string(strings, s->name, kMaxName), s->type, s->flags, s->address, s->offset, s->size, s->entry_size});
  }
  return true;
}

template <class Layout>
void Elf::read_dynamic() {
  using Word = typename Layout::Word;
  struct Entry {
    Word tag, value;
  };
  using Symbol = typename Layout::Symbol;

  const auto segment =
      std::find_if(segments_.begin(), segments_.end(), [](const Segment& s) { return s.type == kDynamic; });
  if (segment == segments_.end()) return;
  dynamic = true;
  std::unordered_map<uint64_t, uint64_t> value;
  std::vector<uint64_t> needed_at;
  for (size_t i = 0; i < kMaxEntries && i * sizeof(Entry) < segment->file_size; i++) {
    const auto* entry = at<Entry>(file_, segment->offset + i * sizeof(Entry));
    if (!entry || entry->tag == 0) break;
    if (entry->tag == kNeeded)
      needed_at.push_back(entry->value);
    else
      value[entry->tag] = entry->value;
  }
  // Bytes from a virtual address to the end of the file.
  const auto from = [&](uint64_t tag) -> Bytes {
    if (!value.contains(tag)) return {};
    const std::optional<uint64_t> offset = offset_of(value[tag]);
    if (!offset || *offset >= file_.size()) {
      faults.push_back(format("dynamic entry 0x%llx points outside the file", static_cast<unsigned long long>(tag)));
      return {};
    }
    return file_.subspan(*offset);
  };
  StringPool strings(clip(from(kStrTab), 0, value[kStrSize]), budget(file_));
  for (uint64_t offset : needed_at) needed.push_back(strings.at(offset, kMaxName));
  if (value.contains(kSoname)) soname = strings.at(value[kSoname], kMaxName);
  if (value.contains(kRpath)) rpath = strings.at(value[kRpath]);
  if (value.contains(kRunpath)) runpath = strings.at(value[kRunpath]);
  text_relocations = value.contains(kTextRel) || (value[kFlags] & 4);
  bind_now = value.contains(kBindNow) || (value[kFlags] & 8) || (value[kFlags1] & 1);

  // Versions by index: asked of others (verneed), then offered (verdef: only the index matters here).
  std::unordered_map<uint16_t, ElfNeed> versions;
  const Bytes need_table = from(kVerNeed);
  uint64_t offset = 0;
  for (uint64_t i = 0; i < std::min<uint64_t>(value[kVerNeedNum], kMaxEntries); i++) {
    const auto* need = at<VerNeed>(need_table, offset);
    if (!need) break;
    const std::string_view library = strings.at(need->file, kMaxName);
    uint64_t aux_at = offset + need->aux;
    for (uint16_t j = 0; j < need->count; j++) {
      const auto* aux = at<VerNeedAux>(need_table, aux_at);
      if (!aux) break;
      const ElfNeed entry{library, strings.at(aux->name, kMaxName)};
      needs.push_back(entry);
      versions[static_cast<uint16_t>(aux->other & 0x7fff)] = entry;
      if (aux->next == 0) break;
      aux_at += aux->next;
    }
    if (need->next == 0) break;
    offset += need->next;
    if (needs.size() > kMaxEntries) break;
  }

  // How many symbols there are is said by the section, by DT_HASH, or by the end of the last chain of DT_GNU_HASH.
  const Bytes symbol_table = from(kSymTab);
  uint64_t symbol_count = 0;
  for (const ElfSection& s : sections) {
    if (s.type == kSectionDynsym) symbol_count = std::max(symbol_count, s.size / sizeof(Symbol));
  }
  if (const Bytes hash = from(kHash); !hash.empty()) {
    if (const auto* chains = at<ul32>(hash, 4)) symbol_count = std::max<uint64_t>(symbol_count, *chains);
  }
  if (const Bytes table = from(kGnuHash); !symbol_count && !table.empty()) {
    if (const auto* hash = at<GnuHash>(table, 0)) {
      const uint64_t buckets_at = sizeof(GnuHash) + uint64_t{hash->bloom_words} * sizeof(Word);
      const uint64_t chains_at = buckets_at + uint64_t{hash->buckets} * 4;
      uint32_t last = 0;
      for (uint64_t i = 0; i < std::min<uint64_t>(hash->buckets, kMaxSymbols); i++) {
        const auto* bucket = at<ul32>(table, buckets_at + i * 4);
        if (!bucket) break;
        last = std::max<uint32_t>(last, *bucket);
      }
      symbol_count = hash->first_symbol;
      if (last >= hash->first_symbol) {
        for (uint64_t i = last; i < kMaxSymbols; i++) {
          const auto* chain = at<ul32>(table, chains_at + (i - hash->first_symbol) * 4);
          if (!chain) break;
          symbol_count = i + 1;
          if (*chain & 1) break;
        }
      }
    }
  }
  symbol_count = std::min<uint64_t>({symbol_count, kMaxSymbols, symbol_table.size() / sizeof(Symbol)});

  const Bytes version_table = from(kVerSym);
  symbols.reserve(symbol_count);
  for (uint64_t i = 1; i < symbol_count; i++) {
    const auto* s = at<Symbol>(symbol_table, i * sizeof(Symbol));
    ElfSymbol symbol;
    symbol.name = strings.at(s->name);
    symbol.bind = s->info >> 4, symbol.type = s->info & 15;
    symbol.defined = s->section != 0;
    symbol.value = s->value, symbol.size = s->size;
    if (const auto* index = at<ul16>(version_table, i * 2)) {
      const auto found = versions.find(static_cast<uint16_t>(*index & 0x7fff));
      if (found != versions.end() && !symbol.defined)
        symbol.version = found->second.version, symbol.library = found->second.library;
    }
    symbols.push_back(symbol);
  }
  if (strings.spent) faults.push_back("its names are longer than the file");

  for (const Bytes property : notes("GNU", 5)) {  // NT_GNU_PROPERTY_TYPE_0
    for (uint64_t at_ = 0; const auto* kind = at<ul32>(property, at_);) {
      const auto *size = at<ul32>(property, at_ + 4), *data = at<ul32>(property, at_ + 8);
      if (!size) break;
      if (*kind == 0xc0008002 && data && *size >= 4) x86_isa = *data;
      const uint64_t align = is64 ? 8 : 4;
      at_ += 8 + (*size + align - 1) / align * align;
    }
  }
}

std::vector<Bytes> Elf::notes(std::string_view owner, uint32_t type_wanted) const {
  std::vector<Bytes> areas, out;
  for (const ElfSection& s : sections) {
    if (s.type == kSectionNote) areas.push_back(bytes_of(s));
  }
  if (areas.empty()) {
    for (const Segment& s : segments_) {
      if (s.type == kNote || s.type == kProperty) areas.push_back(clip(file_, s.offset, s.file_size));
    }
  }
  uint64_t left = budget(file_);
  for (const Bytes area : areas) {
    if (area.size() > left) break;
    left -= area.size();
    for (uint64_t at_ = 0; const auto* note = at<NoteHeader>(area, at_);) {
      const uint64_t name_at = at_ + sizeof *note, data_at = name_at + (uint64_t{note->name_size} + 3) / 4 * 4;
      const std::optional<Bytes> name = slice(area, name_at, note->name_size), data = slice(area, data_at, note->size);
      if (!name || !data || out.size() > kMaxEntries) break;
      if (note->type == type_wanted && c_string(*name, 0, kMaxName) == owner) out.push_back(*data);
      at_ = data_at + (uint64_t{note->size} + 3) / 4 * 4;
    }
  }
  return out;
}

}  // namespace clary::tool
