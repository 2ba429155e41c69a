// ELF and PE libraries and GPU containers, built byte by byte.
#include <lz4.h>
#include <zstd.h>

#include <algorithm>

#include "support.h"

namespace clary::tool::test {
namespace {

struct Writer {
  std::string out;
  Writer& number(uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) out += static_cast<char>(v >> (8 * i) & 0xff);
    return *this;
  }
  Writer& u8(uint64_t v) { return number(v, 1); }
  Writer& u16(uint64_t v) { return number(v, 2); }
  Writer& u32(uint64_t v) { return number(v, 4); }
  Writer& u64(uint64_t v) { return number(v, 8); }
  Writer& raw(const std::string& bytes) {
    out += bytes;
    return *this;
  }
  Writer& align(size_t to) {
    while (out.size() % to) out += '\0';
    return *this;
  }
};

struct Strtab {
  std::string out = std::string(1, '\0');
  uint32_t add(const std::string& text) {
    if (text.empty()) return 0;
    const size_t known = text.size() > 1000 ? out.find(text + '\0') : out.npos;  // a hostile name many symbols share
    const size_t at = known == out.npos ? out.size() : known;
    if (known == out.npos) out += text + '\0';
    return static_cast<uint32_t>(at);
  }
};

}  // namespace

// One PT_LOAD over the whole file with address = offset, so that an address is an offset.
std::string make_elf(const ElfSpec& spec) {
  struct Section {
    std::string name;
    uint32_t type;
    uint64_t flags, offset, size, entry;
    uint32_t link;
  };
  std::vector<Section> sections;
  Strtab strings;
  std::vector<std::pair<uint64_t, uint64_t>> dynamic;
  for (const std::string& name : spec.needed) dynamic.push_back({1, strings.add(name)});
  if (!spec.soname.empty()) dynamic.push_back({14, strings.add(spec.soname)});
  if (!spec.rpath.empty()) dynamic.push_back({15, strings.add(spec.rpath)});
  if (!spec.runpath.empty()) dynamic.push_back({29, strings.add(spec.runpath)});
  if (spec.text_relocations) dynamic.push_back({22, 0});
  if (spec.bind_now) dynamic.push_back({24, 0});

  // Version indices from 2 on, one for each (library, version).
  std::vector<std::pair<std::string, std::string>> versions;
  Writer symbols, versym;
  symbols.u32(0).u8(0).u8(0).u16(0).u64(0).u64(0);
  versym.u16(0);
  for (const SymbolSpec& s : spec.symbols) {
    symbols.u32(strings.add(s.name)).u8((s.weak ? 2 : 1) << 4 | 2).u8(0).u16(s.defined ? 1 : 0).u64(0).u64(0);
    uint64_t index = 1;
    if (!s.version.empty()) {
      auto found = std::find(versions.begin(), versions.end(), std::pair(s.library, s.version));
      if (found == versions.end()) found = versions.insert(versions.end(), {s.library, s.version});
      index = static_cast<uint64_t>(found - versions.begin()) + 2;
    }
    versym.u16(index);
  }
  std::vector<std::string> libraries;
  for (const auto& [library, version] : versions) {
    if (std::find(libraries.begin(), libraries.end(), library) == libraries.end()) libraries.push_back(library);
  }
  Writer verneed;
  for (const std::string& library : libraries) {
    std::vector<size_t> mine;
    for (size_t i = 0; i < versions.size(); i++) {
      if (versions[i].first == library) mine.push_back(i);
    }
    const bool last = library == libraries.back();
    verneed.u16(1).u16(mine.size()).u32(strings.add(library)).u32(16).u32(last ? 0 : 16 + 16 * mine.size());
    for (size_t i : mine)
      verneed.u32(0).u16(0).u16(i + 2).u32(strings.add(versions[i].second)).u32(i == mine.back() ? 0 : 16);
  }

  Writer w;
  w.out.assign(64 + 56 * 6, '\0');  // header and segments, filled in below
  const auto place = [&](const std::string& name, const std::string& content, uint32_t type, uint64_t flags,
                         uint64_t entry = 0, uint32_t link = 0) {
    w.align(16);
    sections.push_back({name, type, flags, w.out.size(), content.size(), entry, link});
    w.raw(content);
    return sections.back().offset;
  };
  place(".text", std::string(16, '\xc3'), 1, 6);
  for (const auto& [name, content] : spec.sections) place(name, content, 1, 2);
  const uint64_t strings_at = place(".dynstr", strings.out, 3, 2);
  const uint64_t symbols_at = place(".dynsym", symbols.out, 11, 2, 24);
  Writer hash;
  hash.u32(1).u32(spec.symbols.size() + 1).u32(0);
  for (size_t i = 0; i <= spec.symbols.size(); i++) hash.u32(0);
  const uint64_t hash_at = place(".hash", hash.out, 5, 2);
  uint64_t note_at = 0, note_size = 0;
  if (spec.isa) {
    Writer note;
    note.u32(4).u32(16).u32(5).raw(std::string("GNU\0", 4)).u32(0xc0008002).u32(4).u32(spec.isa).u32(0);
    note_at = place(".note.gnu.property", note.out, 7, 2), note_size = note.out.size();
  }
  dynamic.push_back({5, strings_at});
  dynamic.push_back({10, strings.out.size()});
  dynamic.push_back({6, symbols_at});
  dynamic.push_back({11, 24});
  dynamic.push_back({4, hash_at});
  if (!versions.empty()) {
    dynamic.push_back({0x6ffffff0, place(".gnu.version", versym.out, 0x6fffffff, 2, 2)});
    dynamic.push_back({0x6ffffffe, place(".gnu.version_r", verneed.out, 0x6ffffffe, 2)});
    dynamic.push_back({0x6fffffff, libraries.size()});
  }
  dynamic.push_back({0, 0});
  Writer table;
  for (const auto& [tag, value] : dynamic) table.u64(tag).u64(value);
  const uint64_t dynamic_at = place(".dynamic", table.out, 6, 3, 16);

  uint64_t sections_at = 0;
  if (spec.section_headers) {
    Strtab names;
    std::vector<uint32_t> name_at;
    for (const Section& s : sections) name_at.push_back(names.add(s.name));
    const uint32_t own = names.add(".shstrtab");
    w.align(16);
    const uint64_t names_at = w.out.size();
    w.raw(names.out).align(16);
    sections_at = w.out.size();
    w.raw(std::string(64, '\0'));
    for (size_t i = 0; i < sections.size(); i++) {
      const Section& s = sections[i];
      w.u32(name_at[i])
          .u32(s.type)
          .u64(s.flags)
          .u64(s.offset)
          .u64(s.offset)
          .u64(s.size)
          .u32(s.link)
          .u32(0)
          .u64(16)
          .u64(s.entry);
    }
    w.u32(own).u32(3).u64(0).u64(0).u64(names_at).u64(names.out.size()).u32(0).u32(0).u64(1).u64(0);
  }
  const uint64_t end = w.out.size();
  Writer head, segments;
  uint64_t count = 0;
  const auto segment = [&](uint32_t type, uint32_t flags, uint64_t at, uint64_t size) {
    segments.u32(type).u32(flags).u64(at).u64(at).u64(at).u64(size).u64(size).u64(16);
    count++;
  };
  segment(1, 5, 0, end);
  segment(2, 6, dynamic_at, table.out.size());
  segment(0x6474e551, spec.executable_stack ? 7 : 6, 0, 0);
  if (spec.relro) segment(0x6474e552, 4, dynamic_at, table.out.size());
  if (spec.isa) segment(4, 4, note_at, note_size);
  head.raw(std::string("\x7f"
                       "ELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
                       16))
      .u16(3)
      .u16(spec.machine)
      .u32(1)
      .u64(0)
      .u64(64)
      .u64(sections_at)
      .u32(0);
  head.u16(64)
      .u16(56)
      .u16(count)
      .u16(64)
      .u16(spec.section_headers ? sections.size() + 2 : 0)
      .u16(spec.section_headers ? sections.size() + 1 : 0);
  head.raw(segments.out);
  std::copy(head.out.begin(), head.out.end(), w.out.begin());
  return w.out;
}

