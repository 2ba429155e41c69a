// Writing wheels: the same members make the same bytes on every machine. Members are sorted, dated 1980-01-01, deflated, and have
// mode 644 or 755; RECORD is computed and comes last, as its specification recommends.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "wheel/core/facts.h"

namespace clary::tool {

struct NewMember {
  std::string name, content;
  bool executable = false;
};

// A zip archive of these, in this order. An error at the limits of the format without zip64: 4 GiB, 65,535 members.
Result<std::string> pack_zip(const std::vector<NewMember>& members);
// The same, sorted, with RECORD. REQUIRES: none of them is RECORD; `dist_info` is the folder that gets it.
Result<std::string> pack_wheel(std::vector<NewMember> members, const std::string& dist_info);

// What is changed in a wheel that is written anew; what is not named stays.
struct Relabel {
  std::optional<Version> version;
  std::vector<Tag> tags;
  Strings require;                             // "torch==2.8.*": instead of that project's requirement, if it has one
  std::map<std::string, std::string> replace;  // content of members, by their old name; new ones are added
  std::map<std::string, std::string> notes;    // files of the dist-info folder
};

struct Repacked {
  std::string file_name, content;
};

// REQUIRES: `facts` are those of `wheel`. Compiled Python files are left out. An error when the wheel cannot be read whole.
Result<Repacked> repack(const FileFacts& facts, Bytes wheel, const Relabel& relabel);

// What two builds of one wheel differ in, a line each: "demo/_C.so: 18,224 bytes of 1,204,224 differ, first at 0x2f0"; empty: nothing.
Strings wheel_differences(Bytes a, Bytes b);

}  // namespace clary::tool
