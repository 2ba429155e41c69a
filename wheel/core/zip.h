// A zip archive read from its central directory, every claim checked against the rest of the file.
//
// Opening never fails on strange content: what is wrong becomes a fault that names its rule (wheel/core/rules.def), and the
// members that can be read still can. Layout: PKWARE's APPNOTE 6.3.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/bytes.h"
#include "wheel/core/result.h"

namespace clary::tool {

struct ZipMember {
  std::string_view name;
  uint16_t method = 0;  // 0 stored, 8 deflate
  uint16_t flags = 0;
  uint32_t crc = 0;
  uint64_t packed = 0, size = 0;
  uint64_t header = 0;  // offset of the local header
  uint64_t data = 0;    // offset of the packed bytes; 0: the local header is no good
  uint32_t mode = 0;    // Unix mode, 0 when the archive does not say
  bool is_dir() const { return name.ends_with('/'); }
};

struct Fault {
  std::string rule;   // "W3.traversal"
  std::string where;  // a member, or empty
  std::string text;
};

class Zip {
 public:
  // Of an archive whose directory cannot be found there is one fault, W3.structure, and no member.
  static Zip open(Bytes file);

  const std::vector<ZipMember>& members() const { return members_; }
  const std::vector<Fault>& faults() const { return faults_; }
  const ZipMember* find(std::string_view name) const;
  // The member's content, size and CRC checked.
  Result<Buffer> read(const ZipMember& member) const;

 private:
  void fault(const char* rule, std::string_view where, std::string text);
  bool read_directory();
  void check_local(ZipMember& member);
  void check_names();
  void check_layout();
  void check_sizes();

  Bytes file_;
  std::vector<ZipMember> members_;
  std::vector<Fault> faults_;
  std::vector<std::pair<uint64_t, uint64_t>> extents_;      // of each member's header and data
  uint64_t directory_ = 0, directory_size_ = 0, tail_ = 0;  // tail: offset of the end records
};

}  // namespace clary::tool
