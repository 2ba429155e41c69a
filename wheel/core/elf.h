// An ELF file as the dynamic loader sees it: a view over the file's bytes, nothing copied, every offset checked.
// 32 and 64 bit, little-endian; gABI and the GNU extensions (symbol versions, hash tables, RELRO, properties).
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/bytes.h"
#include "wheel/core/result.h"
#include "wheel/core/text.h"

namespace clary::tool {

struct ElfSection {
  std::string_view name;
  uint32_t type = 0;
  uint64_t flags = 0, address = 0, offset = 0, size = 0, entry_size = 0;
};

struct ElfSymbol {
  std::string_view name;
  std::string_view version, library;  // GLIBC_2.17 of libc.so.6; empty: unversioned
  uint8_t bind = 0, type = 0;
  bool defined = false;
  uint64_t value = 0, size = 0;
};

struct ElfNeed {
  std::string_view library, version;
};

class Elf {
 public:
  static bool looks_like(Bytes file);
  static Result<Elf> parse(Bytes file);

  bool is64 = false;
  uint8_t osabi = 0, abi_version = 0;
  uint16_t type = 0, machine = 0;
  uint32_t flags = 0;

  uint64_t tables_end = 0;  // where the header, segment and section tables end
  std::vector<ElfSection> sections;
  std::vector<std::string_view> needed;
  std::string_view soname, rpath, runpath, interpreter;
  std::vector<ElfNeed> needs;      // versions asked of libraries
  std::vector<ElfSymbol> symbols;  // dynamic ones, without the null symbol
  bool dynamic = false;            // there is a dynamic segment
  bool text_relocations = false, bind_now = false, relro = false;
  bool stack_executable = false;
  uint32_t x86_isa = 0;  // bits of GNU_PROPERTY_X86_ISA_1_NEEDED: 1 baseline, 2 v2, 4 v3, 8 v4
  Strings faults;        // what could not be read, in words

  Bytes bytes_of(const ElfSection& section) const;
  const ElfSection* section(std::string_view name) const;
  std::string machine_name() const;  // as in wheel tags: x86_64, aarch64, i686; else "machine 190"
  Bytes file() const { return file_; }
  // Names and contents of the notes of every note section and segment that has this owner and type.
  std::vector<Bytes> notes(std::string_view owner, uint32_t type) const;

 private:
  struct Segment {
    uint32_t type, flags;
    uint64_t offset, address, file_size;
  };
  template <class Layout>
  bool read_headers();
  template <class Layout>
  void read_dynamic();
  std::optional<uint64_t> offset_of(uint64_t address) const;

  Bytes file_;
  std::vector<Segment> segments_;
};

constexpr uint16_t kMachineCuda = 190;

}  // namespace clary::tool
