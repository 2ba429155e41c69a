// What `clary explain` knows: a page for each rule (docs/cli/rules.md) and for each error people paste (docs/cli/errors.md),
// found by code or by the text of the message.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "wheel/core/text.h"

namespace clary::tool {

struct Entry {
  std::string code;  // "W3.traversal", "undefined-symbol-torch"
  std::string title;
  Strings seen;      // patterns of messages, * for anything, compared without case
  std::string body;  // cause and repair, paragraphs
  bool is_rule = false;
};

const std::vector<Entry>& catalog();
const Entry* find_entry(std::string_view code);
// Every entry one of whose patterns is in the text; the most specific first.
std::vector<const Entry*> recognise(std::string_view text);

struct Answer {
  const Entry* entry;
  size_t line = 0;   // of the log; 0: not from a log
  std::string text;  // of that line
};
// Of a code, a family of rules, or else a message that is recognised.
std::vector<Answer> look_up(const std::string& word);
// Every known error of a log, at the first line it appears on.
std::vector<Answer> read_log(std::string_view log);

}  // namespace clary::tool