// One section at address 0x1000 and file offset 0x400; .nv_fatb after it when asked for.
std::string make_pe(const PeSpec& spec) {
  constexpr uint32_t kAddress = 0x1000, kOffset = 0x400;
  Writer data;
  const auto here = [&] { return kAddress + static_cast<uint32_t>(data.out.size()); };
  std::vector<std::pair<uint32_t, uint32_t>> tables;  // name, lookup
  for (const auto& [dll, functions] : spec.imports) {
    std::vector<uint32_t> names;
    for (const std::string& f : functions) {
      names.push_back(here());
      data.u16(0).raw(f + '\0').align(2);
    }
    const uint32_t name = here();
    data.raw(dll + '\0').align(8);
    const uint32_t lookup = spec.one_list && !tables.empty() ? tables[0].second : here();
    for (uint32_t n : names) data.u64(n);
    data.u64(0x8000000000000007);  // one by ordinal
    data.u64(0);
    tables.push_back({name, lookup});
  }
  const uint32_t imports = here();
  for (const auto& [name, lookup] : tables) data.u32(lookup).u32(0).u32(0).u32(name).u32(lookup);
  data.raw(std::string(20, '\0'));
  std::vector<uint32_t> exported;
  for (const std::string& name : spec.exports) {
    exported.push_back(here());
    data.raw(name + '\0');
  }
  data.align(4);
  const uint32_t names = here();
  for (uint32_t at : exported) data.u32(at);
  const uint32_t exports = here();
  data.u32(0)
      .u32(0)
      .u16(0)
      .u16(0)
      .u32(names)
      .u32(1)
      .u32(exported.size())
      .u32(exported.size())
      .u32(names)
      .u32(names)
      .u32(names);
  data.align(0x200);
  const uint32_t size = static_cast<uint32_t>(data.out.size()), fatbin_at = kAddress + 0x100000;

  Writer w;
  w.raw("MZ").raw(std::string(0x3a, '\0')).u32(0x40).raw(std::string("PE\0\0", 4));
  w.u16(spec.machine).u16(spec.fatbin.empty() ? 1 : 2).u32(0).u32(0).u32(0).u16(112 + 16 * 8).u16(0x2022);
  w.u16(0x20b).raw(std::string(106, '\0')).u32(16);
  for (int i = 0; i < 16; i++) {
    if (i == 0 && !spec.exports.empty())
      w.u32(exports).u32(40);
    else if (i == 1)
      w.u32(imports).u32(20);
    else
      w.u32(0).u32(0);
  }
  w.raw(std::string(".rdata\0\0", 8))
      .u32(size)
      .u32(kAddress)
      .u32(size)
      .u32(kOffset)
      .raw(std::string(12, '\0'))
      .u32(0x40000040);
  if (!spec.fatbin.empty()) {
    w.raw(".nv_fatb")
        .u32(spec.fatbin.size())
        .u32(fatbin_at)
        .u32(spec.fatbin.size())
        .u32(kOffset + size)
        .raw(std::string(12, '\0'))
        .u32(0x40000040);
  }
  w.raw(std::string(kOffset - w.out.size(), '\0')).raw(data.out).raw(spec.fatbin);
  return w.out;
}

