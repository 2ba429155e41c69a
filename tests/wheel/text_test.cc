// Strings, tables, JSON and TOML.
#include "support.h"
#include "wheel/core/json.h"
#include "wheel/core/leaks.h"
#include "wheel/core/table.h"

namespace clary::tool::test {
namespace {

TEST(Text, Matches) {
  EXPECT_TRUE(matches("lib*.so*", "libcudart.so.12"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("a*b*c", "axxbyyc"));
  EXPECT_FALSE(matches("a*b*c", "axxbyy"));
  EXPECT_FALSE(matches("", "a"));
  EXPECT_FALSE(matches("a*a*a*a*a*a*a*a*b", std::string(2000, 'a')));  // linear, not exponential
}

TEST(Text, PrintableHidesControlAndBrokenBytes) {
  EXPECT_EQ(printable("naïve"), "naïve");
  EXPECT_EQ(printable("a\x1b[31mb"), "a\\x1b[31mb");
  EXPECT_EQ(printable("\xff\xc0\xaf"), "\\xff\\xc0\\xaf");
  EXPECT_EQ(printable("a\xe2\x80\xae"
                      "b"),
            "a\\xe2\\x80\\xae"
            "b");  // text that runs right to left
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));
  EXPECT_FALSE(is_utf8("\xf4\x90\x80\x80"));
}

TEST(Text, Words) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(999'999), "1.00 MB");
  EXPECT_EQ(human_bytes(520'025'889), "520.0 MB");
  EXPECT_EQ(count(1, "entry"), "1 entry");
  EXPECT_EQ(count(12345, "entry"), "12,345 entries");
  EXPECT_EQ(nearest("--polcy", {"--policy", "--json"}), "--policy");
  EXPECT_EQ(nearest("completely", {"plan"}), "");
  EXPECT_EQ(percent("a+b 1.whl"), "a%2Bb%201.whl");
  EXPECT_EQ(shell("it's"), "'it'\\''s'");
  EXPECT_EQ(html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(yaml("a\"b\n"), "\"a\\\"b\\n\"");
}

TEST(Text, Table) {
  Table table({"name", ">size"});
  table.row({"a", "1"});
  table.row({"long", "1000"});
  EXPECT_EQ(table.str(" "), " name  size\n a        1\n long  1000\n");
  EXPECT_EQ(table.markdown(), "| name | size |\n|---|---:|\n| a | 1 |\n| long | 1000 |\n");
}

TEST(Json, KeysAndBrokenBytes) {
  const Result<Json> toml = parse_toml("a = 1\nb = [\"x\", 2]\n[c]\nd = true\n", "t");
  ASSERT_TRUE(toml);
  EXPECT_EQ(number_of(*toml, "a"), 1);
  EXPECT_EQ(strings_of(*toml, "b"), Strings{"x"});
  EXPECT_EQ(text_of(*toml, "a", "other"), "other");  // of another type
  const Result<Done> known = check_keys(*toml, {"a", "b", "color"}, "t");
  ASSERT_FALSE(known);
  EXPECT_EQ(known.error().message, "unknown key in t: `c`");
  EXPECT_EQ(parse_toml("[,[a]]", "x.toml").error().message, "not TOML: x.toml");  // toml++ asserts
  for (const char* text : {"\u00e9 = 1", "a = \u00e9", "\ufef9", "a\u3000= 1"})
    EXPECT_FALSE(parse_toml(text, "x.toml")) << text;
  EXPECT_TRUE(parse_toml("a = \"\u00e9\" # \u00e9", "x.toml"));
  EXPECT_EQ(parse_toml("a = ", "x.toml").error().message.substr(0, 18), "not TOML: x.toml:1");
  EXPECT_EQ(dump_line(Json{{"k", "\xff"}}), "{\"k\":\"\xef\xbf\xbd\"}");
}

TEST(Leaks, TokensAndHomes) {
  const std::string token = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789";
  const std::vector<Leak> found = find_leaks(
      bytes_of("x=" + token + " at /home/ann/src/a.cc, not/home/x or hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), true);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].text, "hf_AbCd...");  // never the whole
  EXPECT_EQ(found[1].text, "/home/ann/src/a.cc");
  EXPECT_TRUE(find_leaks(bytes_of("/home/ann/src/a.cc"), false).empty());
}

}  // namespace
}  // namespace clary::tool::test
