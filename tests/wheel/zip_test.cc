// The zip reader: good archives as Python's zipfile makes them, and one hostile archive for each thing that can be wrong.
#include <algorithm>

#include "support.h"
#include "wheel/core/unpack.h"
#include "wheel/core/zip.h"
#include "wheel/os/posix.h"

namespace clary::tool::test {
namespace {

Strings rules_of(const std::string& bytes) {
  const Zip zip = Zip::open(bytes_of(bytes));
  Strings out;
  for (const Fault& f : zip.faults()) {
    if (out.empty() || out.back() != f.rule) out.push_back(f.rule);
  }
  return out;
}

ZipSpec two_files() {
  return {.files = {{.name = "a/b.txt", .content = std::string(5000, 'x')},
                    {.name = "c.txt", .content = "hello", .method = 0}}};
}

TEST(Zip, GoodArchivesHaveNoFault) {
  ZipSpec spec = two_files();
  EXPECT_EQ(rules_of(make_zip(spec)), Strings{});
  spec.files[0].flags = 8;  // a data descriptor
  EXPECT_EQ(rules_of(make_zip(spec)), Strings{});
  spec.zip64 = true;
  EXPECT_EQ(rules_of(make_zip(spec)), Strings{});
  spec.files.push_back({.name = "a/", .content = "", .method = 0, .mode = 0040755});
  const std::string bytes = make_zip(spec);
  EXPECT_EQ(rules_of(bytes), Strings{});
  const Zip zip = Zip::open(bytes_of(bytes));
  ASSERT_EQ(zip.members().size(), 3u);
  EXPECT_EQ(text(zip.read(*zip.find("a/b.txt"))->bytes()), std::string(5000, 'x'));
  EXPECT_EQ(text(zip.read(*zip.find("c.txt"))->bytes()), "hello");
  EXPECT_EQ(rules_of(make_zip({})), Strings{});
}

struct Hostile {
  const char* rule;
  const char* what;
  ZipSpec spec;
};

std::vector<Hostile> hostile() {
  const auto named = [](const std::string& name) { return ZipSpec{.files = {{.name = name, .content = "x"}}}; };
  std::vector<Hostile> all = {
      {"W3.absolute", "a root path", named("/etc/passwd")},
      {"W3.absolute", "a drive", named("C:/x")},
      {"W3.traversal", "up", named("a/../../b")},
      {"W3.traversal", "up at once", named("..")},
      {"W3.name", "a backslash", named("a\\b")},
      {"W3.name", "a NUL", named(std::string("a\0b", 3))},
      {"W3.name", "a control character", named("a\x1b[31m")},
      {"W3.name", "no UTF-8", named("a\xff")},
      {"W3.name", "an empty part", named("a//b")},
      {"W3.name", "a dot", named("./a")},
      {"W3.name", "an ending dot", named("a.")},
      {"W3.name", "an ending space", named("a /b")},
      {"W3.name", "no name", named("")},
      {"W3.link", "a symbolic link", {.files = {{.name = "a", .content = "/etc", .mode = 0120777}}}},
      {"W3.link", "a device", {.files = {{.name = "a", .content = "x", .mode = 0020666}}}},
      {"W3.duplicate", "two of a name", {.files = {{.name = "a", .content = "x"}, {.name = "a", .content = "y"}}}},
      {"W3.duplicate",
       "a file and a folder",
       {.files = {{.name = "a", .content = "x"}, {.name = "a/b", .content = "y"}}}},
      {"W3.case", "case", {.files = {{.name = "a", .content = "x"}, {.name = "A", .content = "y"}}}},
      {"W3.local", "another name", {.files = {{.name = "a", .content = "x", .local_name = "b"}}}},
      {"W3.local", "another size", {.files = {{.name = "a", .content = "xyz", .local_size = 2}}}},
      {"W3.local", "another CRC", {.files = {{.name = "a", .content = "xyz", .local_crc = 5}}}},
      {"W3.local", "a lying descriptor", {.files = {{.name = "a", .content = "xyz", .flags = 8, .local_crc = 5}}}},
      {"W3.local",
       "a stored member of two sizes",
       {.files = {{.name = "a", .content = "xyz", .method = 0, .local_size = 4, .central_size = 4}}}},
      {"W3.local", "no header there", {.files = {{.name = "a", .content = "xyz", .central_offset = 3}}}},
      {"W3.overlap",
       "one header, two members",
       {.files = {{.name = "a", .content = "xyz"},
                  {.name = "a2", .content = "xyz", .local_name = "a2", .central_offset = 0}}}},
      {"W3.method", "LZMA", {.files = {{.name = "a", .content = "x", .method = 14}}}},
      {"W3.method", "encrypted", {.files = {{.name = "a", .content = "x", .flags = 1}}}},
      {"W3.bomb",
       "one large member",
       {.files = {{.name = "a", .content = "x", .local_size = 1 << 30, .central_size = 1 << 30}}}},
      {"W3.bomb",
       "beyond every disk",
       {.files = {{.name = "a", .content = "x", .local_size = 0xfffffff0, .central_size = 0xfffffff0}}}},
  };
  Hostile h{"W3.prefix", "a shell script in front", two_files()};
  h.spec.prefix = "#!/bin/sh\n";
  for (ZipFile& f : h.spec.files) f.central_offset = -1;
  all.push_back(h);
  h = {"W3.trailing", "something behind", two_files()};
  h.spec.trailing = "more";
  all.push_back(h);
  h = {"W3.comment", "a comment", two_files()};
  h.spec.comment = "hello";
  all.push_back(h);
  h = {"W3.gap", "bytes before the directory", two_files()};
  h.spec.gap = std::string(32, 'g');
  all.push_back(h);
  h = {"W3.structure", "one member less than said", two_files()};
  h.spec.count_delta = 1;
  all.push_back(h);
  h = {"W3.structure", "one more than said", two_files()};
  h.spec.count_delta = -1;
  all.push_back(h);
  return all;
}

TEST(Zip, EachHostileArchiveHasItsFault) {
  for (const Hostile& h : hostile()) {
    const Strings rules = rules_of(make_zip(h.spec));
    EXPECT_NE(std::find(rules.begin(), rules.end(), h.rule), rules.end()) << h.what << ": " << join(rules, " ");
  }
}

TEST(Zip, ManyMembersInOneByteRange) {  // David Fifield's overlapping bomb, in small
  ZipSpec spec = two_files();
  for (int i = 0; i < 20; i++)
    spec.files.push_back({.name = "n" + std::to_string(i), .content = spec.files[0].content, .central_offset = 0});
  const Strings rules = rules_of(make_zip(spec));
  EXPECT_NE(std::find(rules.begin(), rules.end(), "W3.overlap"), rules.end());
}

TEST(Zip, NotAnArchive) {
  EXPECT_EQ(rules_of(""), Strings{"W3.structure"});
  EXPECT_EQ(rules_of("PK"), Strings{"W3.structure"});
  EXPECT_EQ(rules_of(std::string(100'000, 'a')), Strings{"W3.structure"});
}

TEST(Zip, DamagedDataIsNotRead) {
  ZipSpec spec = two_files();
  spec.files[0].damage = spec.files[1].damage = true;
  const std::string bytes = make_zip(spec);
  const Zip zip = Zip::open(bytes_of(bytes));
  for (const ZipMember& m : zip.members()) EXPECT_FALSE(zip.read(m)) << m.name;
}

TEST(Zip, SurvivesAnyDamage) {
  ZipSpec spec = two_files();
  spec.zip64 = true;
  spec.files[1].flags = 8;
  size_t read = 0;
  for_each_damage(make_zip(spec), 4000, [&](const std::string& bad) {
    const Zip zip = Zip::open(bytes_of(bad));
    for (const ZipMember& m : zip.members()) {
      const Result<Buffer> content = zip.read(m);
      read += content ? content->size() : 0;
    }
  });
  EXPECT_GT(read, 0u);
}

TEST(Unpack, LyingSizesAreRefused) {
  const std::string packed("\x03\x00", 2);  // deflate of nothing
  EXPECT_TRUE(inflate_raw(bytes_of(packed), 0));
  EXPECT_FALSE(inflate_raw(bytes_of(packed), 1));
  EXPECT_FALSE(inflate_raw(bytes_of(packed), uint64_t{1} << 50));  // nothing is allocated for such a claim
  EXPECT_FALSE(unpack_lz4(bytes_of("x"), uint64_t{1} << 50));
  EXPECT_FALSE(unpack_zstd(bytes_of("not a frame"), 100));
  EXPECT_EQ(peek_zstd(bytes_of("not a frame"), 100, 50).size(), 0u);
}

TEST(Oracle, ZipfileAgrees) {
  const std::string path = temp_file("made.zip", make_zip(two_files()));
  const std::string said = run_program({"python3", "-c",
                                        "import zipfile,sys; z=zipfile.ZipFile(sys.argv[1]); print(z.testzip(), "
                                        "[(i.filename, i.file_size) for i in z.infolist()])",
                                        path});
  if (said.empty()) GTEST_SKIP() << "no python3";
  EXPECT_EQ(said, "None [('a/b.txt', 5000), ('c.txt', 5)]\n");
  const std::string made = temp_file("python.zip", "");
  run_program({"python3", "-c",
               "import zipfile,sys; z=zipfile.ZipFile(sys.argv[1],'w',zipfile.ZIP_DEFLATED); "
               "z.writestr('d/e.txt','y'*9999); z.writestr('f',b''); z.close()",
               made});
  PosixDisk disk;
  const Result<Mapping> file = disk.map(made);
  ASSERT_TRUE(file);
  const Zip zip = Zip::open(file->bytes);
  EXPECT_TRUE(zip.faults().empty());
  EXPECT_EQ(zip.read(*zip.find("d/e.txt"))->size(), 9999u);
}

}  // namespace
}  // namespace clary::tool::test
