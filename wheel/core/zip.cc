#include "wheel/core/zip.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "wheel/core/text.h"
#include "wheel/core/unpack.h"

namespace clary::tool {
namespace {

struct LocalHeader {
  ul32 magic;
  ul16 needed, flags, method, time, date;
  ul32 crc, packed, size;
  ul16 name_length, extra_length;
};
struct CentralHeader {
  ul32 magic;
  ul16 made_by, needed, flags, method, time, date;
  ul32 crc, packed, size;
  ul16 name_length, extra_length, comment_length, disk, internal;
  ul32 external, offset;
};
struct EndRecord {
  ul32 magic;
  ul16 disk, directory_disk, here, total;
  ul32 size, offset;
  ul16 comment_length;
};
struct End64Locator {
  ul32 magic, disk;
  ul64 offset;
  ul32 disks;
};
struct End64Record {
  ul32 magic;
  ul64 record_size;
  ul16 made_by, needed;
  ul32 disk, directory_disk;
  ul64 here, total, size, offset;
};
struct ExtraHeader {
  ul16 id, length;
};

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator = 0x07064b50;
constexpr uint32_t kDescriptor = 0x08074b50;
constexpr uint16_t kEncrypted = 1, kHasDescriptor = 8;
constexpr uint64_t kMaxMembers = 200'000;           // ten times the largest wheel seen
constexpr uint64_t kMaxTotal = uint64_t{64} << 30;  // unpacked
constexpr uint64_t kMaxRatio = 200,
                   kRatioFrom = uint64_t{100} << 20;  // padding alone reaches the ratio in small members
constexpr uint64_t kMaxMember = uint64_t{4} << 30;    // no library is larger: code reaches 2 GiB far
constexpr size_t kMaxPath = 4096, kMaxDepth = 64;     // Linux's limit; no package nests so deep
constexpr uint64_t kMaxTotalRatio = 100, kTotalRatioFrom = uint64_t{1} << 30;

Bytes extra_field(Bytes extra, uint16_t id) {
  for (uint64_t at_ = 0; const auto* header = at<ExtraHeader>(extra, at_); at_ += 4 + header->length) {
    if (header->id == id) return clip(extra, at_ + 4, header->length);
  }
  return {};
}

// The fields a Zip64 extra holds are those whose 32-bit form is full, in this order.
bool widen(Bytes extra, uint64_t* fields[], int n) {
  const Bytes wide = extra_field(extra, 1);
  uint64_t offset = 0;
  for (int i = 0; i < n; i++) {
    if (*fields[i] != 0xffffffff) continue;
    const auto* value = at<ul64>(wide, offset);
    if (!value) return false;
    *fields[i] = *value;
    offset += 8;
  }
  return true;
}

// The last end record whose comment reaches exactly to the end of the file, or else the last one at all.
const EndRecord* find_end(Bytes file, uint64_t* offset) {
  const EndRecord* best = nullptr;
  const uint64_t reach = sizeof(EndRecord) + 65535;
  const uint64_t first = file.size() > reach ? file.size() - reach : 0;
  for (uint64_t i = file.size() - std::min<uint64_t>(file.size(), sizeof(EndRecord)) + 1; i-- > first;) {
    const auto* end = at<EndRecord>(file, i);
    if (!end || end->magic != kEnd) continue;
    const bool exact = i + sizeof(EndRecord) + end->comment_length == file.size();
    if (exact || !best) best = end, *offset = i;
    if (exact) return best;
  }
  return best;
}

}  // namespace

void Zip::fault(const char* rule, std::string_view where, std::string text) {
  faults_.push_back({rule, std::string(where), std::move(text)});
}

Zip Zip::open(Bytes file) {
  Zip zip;
  zip.file_ = file;
  if (!zip.read_directory()) return zip;
  // From here on every member's name lies inside the directory, and the directory inside the file.
  for (ZipMember& member : zip.members_) zip.check_local(member);
  // From here on `data` and `packed` of a member with data != 0 describe bytes of the file.
  zip.check_names();
  zip.check_layout();
  zip.check_sizes();
  return zip;
}

bool Zip::read_directory() {
  uint64_t end_at = 0;
  const EndRecord* end = find_end(file_, &end_at);
  if (!end) {
    fault("W3.structure", "", "no end-of-central-directory record: not a zip archive, or a torn download");
    return false;
  }
  uint64_t total = end->total, size = end->size, offset = end->offset;
  tail_ = end_at;
  if (const auto* locator = at<End64Locator>(file_, end_at - std::min<uint64_t>(end_at, sizeof(End64Locator)));
      locator && locator->magic == kLocator) {
    const auto* wide = at<End64Record>(file_, locator->offset);
    if (!wide || wide->magic != kEnd64) {
      fault("W3.structure", "", "the Zip64 end record is not where its locator says");
      return false;
    }
    const bool same = (total == 0xffff || total == wide->total) && (size == 0xffffffff || size == wide->size) &&
                      (offset == 0xffffffff || offset == wide->offset);
    if (!same) fault("W3.structure", "", "the Zip64 end record and the end record disagree");
    total = wide->total, size = wide->size, offset = wide->offset;
    tail_ = locator->offset;
  }
  if (end->disk != 0 || end->directory_disk != 0) fault("W3.structure", "", "the archive spans several disks");
  if (end_at + sizeof(EndRecord) + end->comment_length < file_.size()) {
    fault("W3.trailing", "",
          count(file_.size() - end_at - sizeof(EndRecord) - end->comment_length, "byte") +
              " after the end of the archive");
  }
  if (end->comment_length) fault("W3.comment", "", count(end->comment_length, "byte") + " of archive comment");

  const std::optional<Bytes> directory = slice(file_, offset, size);
  if (!directory || total > kMaxMembers) {
    fault("W3.structure", "",
          directory ? format("%llu members", static_cast<unsigned long long>(total))
                    : "the central directory lies outside the file: a torn download");
    return false;
  }
  directory_ = offset, directory_size_ = size;
  uint64_t at_ = 0;
  while (const auto* header = at<CentralHeader>(*directory, at_)) {
    const std::optional<Bytes> name = slice(*directory, at_ + sizeof *header, header->name_length);
    const std::optional<Bytes> extra =
        slice(*directory, at_ + sizeof *header + header->name_length, header->extra_length);
    if (header->magic != kCentral || !name || !extra) break;
    ZipMember m;
    m.name = text(*name);
    m.method = header->method, m.flags = header->flags, m.crc = header->crc;
    m.packed = header->packed, m.size = header->size, m.header = header->offset;
    uint64_t* wide[] = {&m.size, &m.packed, &m.header};
    if (!widen(*extra, wide, 3)) fault("W3.structure", m.name, "its Zip64 field is too short");
    if (header->made_by >> 8 == 3) m.mode = header->external >> 16;
    members_.push_back(m);
    at_ += sizeof *header + header->name_length + header->extra_length + header->comment_length;
  }
  if (at_ != size || members_.size() != total) {
    fault("W3.structure", "",
          format("the central directory holds %zu members, its end record says %llu", members_.size(),
                 static_cast<unsigned long long>(total)));
  }
  return true;
}

void Zip::check_local(ZipMember& m) {
  const auto* local = at<LocalHeader>(file_, m.header);
  if (!local || local->magic != kLocal) return fault("W3.local", m.name, "no local header where the directory points");
  const uint64_t name_at = m.header + sizeof *local;
  const std::optional<Bytes> name = slice(file_, name_at, local->name_length);
  const std::optional<Bytes> extra = slice(file_, name_at + local->name_length, local->extra_length);
  const uint64_t data = name_at + local->name_length + local->extra_length;
  if (!name || !extra || !slice(file_, data, m.packed))
    return fault("W3.local", m.name, "its data lies outside the file");

  if (text(*name) != m.name) fault("W3.local", m.name, "its local header calls it `" + printable(text(*name)) + "`");
  if (!extra_field(*extra, 0x7075).empty()) fault("W3.local", m.name, "a second name hides in its Unicode path field");
  if (local->method != m.method || ((local->flags ^ m.flags) & (kEncrypted | kHasDescriptor))) {
    fault("W3.local", m.name, "its local header has another method or other flags");
  }
  uint64_t size = local->size, packed = local->packed;
  uint64_t* wide[] = {&size, &packed};
  widen(*extra, wide, 2);
  const bool later = m.flags & kHasDescriptor;  // then zeros here and the truth after the data
  const auto differs = [&](uint64_t here, uint64_t there) { return here != there && !(later && here == 0); };
  if (differs(local->crc, m.crc) || differs(size, m.size) || differs(packed, m.packed)) {
    fault("W3.local", m.name, "its local header has another size or CRC");
  }
  m.data = data;
  uint64_t end = data + m.packed;
  if (later) {  // [magic] crc packed size, sizes 4 or 8 bytes each
    const auto* magic = at<ul32>(file_, end);
    const uint64_t at_ = end + (magic && *magic == kDescriptor ? 4 : 0);
    const auto* crc = at<ul32>(file_, at_);
    const auto *packed4 = at<ul32>(file_, at_ + 4), *size4 = at<ul32>(file_, at_ + 8);
    const auto *packed8 = at<ul64>(file_, at_ + 4), *size8 = at<ul64>(file_, at_ + 12);
    if (crc && *crc == m.crc && packed4 && size4 && *packed4 == m.packed && *size4 == m.size)
      end = at_ + 12;
    else if (crc && *crc == m.crc && packed8 && size8 && *packed8 == m.packed && *size8 == m.size)
      end = at_ + 20;
    else
      fault("W3.local", m.name, "its data descriptor disagrees with the directory");
  }
  extents_.push_back({m.header, end});
}

void Zip::check_names() {
  std::unordered_map<std::string, std::string_view> seen, folded;
  std::unordered_set<std::string_view> dirs;
  for (const ZipMember& m : members_) {
    const std::string_view name = m.name;
    const std::string_view path = m.is_dir() ? name.substr(0, name.size() - 1) : name;
    if (path.empty()) fault("W3.name", name, "an empty name");
    if (name.starts_with('/') || (name.size() > 1 && name[1] == ':')) fault("W3.absolute", name, "an absolute path");
    const std::vector<std::string_view> parts = split(path, '/');
    if (path.size() > kMaxPath || parts.size() > kMaxDepth) {
      fault("W3.name", printable(name.substr(0, 100)),
            format("%zu characters, %zu folders deep", path.size(), parts.size()));
      continue;
    }
    bool leaves = false, odd = false;
    for (std::string_view part : parts) {
      leaves |= part == "..";
      odd |= part == "." || part.ends_with('.') || part.ends_with(' ');
      odd |= part.empty() && !name.starts_with('/');
    }
    if (leaves) fault("W3.traversal", name, "leaves the folder it is unpacked to");
    const bool control =
        std::any_of(name.begin(), name.end(), [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; });
    if (name.find('\\') != name.npos) fault("W3.name", name, "a backslash: a separator on Windows");
    if (control || !is_utf8(name)) fault("W3.name", name, "control characters or bytes that are no UTF-8");
    if (odd && !leaves) fault("W3.name", name, "an empty part, or one that ends in a dot or a space");

    const uint32_t kind = m.mode & 0170000;
    if (kind == 0120000)
      fault("W3.link", name, "a symbolic link");
    else if (kind && kind != 0100000 && kind != 0040000)
      fault("W3.link", name, "a device, pipe or socket");
    if (m.flags & kEncrypted) fault("W3.method", name, "encrypted");
    if (m.method != 0 && m.method != 8)
      fault("W3.method", name, format("compression method %u; a wheel is stored or deflated", m.method));

    if (!seen.emplace(std::string(path), name).second) {
      fault("W3.duplicate", name, "two members of this name: readers differ in which one they take");
    } else if (const auto [other, fresh] = folded.emplace(lower(path), name); !fresh) {
      fault("W3.case", name, "differs from `" + printable(other->second) + "` in case only");
    }
    for (size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1))
      dirs.insert(path.substr(0, slash));
  }
  for (const ZipMember& m : members_) {
    if (!m.is_dir() && dirs.contains(m.name)) fault("W3.duplicate", m.name, "a file and a folder of this name");
  }
}

