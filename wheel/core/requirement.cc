#include "wheel/core/requirement.h"

#include <algorithm>

namespace clary::tool {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

struct Cursor {
  std::string_view rest;
  void skip() { rest = trim(rest); }
  bool take(std::string_view word) {
    skip();
    if (!rest.starts_with(word)) return false;
    rest.remove_prefix(word.size());
    return true;
  }
  std::string_view take_word() {
    skip();
    size_t length = 0;
    while (length < rest.size() && is_word(rest[length])) length++;
    std::string_view word = rest.substr(0, length);
    rest.remove_prefix(length);
    return word;
  }
  bool take_keyword(std::string_view word) {
    Cursor look = *this;
    if (look.take_word() != word) return false;
    *this = look;
    return true;
  }
};

constexpr std::string_view kVariables[] = {"python_version",
                                           "python_full_version",
                                           "os_name",
                                           "sys_platform",
                                           "platform_release",
                                           "platform_system",
                                           "platform_version",
                                           "platform_machine",
                                           "implementation_name",
                                           "implementation_version",
                                           "platform_python_implementation",
                                           "extra",
                                           "extras",
                                           "dependency_groups"};

}  // namespace

std::string normal_name(std::string_view name) {
  std::string out;
  for (char c : lower(name)) {
    const bool separator = c == '-' || c == '_' || c == '.';
    if (!separator)
      out += c;
    else if (!out.ends_with('-'))
      out += '-';
  }
  return out;
}

bool is_project_name(std::string_view name) {
  const auto edge = [](char c) { return is_word(c) && c != '-' && c != '_' && c != '.'; };
  return !name.empty() && std::all_of(name.begin(), name.end(), is_word) && edge(name.front()) && edge(name.back());
}

struct Marker::Node {
  enum Kind { kAnd, kOr, kCompare } kind;
  std::shared_ptr<const Node> left, right;
  std::string a, op, b;
  bool a_is_variable = false, b_is_variable = false;
};

namespace {

using Node = Marker::Node;
using NodePtr = std::shared_ptr<const Node>;

struct MarkerParser {
  Cursor c;
  int depth = 0, comparisons = 0;  // both bounded: the tree is walked and freed by recursion

  // A quoted string, or one of the environment's variables.
  bool value(std::string& text, bool& variable) {
    c.skip();
    if (c.rest.empty()) return false;
    const char quote = c.rest[0];
    if (quote == '"' || quote == '\'') {
      const size_t end = c.rest.find(quote, 1);
      if (end == c.rest.npos) return false;
      text = c.rest.substr(1, end - 1);
      c.rest.remove_prefix(end + 1);
      variable = false;
      return true;
    }
    text = replace_all(std::string(c.take_word()), ".", "_");
    variable = true;
    return std::find(std::begin(kVariables), std::end(kVariables), text) != std::end(kVariables);
  }

  NodePtr comparison() {
    if (c.take("(")) {
      if (++depth > 32) return nullptr;
      NodePtr inside = any();
      depth--;
      return c.take(")") ? inside : nullptr;
    }
    if (++comparisons > 1000) return nullptr;
    auto node = std::make_shared<Node>();
    node->kind = Node::kCompare;
    if (!value(node->a, node->a_is_variable)) return nullptr;
    for (std::string_view op : {"===", "==", "!=", "<=", ">=", "~=", "<", ">"}) {
      if (node->op.empty() && c.take(op)) node->op = op;
    }
    if (node->op.empty()) {
      if (c.take_keyword("in"))
        node->op = "in";
      else if (c.take_keyword("not") && c.take_keyword("in"))
        node->op = "not in";
      else
        return nullptr;
    }
    return value(node->b, node->b_is_variable) ? node : nullptr;
  }

  NodePtr chain(Node::Kind kind, std::string_view keyword, NodePtr (MarkerParser::*next)()) {
    NodePtr left = (this->*next)();
    while (left && c.take_keyword(keyword)) {
      NodePtr right = (this->*next)();
      if (!right) return nullptr;
      auto node = std::make_shared<Node>();
      node->kind = kind, node->left = left, node->right = right;
      left = node;
    }
    return left;
  }
  NodePtr all() { return chain(Node::kAnd, "and", &MarkerParser::comparison); }
  NodePtr any() { return chain(Node::kOr, "or", &MarkerParser::all); }
};

bool compare(const std::string& a, const std::string& op, const std::string& b) {
  if (op == "in") return b.find(a) != b.npos;
  if (op == "not in") return b.find(a) == b.npos;
  Result<Specifier> spec = Specifier::parse(op + b);
  Result<Version> version = Version::parse(a);
  if (spec && version) return spec->admits(*version, true);
  if (op == "==" || op == "===") return a == b;
  if (op == "!=") return a != b;
  if (op == "<" || op == ">") return false;  // of strings: as the packaging library decides
  return (op == "<=" || op == ">=") && a == b;
}

bool evaluate(const Node& node, const Marker::Environment& environment) {
  if (node.kind == Node::kAnd) return evaluate(*node.left, environment) && evaluate(*node.right, environment);
  if (node.kind == Node::kOr) return evaluate(*node.left, environment) || evaluate(*node.right, environment);
  const auto get = [&](const std::string& text, bool variable) {
    if (!variable) return text;
    const auto found = environment.find(text);
    return found == environment.end() ? std::string() : found->second;
  };
  std::string a = get(node.a, node.a_is_variable), b = get(node.b, node.b_is_variable);
  if (node.a == "extra" || node.b == "extra") a = normal_name(a), b = normal_name(b);
  return compare(a, node.op, b);
}

}  // namespace

Result<Marker> Marker::parse(std::string_view text) {
  MarkerParser parser{{text}};
  Marker marker;
  marker.root_ = parser.any();
  parser.c.skip();
  if (!marker.root_ || !parser.c.rest.empty()) return Error{"not an environment marker: `" + printable(text) + "`", ""};
  return marker;
}

bool Marker::holds(const Environment& environment) const { return !root_ || evaluate(*root_, environment); }

Result<Requirement> Requirement::parse(std::string_view text) {
  const Error bad{"not a requirement: `" + printable(text) + "`", ""};
  Cursor c{text};
  Requirement out;
  out.name = c.take_word();
  if (!is_project_name(out.name)) return bad;
  if (c.take("[")) {
    while (!c.take("]")) {
      if (!out.extras.empty() && !c.take(",")) return bad;
      const std::string_view extra = c.take_word();
      if (!is_project_name(extra)) return bad;
      out.extras.emplace_back(extra);
    }
  }
  if (c.take("@")) {
    c.skip();
    const size_t end = std::min(c.rest.find_first_of(" \t"), c.rest.size());
    out.url = c.rest.substr(0, end);
    c.rest.remove_prefix(end);
    if (out.url.empty()) return bad;
  } else {
    const size_t semicolon = std::min(c.rest.find(';'), c.rest.size());
    std::string_view versions = trim(c.rest.substr(0, semicolon));
    c.rest.remove_prefix(semicolon);
    if (versions.starts_with('(') && versions.ends_with(')')) versions = versions.substr(1, versions.size() - 2);
    Result<Specifier> spec = Specifier::parse(versions);
    if (!spec) return spec.error();
    out.versions = *spec;
  }
  if (c.take(";")) {
    out.marker_text = trim(c.rest);
    Result<Marker> marker = Marker::parse(out.marker_text);
    if (!marker) return marker.error();
    out.marker = *marker;
  } else if (!trim(c.rest).empty()) {
    return bad;
  }
  return out;
}

}  // namespace clary::tool
