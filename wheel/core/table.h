// Columns of text, as wide as they need to be.
#pragma once
#include <string>
#include <vector>

#include "wheel/core/text.h"

namespace clary::tool {

class Table {
 public:
  // A name that starts with > is set right, for numbers. No names: no heading.
  explicit Table(Strings columns) : columns_(std::move(columns)) {}
  void row(Strings cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  size_t size() const { return rows_.size(); }
  std::string str(std::string_view indent = "") const;
  std::string markdown() const;

 private:
  Strings columns_;
  std::vector<Strings> rows_;
};

}  // namespace clary::tool
