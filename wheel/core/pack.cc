#include "wheel/core/pack.h"

#include <zlib.h>

#include <algorithm>
#include <climits>
#include <set>

#include "wheel/core/digest.h"
#include "wheel/core/requirement.h"
#include "wheel/core/unpack.h"

namespace clary::tool {
namespace {

constexpr uint16_t kDate1980 = 0x0021;  // 1 January
constexpr uint16_t kMadeByUnix = 3 << 8 | 20;
constexpr uint16_t kUtf8Names = 0x0800;

class Writer {
 public:
  template <class T>
  void put(T value) {
    for (size_t i = 0; i < sizeof(T); i++) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  }
  std::string bytes;
};

Result<std::string> deflate_raw(const std::string& content) {
  z_stream z{};
  if (deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) != Z_OK) return Error{"zlib cannot start", ""};
  std::string out(deflateBound(&z, content.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  z.avail_in = static_cast<uInt>(content.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  const int rc = deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  if (rc != Z_STREAM_END) return Error{"zlib cannot pack", ""};
  return out;
}

bool plain_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// A field of RECORD's CSV.
std::string csv(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  return "\"" + replace_all(text, "\"", "\"\"") + "\"";
}

// The header lines of METADATA or WHEEL, `edit`ed one by one (empty result: dropped), and `more` after them; the body stays.
template <class Edit>
std::string edit_headers(std::string_view content, const Edit& edit, const std::string& more) {
  std::string head, body;
  bool in_head = true;
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min(content.find('\n', at), content.size() - 1) + 1;
    const std::string line(content.substr(at, end - at));
    if (in_head && trim(line).empty()) in_head = false;
    if (in_head)
      head += edit(line);
    else
      body += line;
    at = end;
  }
  if (!head.empty() && !head.ends_with('\n')) head += '\n';
  return head + more + body;
}

std::string new_metadata(std::string_view content, const Version& version, const Strings& require) {
  std::set<std::string> replaced;
  std::string more;
  for (const std::string& text : require) {
    if (const Result<Requirement> r = Requirement::parse(text)) replaced.insert(normal_name(r->name));
    more += "Requires-Dist: " + text + "\n";
  }
  const auto edit = [&](const std::string& line) -> std::string {
    if (starts_with_nocase(line, "Version:")) return "Version: " + version.str() + "\n";
    if (!starts_with_nocase(line, "Requires-Dist:")) return line;
    const Result<Requirement> r = Requirement::parse(trim(std::string_view(line).substr(14)));
    const bool old = r && r->marker_text.empty() && replaced.contains(normal_name(r->name));
    return old ? "" : line;
  };
  return edit_headers(content, edit, more);
}

std::string new_wheel_file(std::string_view content, const std::vector<Tag>& tags) {
  std::string more;
  for (const Tag& tag : tags) more += "Tag: " + tag.str() + "\n";
  return edit_headers(
      content, [](const std::string& line) { return starts_with_nocase(line, "Tag:") ? std::string() : line; }, more);
}

}  // namespace

Result<std::string> pack_zip(const std::vector<NewMember>& members) {
  Writer out, directory;
  if (members.size() > 0xfffe) return Error{"too many files for a wheel: " + thousands(members.size()), ""};
  for (const NewMember& m : members) {
    if (m.content.size() >= UINT_MAX || out.bytes.size() >= UINT_MAX)
      return Error{"too large for a wheel: " + printable(m.name), "leave out GPU architectures, or split the package"};
    Result<std::string> packed = deflate_raw(m.content);
    if (!packed) return packed.error();
    const bool stored = packed->size() >= m.content.size();
    const std::string& data = stored ? m.content : *packed;
    const auto offset = static_cast<uint32_t>(out.bytes.size());
    Writer common;  // of the local header and of the directory
    common.put<uint16_t>(20);
    common.put<uint16_t>(plain_ascii(m.name) ? 0 : kUtf8Names);
    common.put<uint16_t>(stored ? 0 : 8);
    common.put<uint16_t>(0);
    common.put<uint16_t>(kDate1980);
    common.put<uint32_t>(crc32_of(bytes_of(m.content)));
    common.put<uint32_t>(static_cast<uint32_t>(data.size()));
    common.put<uint32_t>(static_cast<uint32_t>(m.content.size()));
    common.put<uint16_t>(static_cast<uint16_t>(m.name.size()));
    common.put<uint16_t>(0);
    out.put<uint32_t>(0x04034b50);
    out.bytes += common.bytes + m.name + data;
    directory.put<uint32_t>(0x02014b50);
    directory.put<uint16_t>(kMadeByUnix);
    directory.bytes += common.bytes;
    directory.put<uint16_t>(0);  // comment
    directory.put<uint16_t>(0);  // disk
    directory.put<uint16_t>(0);
    directory.put<uint32_t>((m.executable ? 0100755u : 0100644u) << 16);
    directory.put<uint32_t>(offset);
    directory.bytes += m.name;
  }
  const size_t start = out.bytes.size(), size = directory.bytes.size();
  if (start + size >= UINT_MAX) return Error{"too large for a wheel: " + human_bytes(start + size), ""};
  out.bytes += directory.bytes;
  out.put<uint32_t>(0x06054b50);
  out.put<uint32_t>(0);
  out.put<uint16_t>(static_cast<uint16_t>(members.size()));
  out.put<uint16_t>(static_cast<uint16_t>(members.size()));
  out.put<uint32_t>(static_cast<uint32_t>(size));
  out.put<uint32_t>(static_cast<uint32_t>(start));
  out.put<uint16_t>(0);
  return out.bytes;
}

Result<std::string> pack_wheel(std::vector<NewMember> members, const std::string& dist_info) {
  const std::string prefix = dist_info + "/";
  std::sort(members.begin(), members.end(), [&](const NewMember& a, const NewMember& b) {
    const bool late_a = a.name.starts_with(prefix), late_b = b.name.starts_with(prefix);
    return late_a != late_b ? late_b : a.name < b.name;
  });
  std::string record;
  for (const NewMember& m : members) {
    record += csv(m.name) + ",sha256=" + base64url(sha256_of(bytes_of(m.content))) + "," +
              std::to_string(m.content.size()) + "\n";
  }
  const std::string name = prefix + "RECORD";
  members.push_back({name, record + csv(name) + ",,\n", false});
  return pack_zip(members);
}

Result<Repacked> repack(const FileFacts& facts, Bytes wheel, const Relabel& relabel) {
  const WheelFacts& w = facts.wheel;
  if (!w.name) return Error{w.name_fault, ""};
  if (w.dist_info.empty() || !w.has_metadata || !w.has_wheel)
    return Error{"no wheel: " + facts.path + " has no dist-info folder with METADATA and WHEEL", ""};
  const Version version = relabel.version.value_or(w.name->version());
  const std::vector<Tag>& tags = relabel.tags.empty() ? w.name->tags() : relabel.tags;
  const WheelName name = WheelName::make(w.metadata.name, version, tags);
  const std::string stem = name.name() + "-" + name.version_text(), dist_info = stem + ".dist-info";
  const std::string old_stem = w.dist_info.substr(0, w.dist_info.rfind(".dist-info"));

  const Zip zip = Zip::open(wheel);
  std::vector<NewMember> members;
  std::map<std::string, std::string> replace = relabel.replace;
  for (const ZipMember& m : zip.members()) {
    if (m.is_dir() || m.name.ends_with(".pyc")) continue;
    std::string at(m.name);
    const bool inside = at.starts_with(w.dist_info + "/"), data = at.starts_with(old_stem + ".data/");
    const std::string part = inside ? at.substr(w.dist_info.size() + 1) : "";
    if (inside && (part == "RECORD" || part.starts_with("RECORD.") || relabel.notes.contains(part))) continue;
    const Result<Buffer> read = zip.read(m);
    if (!read) return Error{read.error().message + ": " + printable(m.name) + " of " + facts.path, ""};
    std::string content(text(read->bytes()));
    if (const auto found = replace.find(at); found != replace.end()) {
      content = found->second;
      replace.erase(found);
    }
    if (inside && part == "METADATA") content = new_metadata(content, version, relabel.require);
    if (inside && part == "WHEEL") content = new_wheel_file(content, tags);
    if (inside) at = dist_info + "/" + part;
    if (data) at = stem + ".data/" + at.substr(old_stem.size() + 6);
    members.push_back({std::move(at), std::move(content), (m.mode & 0111) != 0});
  }
  for (const auto& [at, content] : replace) members.push_back({at, content, false});
  for (const auto& [at, content] : relabel.notes) members.push_back({dist_info + "/" + at, content, false});
  Result<std::string> packed = pack_wheel(std::move(members), dist_info);
  if (!packed) return packed.error();
  return Repacked{name.str(), *std::move(packed)};
}

Strings wheel_differences(Bytes a, Bytes b) {
  if (text(a) == text(b)) return {};
  const Zip left = Zip::open(a), right = Zip::open(b);
  Strings out;
  for (const ZipMember& m : left.members()) {
    const ZipMember* other = right.find(m.name);
    const std::string name = printable(m.name);
    if (!other) {
      out.push_back(name + ": only in the first");
      continue;
    }
    const Result<Buffer> x = left.read(m), y = right.read(*other);
    if (!x || !y) {
      out.push_back(name + ": cannot be read");
      continue;
    }
    const Bytes p = x->bytes(), q = y->bytes();
    if (p.size() != q.size()) {
      out.push_back(name + ": " + thousands(p.size()) + " and " + thousands(q.size()) + " bytes");
      continue;
    }
    size_t count = 0, first = 0;
    for (size_t i = 0; i < p.size(); i++) {
      if (p[i] != q[i] && !count++) first = i;
    }
    if (count)
      out.push_back(name + ": " + thousands(count) + " of " + thousands(p.size()) +
                    format(" bytes differ, first at 0x%zx", first));
  }
  for (const ZipMember& m : right.members()) {
    if (!left.find(m.name)) out.push_back(printable(m.name) + ": only in the second");
  }
  if (out.empty()) out.emplace_back("the archives differ, their members do not: order, dates, modes or packing");
  return out;
}

}  // namespace clary::tool
