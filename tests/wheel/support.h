// What the wheel tool's tests share: files built byte by byte (zip archives, ELF and PE libraries, GPU containers, whole
// wheels), good by default and broken on request; commands run in a world in memory; snapshots; other programs as oracles.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "wheel/command.h"
#include "wheel/os/memory.h"

namespace clary::tool::test {

// ---- zip ----------------------------------------------------------------------------------------------------------------

struct ZipFile {
  std::string name, content;
  uint16_t method = 8;
  uint32_t mode = 0100644;
  uint16_t flags = 0;
  // Lies; empty or negative: the truth.
  std::string local_name{};
  int64_t local_size = -1, local_crc = -1, central_size = -1, central_crc = -1, central_offset = -1;
  bool damage = false;  // flip a byte of the packed data
};

struct ZipSpec {
  std::vector<ZipFile> files;
  std::string prefix, gap, trailing, comment;  // gap: before the central directory
  int count_delta = 0;                         // of the end record
  bool zip64 = false;
};
std::string make_zip(const ZipSpec& spec);

// ---- libraries ----------------------------------------------------------------------------------------------------------

struct SymbolSpec {
  std::string name;
  std::string version{}, library{};  // of an undefined one
  bool defined = false, weak = false;
};

struct ElfSpec {
  std::string soname, rpath, runpath;
  std::vector<std::string> needed = {"libc.so.6"};
  std::vector<SymbolSpec> symbols;
  std::vector<std::pair<std::string, std::string>> sections;  // name, content: allocated data
  uint16_t machine = 62;
  bool executable_stack = false, text_relocations = false, relro = true, bind_now = false;
  bool section_headers = true;
  uint32_t isa = 0;  // of the GNU property; 0: no note
};
std::string make_elf(const ElfSpec& spec);

struct PeSpec {
  std::vector<std::pair<std::string, std::vector<std::string>>> imports;  // DLL, functions
  std::vector<std::string> exports;
  uint16_t machine = 0x8664;
  std::string fatbin;     // content of .nv_fatb
  bool one_list = false;  // a lie: every DLL's functions are the first one's
};
std::string make_pe(const PeSpec& spec);

// ---- GPU code -----------------------------------------------------------------------------------------------------------

struct ImageSpec {
  char kind = 's';  // s: SASS, p: PTX, l: LTO-IR, x: unknown
  int sm = 80;
  char feature = 0;    // 'a', 'f'
  char packing = 'n';  // n: none, l: LZ4, z: Zstandard
  std::string toolkit = "12.9.86", isa = "8.8";
  size_t padding = 0;  // bytes of code
};
std::string make_cubin(const ImageSpec& spec);
std::string make_fatbin(const std::vector<ImageSpec>& images);  // one container

// ---- wheels -------------------------------------------------------------------------------------------------------------

struct WheelSpec {
  std::string name = "demo", version = "1.0", tag = "cp312-cp312-linux_x86_64";
  std::vector<std::string> metadata;  // more lines of METADATA
  std::vector<std::pair<std::string, std::string>> files = {{"demo/__init__.py", "x = 1\n"}};
  std::vector<std::pair<std::string, std::string>>
      replace;                      // of dist-info: METADATA, WHEEL, RECORD; empty content: left out
  std::vector<ZipFile> unrecorded;  // in the archive, not in RECORD
  ZipSpec zip;                      // its files are ignored, its lies are not
  std::string file_name() const { return name + "-" + version + "-" + tag + ".whl"; }
};
std::string make_wheel(const WheelSpec& spec);
// A module as a build makes it: exports PyInit__C, asks libc for GLIBC_2.17.
ElfSpec module_spec();

// ---- commands and snapshots ---------------------------------------------------------------------------------------------

// Everything a command said and did, as one text.
std::string transcript(MemoryWorld& world, const Strings& args);
// Compares with tests/wheel/snapshots/<name>.txt; CLARY_UPDATE_SNAPSHOTS=1 writes it.
void expect_snapshot(const std::string& name, const std::string& text);

// ---- files on the disk --------------------------------------------------------------------------------------------------

// In one folder that goes when the program ends.
std::string fresh_folder(const std::string& name);                           // empty; its path
std::string temp_file(const std::string& name, const std::string& content);  // its path

// ---- other programs -----------------------------------------------------------------------------------------------------

// What `program` prints; skips the running test when it is not there. The Python oracle has the packaging library:
// CLARY_TEST_PYTHON, .venv/bin/python or python3.
std::string oracle_python(const std::string& script, const std::string& input);
std::string run_program(const Strings& argv);
// The processes whose numbers are in the file, one a line, are gone within 20 s; false: killed now.
bool processes_end(const std::string& file);

// Every prefix of a small file, and `flips` single-byte changes spread over it: what a reader must survive.
void for_each_damage(const std::string& good, size_t flips, const std::function<void(const std::string&)>& see);

}  // namespace clary::tool::test
