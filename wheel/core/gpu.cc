#include "wheel/core/gpu.h"

#include <algorithm>
#include <cstring>

#include "wheel/core/unpack.h"

namespace clary::tool {
namespace {

struct ContainerHeader {
  ul32 magic;
  ul16 version, header_size;
  ul64 body_size;
};
struct EntryHeader {
  ul16 kind, version;
  ul32 header_size;
  ul64 padded_size;
  ul32 packed_size, options;
  ul16 minor, major;
  ul32 arch, name, name_size;
  ul64 flags, reserved, size;
};
static_assert(sizeof(ContainerHeader) == 16 && sizeof(EntryHeader) == 64);

constexpr uint32_t kMagic = 0xBA55ED50;
enum : uint64_t {
  kFlagLz4 = 0x2000,
  kFlagZstd = 0x8000,
  kFlagPacked = 0x1000 | kFlagLz4 | kFlagZstd,
  kFlagSpecific = 0x100000,
  kFlagFamily = 0x200000
};
constexpr uint64_t kMaxImage = uint64_t{4} << 30;
constexpr size_t kMaxFaults = 20;

bool is_container(Bytes file, uint64_t offset) {
  const auto* header = at<ContainerHeader>(file, offset);
  return header && header->magic == kMagic && header->version == 1 && header->header_size >= 16 &&
         header->header_size <= 64;
}

void fault(GpuCode& to, uint64_t offset, const std::string& text) {
  if (to.faults.size() < kMaxFaults)
    to.faults.push_back(format("at 0x%llx: ", static_cast<unsigned long long>(offset)) + text);
}

// "Cuda compilation tools, release 13.0, V13.0.88": in a cubin's .note.nv.tkinfo and in PTX's first comment.
std::string toolkit_in(std::string_view content) {
  const size_t marker = content.find("Cuda compilation tools, release ");
  if (marker == content.npos) return "";
  const std::string_view line = content.substr(marker, 80);
  const size_t v = line.find(", V");
  if (v == line.npos) return "";
  const size_t end = line.find_first_not_of("0123456789.", v + 3);
  return std::string(line.substr(v + 3, end == line.npos ? line.npos : end - v - 3));
}

// The note comes after the string and symbol tables: a first look suffices for all but the largest images. No compiler's
// output packs better than 1:256, so that small hostile images do not cost megabytes each.
std::string toolkit_of(Bytes stored, Packing packing, uint64_t size) {
  for (uint64_t limit : {uint64_t{16} << 10, uint64_t{512} << 10, uint64_t{8} << 20}) {
    if (limit / 256 > stored.size() + 64) break;
    std::string found;
    if (packing == Packing::kNone)
      found = toolkit_in(text(clip(stored, 0, limit)));
    else if (packing == Packing::kLz4)
      found = toolkit_in(text(peek_lz4(stored, size, limit).bytes()));
    else if (packing == Packing::kZstd)
      found = toolkit_in(text(peek_zstd(stored, size, limit).bytes()));
    if (!found.empty() || limit >= size) return found;
  }
  return "";
}

GpuImage read_entry(Bytes file, uint64_t offset, const EntryHeader& entry, uint32_t container) {
  GpuImage image;
  image.container = container;
  image.kind = entry.kind == 1   ? ImageKind::kPtx
               : entry.kind == 2 ? ImageKind::kSass
               : entry.kind == 8 ? ImageKind::kLto
                                 : ImageKind::kOther;
  image.packing = !(entry.flags & kFlagPacked) ? Packing::kNone
                  : entry.flags & kFlagZstd    ? Packing::kZstd
                  : entry.flags & kFlagLz4     ? Packing::kLz4
                                               : Packing::kOther;
  image.arch.sm = static_cast<int>(std::min<uint32_t>(entry.arch, 9999));
  image.arch.feature = entry.flags & kFlagSpecific ? 'a' : entry.flags & kFlagFamily ? 'f' : 0;
  if (image.kind == ImageKind::kPtx) image.isa = format("%u.%u", entry.major + 0u, entry.minor + 0u);
  image.offset = offset + entry.header_size;
  image.stored = image.packing == Packing::kNone ? entry.padded_size : entry.packed_size;
  image.size = image.packing == Packing::kNone ? entry.padded_size : entry.size;
  if (image.kind == ImageKind::kSass || image.kind == ImageKind::kPtx) {
    image.toolkit = toolkit_of(clip(file, image.offset, image.stored), image.packing, image.size);
  }
  return image;
}

// Reads the container at `offset`; returns its size, or 0 when its header makes no sense.
uint64_t read_container(Bytes file, uint64_t offset, uint64_t limit, GpuCode& to) {
  const auto* header = at<ContainerHeader>(file, offset);
  const uint64_t body = offset + header->header_size;
  if (header->body_size > limit - std::min<uint64_t>(limit, body)) {
    fault(to, offset, "a container reaches past its section");
    return 0;
  }
  const uint64_t end = body + header->body_size;
  const uint32_t container = to.containers++;
  to.area += end - offset;
  for (uint64_t i = body; i < end;) {
    const auto* entry = at<EntryHeader>(file, i);
    const bool fits = entry && end - i >= sizeof *entry && entry->header_size >= sizeof *entry &&
                      entry->header_size <= end - i && entry->padded_size <= end - i - entry->header_size &&
                      entry->packed_size <= entry->padded_size;
    if (!fits) {
      fault(to, i, "an entry reaches past its container");
      break;
    }
    if (entry->kind != 0) to.images.push_back(read_entry(file, i, *entry, container));
    const GpuImage* image = entry->kind ? &to.images.back() : nullptr;
    if (image && image->kind == ImageKind::kOther)
      fault(to, i, format("an entry of unknown kind %u", entry->kind + 0u));
    if (image && image->packing == Packing::kOther) fault(to, i, "an entry packed in an unknown way");
    if (image && image->kind == ImageKind::kSass && image->packing == Packing::kNone &&
        !Elf::looks_like(clip(file, image->offset, 64))) {
      fault(to, i, "an entry that says it is a cubin and is none");
    }
    if (image && image->size > kMaxImage) fault(to, i, "an image that claims " + human_bytes(image->size));
    i += entry->header_size + entry->padded_size;
  }
  return end - offset;
}

bool is_cubin(Bytes file, uint64_t offset) {
  const auto* machine = at<ul16>(file, offset + 18);
  return machine && *machine == kMachineCuda && Elf::looks_like(file.subspan(offset));
}

uint64_t extent_of(const Elf& elf) {
  uint64_t end = elf.tables_end;
  for (const ElfSection& s : elf.sections) {
    if (s.type != 8) end = std::max(end, s.offset + std::min(s.size, kMaxImage));
  }
  return std::min<uint64_t>(end, elf.file().size());
}

void read_cubin(Bytes file, uint64_t offset, GpuCode& to) {
  const Result<Elf> elf = Elf::parse(file.subspan(offset));
  if (!elf) return fault(to, offset, elf.error().message);
  GpuImage image;
  image.kind = ImageKind::kSass;
  image.container = to.containers++;
  image.bare = true;
  image.offset = offset;
  image.stored = image.size = extent_of(*elf);
  // Where the SM number is moved in CUDA 13's format, which another OS/ABI byte marks.
  image.arch.sm = static_cast<int>(elf->osabi == 0x41 ? elf->flags >> 8 & 0xff : elf->flags & 0xff);
  if (elf->osabi != 0x41 && (elf->flags & 0x800)) image.arch.feature = 'a';
  const ElfSection* note = elf->section(".note.nv.tkinfo");
  const std::string_view said = note ? text(elf->bytes_of(*note)) : std::string_view{};
  image.toolkit = toolkit_in(said);
  if (const size_t at_ = said.find("-arch sm_");
      at_ != said.npos) {  // the only place that tells 90a from 90 and 120f from 120a
    const std::string_view word =
        said.substr(at_ + 9, said.find_first_of(std::string_view(" \0", 2), at_ + 9) - at_ - 9);
    if (const std::optional<Arch> arch = Arch::parse(word)) image.arch = *arch;
  }
  to.area += image.stored;
  to.images.push_back(image);
}

void read_ptx(Bytes file, GpuCode& to) {
  const std::string_view content = text(file);
  const auto directive = [&](std::string_view name) {
    const size_t at_ = content.find(name);
    if (at_ == content.npos) return std::string();
    const std::string_view rest = trim(content.substr(at_ + name.size(), 40));
    return std::string(rest.substr(0, rest.find_first_of(" ,\r\n\t")));
  };
  const std::string target = directive(".target");
  const std::optional<Arch> arch = target.starts_with("sm_") ? Arch::parse(target.substr(3)) : std::nullopt;
  if (!arch) return;
  GpuImage image;
  image.kind = ImageKind::kPtx;
  image.arch = *arch;
  if (const std::string isa = directive(".version"); isa.find_first_not_of("0123456789.") == isa.npos) image.isa = isa;
  image.toolkit = toolkit_in(content);
  image.stored = image.size = file.size();
  image.container = to.containers++;
  image.bare = true;
  to.area += file.size();
  to.images.push_back(image);
}

}  // namespace

const char* kind_name(ImageKind kind) {
  static constexpr const char* kNames[] = {"SASS", "PTX", "LTO-IR", "unknown"};
  return kNames[static_cast<int>(kind)];
}

const char* packing_name(Packing packing) {
  static constexpr const char* kNames[] = {"none", "lz4", "zstd", "unknown"};
  return kNames[static_cast<int>(packing)];
}

void read_containers(Bytes file, uint64_t offset, uint64_t size, bool strict, GpuCode& to) {
  const uint64_t end = offset + clip(file, offset, size).size();
  bool strange = false;
  for (uint64_t i = offset; i + 16 <= end;) {
    if (is_container(file, i)) {
      const uint64_t length = read_container(file, i, end, to);
      strange = strange || !length;  // one fault for one lie
      i += length ? (length + 7) / 8 * 8 : 8;
    } else if (!strict && is_cubin(file, i)) {
      read_cubin(file, i, to);
      const uint64_t stored = to.images.empty() ? 0 : to.images.back().stored;  // 0: of headers that lie
      i += std::max<uint64_t>(8, (stored + 7) / 8 * 8);
    } else {
      uint64_t word;
      std::memcpy(&word, file.data() + i, 8);
      if (strict && word && !strange) strange = true, fault(to, i, "bytes that belong to no container");
      i += 8;
    }
  }
}

GpuCode gpu_code_of_elf(const Elf& elf) {
  GpuCode out;
  for (const ElfSection& s : elf.sections) {
    if (s.type == 8 || s.size < 16) continue;
    const bool fatbin = s.name.starts_with(".nv_fatbin") || s.name.starts_with("__nv_relfatbin");
    const bool data = s.type == 1 && (s.flags & 2) && !(s.flags & 4);  // allocated, not code
    if (fatbin)
      read_containers(elf.file(), s.offset, s.size, true, out);
    else if (data && s.name != ".nvFatBinSegment" && s.name != ".eh_frame")
      read_containers(elf.file(), (s.offset + 7) / 8 * 8, s.size, false, out);
  }
  return out;
}

GpuCode gpu_code_of_file(Bytes file) {
  GpuCode out;
  if (is_container(file, 0))
    read_containers(file, 0, file.size(), true, out);
  else if (is_cubin(file, 0))
    read_cubin(file, 0, out);
  else if (const std::string_view head = text(clip(file, 0, 4096));
           head.find(".version") != head.npos && head.find(".target") != head.npos)
    read_ptx(file, out);
  return out;
}

Result<Buffer> unpack(Bytes file, const GpuImage& image, uint64_t limit) {
  const std::optional<Bytes> stored = slice(file, image.offset, image.stored);
  if (!stored || image.size > limit) return Error{"an image out of bounds", ""};
  if (image.packing == Packing::kLz4) return unpack_lz4(*stored, image.size);
  if (image.packing == Packing::kZstd) return unpack_zstd(*stored, image.size);
  Buffer out(image.stored);
  if (out.size() != image.stored) return Error{"no memory for " + human_bytes(image.stored), ""};
  std::copy(stored->begin(), stored->end(), out.data());
  return out;
}

}  // namespace clary::tool
