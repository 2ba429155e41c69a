// TOML through toml++, handed on as JSON so that the rest of the tool knows one kind of tree.

// toml++ 3.3 asserts, or with NDEBUG takes for granted, what `[,` breaks: here that is an error like any other.
#undef NDEBUG
namespace {
struct Asserted {};
[[noreturn]] void asserted() { throw Asserted(); }
}  // namespace
#define TOML_ASSERT(expr) (static_cast<bool>(expr) ? static_cast<void>(0) : asserted())
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "wheel/core/json.h"

namespace clary::tool {
namespace {

Json convert(const toml::node& node) {
  if (const toml::table* table = node.as_table()) {
    Json out = Json::object();
    for (const auto& [key, value] : *table) out[std::string(key.str())] = convert(value);
    return out;
  }
  if (const toml::array* array = node.as_array()) {
    Json out = Json::array();
    for (const toml::node& item : *array) out.push_back(convert(item));
    return out;
  }
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return number->get();
  if (const auto* number = node.as_floating_point()) return number->get();
  if (const auto* truth = node.as_boolean()) return truth->get();
  return nullptr;
}

}  // namespace

Result<Json> parse_toml(std::string_view text, const std::string& name) try {
  const toml::parse_result result = toml::parse(text);
  if (result) return convert(result.table());
  const toml::parse_error& error = result.error();
  return Error{format("not TOML: %s:%u: ", name.c_str(), error.source().begin.line) + std::string(error.description()),
               ""};
} catch (const Asserted&) {
  return Error{"not TOML: " + name, ""};
}

}  // namespace clary::tool
