#include "wheel/core/json.h"

#include <algorithm>

namespace clary::tool {
namespace {

constexpr int kMaxDepth = 64;  // readers and writers of trees recurse

// Of brackets outside strings; exact for JSON, and an upper bound for what is none.
int depth_of(std::string_view text) {
  int depth = 0, most = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    if (quoted && c == '\\')
      i++;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{'))
      most = std::max(most, ++depth);
    else if (!quoted && (c == ']' || c == '}'))
      depth--;
  }
  return most;
}

}  // namespace

std::string dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }
std::string dump_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Result<Json> parse_json(std::string_view text, const std::string& name) {
  if (depth_of(text) > kMaxDepth) return Error{format("JSON nested deeper than %d: ", kMaxDepth) + name, ""};
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return Error{"not JSON: " + name, ""};
  return json;
}

std::string text_of(const Json& object, const char* key, const std::string& otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

int64_t number_of(const Json& object, const char* key, int64_t otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

bool bool_of(const Json& object, const char* key, bool otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

Strings strings_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  Strings out;
  if (found == object.end()) return out;
  if (found->is_string()) out.push_back(found->get<std::string>());
  if (found->is_array()) {
    for (const Json& item : *found) {
      if (item.is_string()) out.push_back(item.get<std::string>());
    }
  }
  return out;
}

const Json& list_of(const Json& object, const char* key) {
  static const Json nothing = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : nothing;
}

Result<Done> check_keys(const Json& object, const Strings& known, const std::string& where) {
  if (!object.is_object()) return Error{"not a table: " + where, ""};
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string near = nearest(key, known);
    return Error{"unknown key in " + where + ": `" + printable(key) + "`",
                 near.empty() ? "known keys: " + join(known, ", ") : "did you mean `" + near + "`?"};
  }
  return Done{};
}

}  // namespace clary::tool
