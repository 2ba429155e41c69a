// JSON out, JSON and TOML in. Keys keep their order; printing never fails, whatever bytes a hostile file put into a string.
// Expensive to compile: include it in the .cc files that need it, json_fwd.hpp elsewhere.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "wheel/core/result.h"
#include "wheel/core/text.h"

namespace clary::tool {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json);  // indented, one final newline
std::string dump_line(const Json& json);
Result<Json> parse_json(std::string_view text, const std::string& name);
Result<Json> parse_toml(std::string_view text, const std::string& name);  // dates become strings

// Fields of an object, with a default for a missing one. A field of another type counts as missing; check_keys and the
// readers' own checks say so before.
std::string text_of(const Json& object, const char* key, const std::string& otherwise = "");
int64_t number_of(const Json& object, const char* key, int64_t otherwise = 0);
bool bool_of(const Json& object, const char* key, bool otherwise = false);
Strings strings_of(const Json& object, const char* key);   // an array, or one string
const Json& list_of(const Json& object, const char* key);  // empty array when missing

// An error naming the first key that is not in `known`, with the nearest that is.
Result<Done> check_keys(const Json& object, const Strings& known, const std::string& where);

}  // namespace clary::tool
