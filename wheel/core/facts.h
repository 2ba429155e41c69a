// What a file is, gathered once and owned here: inspect prints it, verify judges it. Nothing points into the file, so a
// wheel's libraries are unpacked one after another and forgotten.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/gpu.h"
#include "wheel/core/metadata.h"
#include "wheel/core/symbols.h"
#include "wheel/core/tag.h"
#include "wheel/core/zip.h"
#include "wheel/ctx.h"

namespace clary::tool {

struct Import {  // an undefined symbol
  std::string name, version, library;
  bool weak = false;
  SymbolOwner owner = SymbolOwner::kOther;
};

// Of one versioned library, say GLIBC: the newest version asked for and one symbol that asks.
struct Floor {
  Version newest;
  std::string symbol;
};

struct Leak {
  enum Kind { kPath, kToken } kind;
  std::string text;  // a token is cut short
};

struct BinaryFacts {
  std::string path;     // in the wheel, or of the file
  std::string format;   // "ELF", "PE", "GPU" (a bare .cubin, .fatbin or .ptx)
  std::string machine;  // x86_64 ...
  uint64_t size = 0;
  std::string soname, rpath, runpath, interpreter;
  Strings needed;
  std::map<std::string, Floor> floors;      // GLIBC, GLIBCXX, CXXABI, GCC ...
  std::map<std::string, Strings> versions;  // asked of each library: libc.so.6 -> GLIBC_2.14, GLIBC_2.17
  Strings named_versions;                   // asked for, without a number: GLIBC_PRIVATE, CXXABI_TM_1
  std::vector<Import> imports;
  std::array<size_t, kSymbolOwners> owners{};  // imports by owner
  size_t exports = 0;
  Strings std_exports;   // of those, symbols of the C++ library
  Strings python_inits;  // PyInit_* exported
  bool text_relocations = false, bind_now = false, relro = false, stack_executable = false;
  int isa_level = 1;  // x86-64-v<n>
  std::string build_id;
  Strings compilers;  // .comment
  GpuCode gpu;
  std::vector<Leak> leaks;
  Strings faults;
};

struct MemberFacts {
  std::string name;
  uint64_t size = 0, packed = 0;
  std::string digest;  // base64 SHA-256; empty: not read
  std::string fault;   // why it could not be unpacked
  std::vector<Leak> leaks;
};

struct WheelFacts {
  std::optional<WheelName> name;
  std::string name_fault;
  std::vector<Fault> zip_faults;
  std::string dist_info;  // the folder, without the slash; empty: none, or several
  Strings dist_infos;
  bool has_metadata = false, has_wheel = false, has_record = false;
  Metadata metadata;
  std::string metadata_text;
  Headers wheel;
  std::vector<RecordRow> record;
  std::string record_fault;
  std::vector<MemberFacts> members;
  uint64_t unpacked = 0;
};

enum class FileKind { kWheel, kBinary, kUnknown };

struct FileFacts {
  std::string path;
  FileKind kind = FileKind::kUnknown;
  uint64_t size = 0;
  std::string sha256;                 // hexadecimal; only when asked for
  WheelFacts wheel;                   // of a wheel
  std::vector<BinaryFacts> binaries;  // of a wheel: all; of another file: itself
};

struct ReadOptions {
  bool digests = false;  // SHA-256 of the file and of every member, secrets looked for
  int threads = 1;
};

// An error when the file cannot be read or is nothing clary knows.
Result<FileFacts> read_facts(Ctx& ctx, const std::string& path, const ReadOptions& options);

// A search path of the loader that is beside the library itself or below: the only ones that exist on other machines.
bool below_origin(std::string_view search_path);

BinaryFacts binary_facts(Bytes file, const std::string& path, bool leaks);
bool is_binary(Bytes file);

// The oldest manylinux policy that all ELF files of these meet, and the reason it is not older; "" when none fits.
struct ManylinuxFit {
  std::string policy, why;
};
ManylinuxFit manylinux_fit(const std::vector<BinaryFacts>& binaries, const std::string& arch);

}  // namespace clary::tool
