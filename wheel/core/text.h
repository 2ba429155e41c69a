// Strings: taking them apart, putting them together, and making strange ones safe to print.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace clary::tool {

using Strings = std::vector<std::string>;

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* form, ...);

std::string_view trim(std::string_view text);
std::string lower(std::string_view text);  // ASCII
bool is_digits(std::string_view text);     // at least one, all 0-9
bool starts_with_nocase(std::string_view text, std::string_view prefix);
std::vector<std::string_view> split(std::string_view text, char separator);                   // keeps empty parts
std::vector<std::string_view> split_any(std::string_view text, std::string_view separators);  // drops empty parts
std::vector<std::string_view> lines(std::string_view text);                                   // without \n and \r\n
std::string join(const Strings& parts, std::string_view separator);
std::string replace_all(std::string text, std::string_view from, std::string_view to);

// Whether `text` is `pattern`, where * stands for anything. Linear in |text| * |pattern|.
bool matches(std::string_view pattern, std::string_view text);

// Of `names`, the one to propose for a mistyped `word`; empty if none is near.
std::string nearest(std::string_view word, const Strings& names);

std::string human_bytes(uint64_t bytes);               // 1.5 kB, 12.0 MB, 1.86 GB: powers of 1000
std::string thousands(uint64_t n);                     // 1,234,567
std::string count(uint64_t n, std::string_view noun);  // "1 file", "3,000 files"

// The text with control characters and bytes that are no UTF-8 shown as \xNN: safe on a terminal and in JSON.
std::string printable(std::string_view text);
bool is_utf8(std::string_view text);

std::string html(std::string_view text);     // &, <, >, " and ' escaped
std::string percent(std::string_view text);  // everything but letters, digits and -._~ escaped
std::string shell(std::string_view text);    // as one word of a POSIX shell
std::string yaml(std::string_view text);     // as a double-quoted YAML (and JSON) scalar
std::string base_name(std::string_view path);
std::string dir_name(std::string_view path);  // "." when there is none

}  // namespace clary::tool
