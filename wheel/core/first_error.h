// The first real error of a build's log. What follows it (ninja's and pip's "failed") is consequence and never the answer.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "wheel/core/catalog.h"

namespace clary::tool {

struct FirstError {
  size_t line = 0;  // from 1
  std::string text;
  Strings context;               // the lines after it that belong to it
  const Entry* known = nullptr;  // what `clary explain` knows about it
};

std::optional<FirstError> first_error(std::string_view log);

}  // namespace clary::tool
