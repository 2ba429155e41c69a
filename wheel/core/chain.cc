#include "wheel/core/chain.h"

#include <algorithm>

#include "wheel/core/json.h"

namespace clary::tool {
namespace {

Strings split_word(const std::string& text, const std::string& word) {
  Strings out;
  size_t begin = 0;
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, begin)) {
    out.push_back(text.substr(begin, at - begin));
    begin = at + word.size();
  }
  out.push_back(text.substr(begin));
  return out;
}

Result<bool> compare(const Version& value, std::string_view op, std::string_view text) {
  const Result<Version> wanted = Version::parse(trim(text));
  if (!wanted) return wanted.error();
  if (op == "==") return value == *wanted;
  if (op == "!=") return value != *wanted;
  if (op == ">=") return value >= *wanted;
  if (op == "<=") return value <= *wanted;
  return op == ">" ? value > *wanted : value < *wanted;
}

Result<bool> term_holds(const std::string& term, const Target& target) {
  const Error wrong{"not a condition: `" + printable(term) + "`", "such as: sm in (100, 120) and cuda >= 12.8"};
  const std::string_view text = trim(term);
  const size_t end = std::min(text.find_first_of(" <>=!"), text.size());
  const std::string name(text.substr(0, end));
  std::string_view rest = trim(text.substr(end));
  Strings values;
  if (name == "sm")
    for (const int sm : target.gpus) values.push_back(std::to_string(sm));
  else if (name == "cuda" || name == "torch" || name == "driver" || name == "python")
    values = {name == "cuda"     ? target.cuda
              : name == "torch"  ? target.torch
              : name == "driver" ? target.driver
                                 : target.python_version};
  else
    return wrong;
  std::vector<std::string_view> wanted;
  std::string_view op = "==";
  if (rest.starts_with("in")) {
    rest = trim(rest.substr(2));
    if (!rest.starts_with('(') || !rest.ends_with(')')) return wrong;
    wanted = split_any(rest.substr(1, rest.size() - 2), ", ");
  } else {
    for (std::string_view known : {">=", "<=", "==", "!=", ">", "<"}) {
      if (!rest.starts_with(known)) continue;
      op = known;
      wanted = {trim(rest.substr(known.size()))};
      break;
    }
  }
  if (wanted.empty()) return wrong;
  bool all = !values.empty();
  for (const std::string& value : values) {
    const Result<Version> have = Version::parse(value);
    bool one = false;
    for (std::string_view text_of_wanted : wanted) {
      const Result<bool> fits =
          have ? compare(*have, op, text_of_wanted) : compare(*Version::parse("0"), op, text_of_wanted);
      if (!fits) return wrong;
      one |= have && *fits;
    }
    all &= one;
  }
  return all;
}

}  // namespace

Result<bool> chain_holds(const std::string& when, const Target& target) {
  if (trim(when).empty()) return true;
  bool any = false;
  for (const std::string& part : split_word(when, " or ")) {
    bool all = true;
    for (const std::string& term : split_word(part, " and ")) {
      const Result<bool> holds = term_holds(term, target);
      if (!holds) return holds;
      all &= *holds;
    }
    any |= all;
  }
  return any;
}

Result<std::vector<ChainLink>> parse_chain(std::string_view toml, const std::string& name) {
  const Result<Json> json = parse_toml(toml, name);
  if (!json) return json.error();
  std::vector<ChainLink> out;
  const auto table = json->find("fallback");
  if (table == json->end() || !table->is_object()) return out;
  for (const Json& link : list_of(*table, "chain")) {
    if (Result<Done> known = check_keys(link, {"pkg", "when"}, "[fallback] of " + name); !known) return known.error();
    out.push_back({text_of(link, "pkg"), text_of(link, "when")});
    if (const Result<bool> good = chain_holds(out.back().when, Target{}); !good) return good.error();
  }
  return out;
}

}  // namespace clary::tool
