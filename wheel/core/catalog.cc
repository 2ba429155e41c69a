#include "wheel/core/catalog.h"

#include <algorithm>

#include "wheel/core/embed.h"
#include "wheel/core/finding.h"

namespace clary::tool {
namespace {

// "## code: title", then "Seen: `pattern`" lines, then paragraphs. Of a rule the title is rules.def's.
void read_page(std::string_view page, bool rules, std::vector<Entry>& to) {
  for (std::string_view line : lines(page)) {
    if (line.starts_with("## ")) {
      const std::string_view heading = line.substr(3);
      const size_t colon = heading.find(": ");
      Entry entry;
      entry.code = heading.substr(0, colon);
      entry.is_rule = rules;
      if (colon != heading.npos) entry.title = heading.substr(colon + 2);
      if (const Rule* rule = rules ? find_rule(entry.code) : nullptr) entry.title = rule->title;
      to.push_back(entry);
    } else if (!to.empty() && to.back().is_rule == rules) {
      const size_t open = line.find('`'), close = line.rfind('`');
      if (line.starts_with("Seen: ") && open < close)
        to.back().seen.push_back(lower(line.substr(open + 1, close - open - 1)));
      else
        to.back().body += std::string(line) + "\n";
    }
  }
}

std::vector<Entry> load() {
  std::vector<Entry> out;
  read_page(embedded("docs/cli/rules.md"), true, out);
  read_page(embedded("docs/cli/errors.md"), false, out);
  for (Entry& entry : out) entry.body = trim(entry.body);
  return out;
}

size_t fixed_length(const std::string& pattern) {
  return pattern.size() - static_cast<size_t>(std::count(pattern.begin(), pattern.end(), '*'));
}

// Whether the pieces of `pattern` between its stars stand in `text` one after another. Both in lower case.
bool appears(std::string_view pattern, std::string_view text) {
  size_t from = 0;
  for (std::string_view piece : split_any(pattern, "*")) {
    from = text.find(piece, from);
    if (from == text.npos) return false;
    from += piece.size();
  }
  return true;
}

}  // namespace

const std::vector<Entry>& catalog() {
  static const std::vector<Entry> entries = load();
  return entries;
}

const Entry* find_entry(std::string_view code) {
  for (const Entry& entry : catalog()) {
    if (lower(entry.code) == lower(code)) return &entry;
  }
  return nullptr;
}

std::vector<const Entry*> recognise(std::string_view text) {
  std::vector<std::pair<size_t, const Entry*>> found;
  const std::string low = lower(text.substr(0, 100'000));
  for (const Entry& entry : catalog()) {
    size_t best = 0;
    for (const std::string& pattern : entry.seen) {
      if (appears(pattern, low)) best = std::max(best, fixed_length(pattern));
    }
    if (best) found.emplace_back(best, &entry);
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<const Entry*> out;
  for (const auto& [length, entry] : found) out.push_back(entry);
  return out;
}

std::vector<Answer> look_up(const std::string& word) {
  std::vector<Answer> out;
  if (const Entry* exact = find_entry(word)) return {{exact, 0, ""}};
  for (const Entry& e : catalog()) {
    if (e.is_rule && lower(e.code.substr(0, e.code.find('.'))) == lower(word)) out.push_back({&e, 0, ""});
  }
  if (out.empty()) {
    for (const Entry* e : recognise(word)) out.push_back({e, 0, ""});
  }
  return out;
}

std::vector<Answer> read_log(std::string_view log) {
  std::vector<Answer> out;
  size_t number = 0;
  for (std::string_view line : lines(log)) {
    number++;
    if (line.size() < 8) continue;
    for (const Entry* e : recognise(line.substr(0, 2000))) {
      const bool known = std::any_of(out.begin(), out.end(), [&](const Answer& a) { return a.entry == e; });
      if (!known) out.push_back({e, number, std::string(line.substr(0, 2000))});
    }
  }
  return out;
}

}  // namespace clary::tool