void Zip::check_layout() {
  std::sort(extents_.begin(), extents_.end());
  uint64_t end = 0;
  bool gap = false, overlap = false;
  for (const auto& [first, last] : extents_) {
    if (first > end && end == 0)
      fault("W3.prefix", "", count(first, "byte") + " before the first member: another kind of file in front");
    else if (first > end)
      gap = true;
    overlap |= first < end;
    end = std::max(end, last);
  }
  if (overlap || end > directory_) fault("W3.overlap", "", "members overlap each other or the directory");
  if (gap || (end < directory_ && extents_.size() == members_.size()) || directory_ + directory_size_ != tail_) {
    fault("W3.gap", "", "bytes between members, or after the last, that belong to none");
  }
}

void Zip::check_sizes() {
  uint64_t total = 0;
  for (const ZipMember& m : members_) {
    total += std::min(m.size, kMaxTotal + 1);
    if (m.method == 0 && m.size != m.packed) fault("W3.local", m.name, "stored, yet its two sizes differ");
    if (m.size > kMaxMember) {
      fault("W3.bomb", m.name, human_bytes(m.size) + ", more than any library has");
    } else if (m.size > kRatioFrom && m.size / kMaxRatio > m.packed) {
      fault("W3.bomb", m.name, human_bytes(m.size) + " from " + human_bytes(m.packed));
    }
  }
  if (total > kMaxTotal || (total > kTotalRatioFrom && total / kMaxTotalRatio > file_.size())) {
    fault("W3.bomb", "", human_bytes(total) + " in all from " + human_bytes(file_.size()));
  }
}

const ZipMember* Zip::find(std::string_view name) const {
  for (const ZipMember& m : members_) {
    if (m.name == name) return &m;
  }
  return nullptr;
}

Result<Buffer> Zip::read(const ZipMember& m) const {
  if (!m.data) return Error{"no readable data", ""};
  if (m.size > kMaxMember) return Error{"too large: " + human_bytes(m.size), ""};
  const std::optional<Bytes> packed = slice(file_, m.data, m.packed);
  if (!packed || (m.flags & kEncrypted) || (m.method != 0 && m.method != 8)) return Error{"no readable data", ""};
  Result<Buffer> out = Error{};
  if (m.method == 8) {
    out = inflate_raw(*packed, m.size);
  } else if (m.size == m.packed) {
    Buffer copy(m.size);
    if (copy.size() != m.size) return Error{"no memory for " + human_bytes(m.size), ""};
    std::copy(packed->begin(), packed->end(), copy.data());
    out = std::move(copy);
  } else {
    return Error{"its sizes disagree", ""};
  }
  if (out && crc32_of(out->bytes()) != m.crc) return Error{"its CRC is wrong", ""};
  return out;
}

}  // namespace clary::tool
