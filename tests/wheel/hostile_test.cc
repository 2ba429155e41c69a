// What a hostile file may cost: each was found by reading or fuzzing, and took minutes, gigabytes or the stack before its
// reader was bounded. A row proves the bound; the seconds only tell a bound from none.
#include <ctime>

#include "support.h"
#include "wheel/core/catalog.h"
#include "wheel/core/facts.h"
#include "wheel/core/json.h"
#include "wheel/core/pe.h"
#include "wheel/core/report.h"

namespace clary::tool::test {
namespace {

std::string repeat(const std::string& text, int n) {
  std::string out;
  while (n-- > 0) out += text;
  return out;
}

class Hostile : public testing::Test {
 protected:
  std::clock_t begin_ = std::clock();  // of the processor: a busy machine is no fault
  void TearDown() override { EXPECT_LT(static_cast<double>(std::clock() - begin_) / CLOCKS_PER_SEC, 20.0); }
};

TEST_F(Hostile, MarkersOfThousandsOfTerms) {  // a tree as deep as it is long is walked and freed by recursion
  for (const char* word : {" or ", " and "}) {
    const std::string term = "extra == 'a'", line = "a; " + term + repeat(word + term, 300'000);
    EXPECT_FALSE(Requirement::parse(line));
    EXPECT_TRUE(Requirement::parse("a; " + term + repeat(word + term, 900)));
  }
  EXPECT_FALSE(Requirement::parse("a; " + repeat("(", 100'000)));
}

TEST_F(Hostile, JsonOfThousandsOfLevels) {
  EXPECT_FALSE(parse_json(repeat("[", 1'000'000), "m"));
  EXPECT_FALSE(parse_json(repeat("[", 1000) + repeat("]", 1000), "m"));
  EXPECT_FALSE(parse_json(repeat("{\"a\":", 1000) + "1" + repeat("}", 1000), "m"));
  EXPECT_TRUE(parse_json("[\"" + repeat("[", 1000) + "\\\"\"]", "m"));  // inside a string
  EXPECT_TRUE(parse_json(repeat("[", 60) + repeat("]", 60), "m"));
  EXPECT_FALSE(parse_toml("a = " + repeat("[", 100'000), "m"));
}

TEST_F(Hostile, NumbersBeyondIntegers) {
  const Result<Json> json = parse_json("{\"a\": 1e300, \"b\": 12}", "m");
  ASSERT_TRUE(json);
  EXPECT_EQ(number_of(*json, "a", -1), -1);
  EXPECT_EQ(number_of(*json, "b", -1), 12);
}

TEST_F(Hostile, SymbolsThatDoubleWithEveryPart) {  // 90 parts, each twice the one before: 10^13 characters
  std::string name = "_Z1fSt4pairI1aS0_E";
  const char* digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string last = "1";
  for (int i = 2; i < 34; i++, last = std::string(1, digits[i - 1])) name += "S_IS" + last + "_S" + last + "_E";
  EXPECT_EQ(demangled(name), name);
  EXPECT_EQ(demangled("_ZN3c106detail14torchCheckFailEPKcS2_jS2_"),
            "c10::detail::torchCheckFail(char const*, char const*, unsigned int, char const*)");
}

TEST_F(Hostile, NamesOfThousandsOfFolders) {  // each folder of each name was kept: a gigabyte for 64 kB
  ZipSpec spec;
  for (int i = 0; i < 40; i++)
    spec.files.push_back({.name = repeat("a/", 30'000) + std::to_string(i), .content = "x", .method = 0});
  const std::string bytes = make_zip(spec);
  const Zip zip = Zip::open(bytes_of(bytes));
  ASSERT_EQ(zip.faults().size(), 40u);
  EXPECT_EQ(zip.faults()[0].rule, "W3.name");
}

TEST_F(Hostile, ManyMembers) {  // a dist-info folder each, none of them in RECORD
  ZipSpec spec;
  for (int i = 0; i < 40'000; i++)
    spec.files.push_back({.name = "a" + std::to_string(i) + ".dist-info/METADATA", .content = "", .method = 0});
  MemoryWorld world;
  world.disk.files["a-1-py3-none-any.whl"] = make_zip(spec);
  EXPECT_EQ(run_clary(world.ctx, {"verify", "a-1-py3-none-any.whl"}), kFinding);
  EXPECT_LT(world.out.text.size(), 20'000u);
}

TEST_F(Hostile, CubinsOnTopOfEachOther) {
  // A data section of cubin headers, each with a dynamic segment over the rest of the file.
  const std::string cubin = make_cubin({.sm = 80}).substr(0, 64);
  ElfSpec elf = module_spec();
  elf.sections = {{".data", repeat(cubin, 20'000)}};
  const std::string bytes = make_elf(elf);
  EXPECT_EQ(binary_facts(bytes_of(bytes), "a.so", true).format, "ELF");
}

TEST_F(Hostile, ImagesThatUnpackToMegabytes) {  // 1 kB each, and only the head of each is wanted
  std::string section;
  for (int i = 0; i < 4000; i++)
    section += make_fatbin({{.sm = 80, .packing = 'z', .toolkit = "", .padding = 100'000}});
  const GpuCode code = gpu_code_of_file(bytes_of(section));
  EXPECT_EQ(code.images.size(), 4000u);
  EXPECT_TRUE(code.faults.empty());
}

TEST_F(Hostile, ManyArchitectures) {  // sums of images were searched one by one
  std::string section;
  for (int i = 0; i < 20'000; i++)
    section +=
        make_fatbin({{.kind = 'p', .sm = i % 9999, .isa = std::to_string(i % 500) + "." + std::to_string(i % 77)}});
  const GpuCode code = gpu_code_of_file(bytes_of(section));
  EXPECT_EQ(code.images.size(), 20'000u);
  EXPECT_EQ(sum_images(code).size(), 9999u);
}

TEST_F(Hostile, ImportTablesThatShareOneList) {  // of 2,000 DLLs and 2,000 names: four million strings
  PeSpec spec;
  std::vector<std::string> names;
  for (int i = 0; i < 2000; i++) names.push_back("function_" + std::to_string(i));
  spec.imports.push_back({"a.dll", names});
  for (int i = 0; i < 2000; i++) spec.imports.push_back({"b.dll", {"x"}});
  std::string bytes = make_pe(spec);
  const Result<Pe> good = Pe::parse(bytes_of(bytes));
  ASSERT_TRUE(good && good->faults.empty());
  ASSERT_EQ(good->imports.size(), 2001u);
  spec.one_list = true;
  bytes = make_pe(spec);
  const Result<Pe> bad = Pe::parse(bytes_of(bytes));
  ASSERT_TRUE(bad);
  size_t total = 0;
  for (const PeImport& import : bad->imports) total += import.symbols.size();
  EXPECT_LT(total, bytes.size());
  EXPECT_FALSE(bad->faults.empty());
}

TEST_F(Hostile, LogsOfLongLines) {
  const std::string line = repeat("error: undefined symbol: GLIBC_2 cannot repair libcu.so to ", 34) + "\n";
  EXPECT_FALSE(read_log(repeat(line, 1000)).empty());
}

TEST_F(Hostile, ClaimsAreNotAllocated) {
  const Buffer none(size_t{1} << 60);
  EXPECT_EQ(none.size(), 0u);
}

}  // namespace
}  // namespace clary::tool::test
