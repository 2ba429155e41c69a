#include "wheel/core/table.h"

#include <algorithm>

namespace clary::tool {
namespace {

// Columns on a terminal: one per code point. Names here are ASCII but for hostile ones.
size_t width(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

}  // namespace

std::string Table::str(std::string_view indent) const {
  std::vector<size_t> widths;
  std::vector<bool> right;
  std::vector<Strings> all;
  Strings heading;
  for (const std::string& column : columns_) {
    right.push_back(column.starts_with('>'));
    heading.push_back(right.back() ? column.substr(1) : column);
  }
  const bool named = std::any_of(heading.begin(), heading.end(), [](const std::string& h) { return !h.empty(); });
  if (named) all.push_back(heading);
  all.insert(all.end(), rows_.begin(), rows_.end());
  for (const Strings& row : all) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); i++) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const Strings& row : all) {
    std::string line(indent);
    for (size_t i = 0; i < row.size(); i++) {
      const std::string pad(widths[i] - width(row[i]), ' ');
      line += (i ? "  " : "") + (i < right.size() && right[i] ? pad + row[i] : row[i] + pad);
    }
    while (line.ends_with(' ')) line.pop_back();
    out += line + "\n";
  }
  return out;
}

std::string Table::markdown() const {
  std::string head = "|", rule = "|";
  for (const std::string& column : columns_) {
    const bool right = column.starts_with('>');
    head += " " + (right ? column.substr(1) : column) + " |";
    rule += right ? "---:|" : "---|";
  }
  std::string out = head + "\n" + rule + "\n";
  for (const Strings& row : rows_) {
    out += "|";
    for (const std::string& cell : row) out += " " + replace_all(cell, "|", "\\|") + " |";
    out += "\n";
  }
  return out;
}

}  // namespace clary::tool