std::string make_cubin(const ImageSpec& spec) {
  ElfSpec elf;
  elf.machine = 190;
  elf.needed.clear();
  const std::string arch = std::to_string(spec.sm) + (spec.feature ? std::string(1, spec.feature) : "");
  elf.sections = {{".note.nv.tkinfo", "NVIDIA Corp" + std::string(1, '\0') + "ptxas\nCuda compilation tools, release " +
                                          spec.toolkit.substr(0, 4) + ", V" + spec.toolkit + "\n-arch sm_" + arch +
                                          " -m 64 " + std::string(1, '\0')},
                  {".text.k", std::string(spec.padding, '\x5a')}};
  std::string out = make_elf(elf);
  out[7] = 0x41, out[8] = 8;
  out[48] = 4, out[49] = static_cast<char>(spec.sm), out[50] = 0, out[51] = 6;  // e_flags: SM in bits 8 to 15
  return out;
}

std::string make_fatbin(const std::vector<ImageSpec>& images) {
  Writer body;
  for (const ImageSpec& i : images) {
    const std::string arch = std::to_string(i.sm) + (i.feature ? std::string(1, i.feature) : "");
    const std::string content = i.kind == 's'   ? make_cubin(i)
                                : i.kind == 'p' ? "//\n.version " + i.isa + "\n.target sm_" + arch +
                                                      "\n.address_size 64\n" + std::string(i.padding, ' ')
                                                : std::string(64, 'L');
    std::string packed = content;
    uint64_t flags = 0x11;
    if (i.feature == 'a') flags |= 0x100000;
    if (i.feature == 'f') flags |= 0x200000;
    if (i.sm >= 100 && i.kind == 's') flags |= 0x1000000;
    if (i.packing == 'l') {
      packed.resize(static_cast<size_t>(LZ4_compressBound(static_cast<int>(content.size()))));
      packed.resize(static_cast<size_t>(LZ4_compress_default(
          content.data(), packed.data(), static_cast<int>(content.size()), static_cast<int>(packed.size()))));
      flags |= 0x2000;
    } else if (i.packing == 'z') {
      packed.resize(ZSTD_compressBound(content.size()));
      packed.resize(ZSTD_compress(packed.data(), packed.size(), content.data(), content.size(), 3));
      flags |= 0x8000;
    }
    const bool raw = i.packing == 'n';
    const uint64_t packed_size = raw ? 0 : packed.size();
    while (packed.size() % 8) packed += '\0';
    const size_t dot = i.isa.find('.');
    const bool ptx = i.kind == 'p';
    body.u16(ptx             ? 1
             : i.kind == 's' ? 2
             : i.kind == 'l' ? 8
                             : 99)
        .u16(0x101)
        .u32(64)
        .u64(packed.size())
        .u32(packed_size)
        .u32(0);
    body.u16(ptx ? std::stoul(i.isa.substr(dot + 1)) : 8)
        .u16(ptx ? std::stoul(i.isa) : 1)
        .u32(static_cast<uint64_t>(i.sm))
        .u32(0)
        .u32(0)
        .u64(flags)
        .u64(0)
        .u64(raw ? 0 : content.size());
    body.raw(packed);
  }
  Writer w;
  w.u32(0xBA55ED50).u16(1).u16(16).u64(body.out.size()).raw(body.out);
  return w.out;
}

}  // namespace clary::tool::test
