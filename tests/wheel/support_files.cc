// Zip archives and wheels, built byte by byte.
#include <zlib.h>

#include <algorithm>

#include "support.h"
#include "wheel/core/digest.h"

namespace clary::tool::test {
namespace {

struct Writer {
  std::string out;
  Writer& u16(uint64_t v) { return number(v, 2); }
  Writer& u32(uint64_t v) { return number(v, 4); }
  Writer& u64(uint64_t v) { return number(v, 8); }
  Writer& raw(const std::string& bytes) {
    out += bytes;
    return *this;
  }
  Writer& number(uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) out += static_cast<char>(v >> (8 * i) & 0xff);
    return *this;
  }
};

std::string deflated(const std::string& content) {
  std::string out(compressBound(content.size()) + 16, '\0');
  z_stream z{};
  deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  z.avail_in = static_cast<uInt>(content.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

uint64_t or_else(int64_t lie, uint64_t truth) { return lie < 0 ? truth : static_cast<uint64_t>(lie); }

}  // namespace

std::string make_zip(const ZipSpec& spec) {
  Writer w, directory;
  w.raw(spec.prefix);
  for (const ZipFile& f : spec.files) {
    std::string packed = f.method == 8 ? deflated(f.content) : f.content;
    if (f.damage && !packed.empty()) packed[packed.size() / 2] = static_cast<char>(packed[packed.size() / 2] ^ 0x55);
    const uint32_t crc = static_cast<uint32_t>(
        crc32(0, reinterpret_cast<const Bytef*>(f.content.data()), static_cast<uInt>(f.content.size())));
    const size_t offset = w.out.size();
    const std::string local_name = f.local_name.empty() ? f.name : f.local_name;
    const bool later = f.flags & 8;  // sizes and CRC follow the data
    w.u32(0x04034b50).u16(20).u16(f.flags).u16(f.method).u16(0).u16(0x21);
    w.u32(later ? 0 : or_else(f.local_crc, crc))
        .u32(later ? 0 : packed.size())
        .u32(later ? 0 : or_else(f.local_size, f.content.size()));
    w.u16(local_name.size()).u16(0).raw(local_name).raw(packed);
    if (later)
      w.u32(0x08074b50).u32(or_else(f.local_crc, crc)).u32(packed.size()).u32(or_else(f.local_size, f.content.size()));
    directory.u32(0x02014b50).u16(3 << 8 | 20).u16(20).u16(f.flags).u16(f.method).u16(0).u16(0x21);
    directory.u32(or_else(f.central_crc, crc)).u32(packed.size()).u32(or_else(f.central_size, f.content.size()));
    directory.u16(f.name.size())
        .u16(0)
        .u16(0)
        .u16(0)
        .u16(0)
        .u32(uint64_t{f.mode} << 16)
        .u32(or_else(f.central_offset, offset))
        .raw(f.name);
  }
  w.raw(spec.gap);
  const size_t at = w.out.size(), n = spec.files.size() + static_cast<size_t>(spec.count_delta);
  w.raw(directory.out);
  if (spec.zip64) {
    const size_t end64 = w.out.size();
    w.u32(0x06064b50).u64(44).u16(45).u16(45).u32(0).u32(0).u64(n).u64(n).u64(directory.out.size()).u64(at);
    w.u32(0x07064b50).u32(0).u64(end64).u32(1);
    w.u32(0x06054b50).u16(0).u16(0).u16(0xffff).u16(0xffff).u32(0xffffffff).u32(0xffffffff);
  } else {
    w.u32(0x06054b50).u16(0).u16(0).u16(n).u16(n).u32(directory.out.size()).u32(at);
  }
  w.u16(spec.comment.size()).raw(spec.comment).raw(spec.trailing);
  return w.out;
}

std::string make_wheel(const WheelSpec& spec) {
  const std::string info = spec.name + "-" + spec.version + ".dist-info/";
  std::vector<std::pair<std::string, std::string>> files = spec.files;
  std::string metadata = "Metadata-Version: 2.1\nName: " + spec.name + "\nVersion: " + spec.version + "\n";
  for (const std::string& line : spec.metadata) metadata += line + "\n";
  std::string wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: " +
                      std::string(spec.tag.ends_with("any") ? "true" : "false") + "\n";
  const std::vector<std::string_view> parts = split(spec.tag, '-');
  for (std::string_view platform : split(parts[2], '.')) {
    wheel += "Tag: " + std::string(parts[0]) + "-" + std::string(parts[1]) + "-" + std::string(platform) + "\n";
  }
  files.push_back({info + "METADATA", metadata});
  files.push_back({info + "WHEEL", wheel});
  std::string record;
  const auto replaced = [&](const std::string& name) {
    return std::find_if(spec.replace.begin(), spec.replace.end(),
                        [&](const auto& r) { return info + r.first == name; });
  };
  for (auto& [name, content] : files) {
    if (const auto r = replaced(name); r != spec.replace.end()) content = r->second;
    if (content.empty() && name.starts_with(info)) continue;
    record += name + ",sha256=" + base64url(sha256_of(bytes_of(content))) + "," + std::to_string(content.size()) + "\n";
  }
  record += info + "RECORD,,\n";
  files.push_back({info + "RECORD", record});
  if (const auto r = replaced(info + "RECORD"); r != spec.replace.end())
    files.back().second = r->second == "+" ? record : r->second;

  ZipSpec zip = spec.zip;
  zip.files.clear();
  for (const auto& [name, content] : files) {
    if (content.empty() && name.starts_with(info)) continue;
    zip.files.push_back({.name = name, .content = content});
  }
  for (const ZipFile& file : spec.unrecorded) zip.files.push_back(file);
  return make_zip(zip);
}

ElfSpec module_spec() {
  ElfSpec spec;
  spec.symbols = {{.name = "PyInit__C", .defined = true},
                  {.name = "memcpy", .version = "GLIBC_2.14", .library = "libc.so.6"},
                  {.name = "PyModule_Create2"}};
  return spec;
}

}  // namespace clary::tool::test
