// CLI11 takes the arguments apart; messages, help and exit codes are ours.
#include "wheel/core/cli.h"

#include <CLI/CLI.hpp>

#include "wheel/core/embed.h"
#include "wheel/core/table.h"

namespace clary::tool {

struct Cli::Parser {
  CLI::App app;
};

Cli::Cli(Ctx& ctx, std::string command, Strings args)
    : ctx_(ctx), command_(std::move(command)), args_(std::move(args)), parser_(std::make_unique<Parser>()) {
  parser_->app.set_help_flag();
  flag("--json", json_);
  flag("--dry-run", dry_run_);
  parser_->app.add_flag("-h,--help", help_);
  options_.push_back({"--help", "", {}, false});
}

Cli::~Cli() = default;

void Cli::files(const char* placeholder, Strings& to, bool required) {
  CLI::Option* option = parser_->app.add_option(placeholder, to);
  if (required) option->required();
  options_.push_back({placeholder, placeholder, {}, true});
}

void Cli::word(const char* placeholder, std::string& to, Strings choices) {
  parser_->app.add_option(placeholder, to);
  options_.push_back({placeholder, placeholder, std::move(choices), true});
}

void Cli::flag(const char* name, bool& to) {
  parser_->app.add_flag(name, to);
  options_.push_back({name, "", {}, false});
}

void Cli::value(const char* name, const char* placeholder, std::string& to, Strings choices) {
  parser_->app.add_option(name, to);
  options_.push_back({name, placeholder, std::move(choices), false});
}

void Cli::values(const char* name, const char* placeholder, Strings& to) {
  parser_->app.add_option(name, to)->expected(1)->take_all();
  options_.push_back({name, placeholder, {}, false});
}

int Cli::wrong(const std::string& message, const std::string& word) {
  Strings names;
  for (const CliOption& option : options_) {
    if (!option.positional) names.push_back(option.name);
  }
  const std::string near = word.starts_with("-") ? nearest(word, names) : "";
  return fail(ctx_, {message, near.empty() ? "clary " + command_ + " --help" : "did you mean `" + near + "`?"});
}

bool Cli::parse() {
  if (describe_only_) return false;
  for (const std::string& arg : args_) {  // before anything is checked: help must always come
    if (arg == "--") break;
    if (arg != "-h" && arg != "--help") continue;
    ctx_.out.write(help_page(command_));
    return false;
  }
  Strings reversed(args_.rbegin(), args_.rend());
  try {
    parser_->app.parse(reversed);
  } catch (const CLI::ExtrasError&) {
    const Strings rest = parser_->app.remaining();
    const std::string word = rest.empty() ? "" : rest[0];
    const bool option = word.starts_with("-");
    exit_code_ = wrong((option ? "unknown option: `" : "unexpected argument: `") + printable(word) + "`",
                       word.substr(0, word.find('=')));
    return false;
  } catch (const CLI::RequiredError&) {
    std::string missing;
    for (const CliOption& option : options_) {
      if (option.positional) missing = option.name;
    }
    exit_code_ = wrong("missing argument: " + missing, "");
    return false;
  } catch (const CLI::ParseError& error) {
    exit_code_ =
        wrong(replace_all(lower(error.what()).substr(0, 1) + std::string(error.what()).substr(1), "\n", " "), "");
    return false;
  }
  for (const CliOption& option : options_) {
    if (option.choices.empty()) continue;
    const CLI::Option* parsed = parser_->app.get_option_no_throw(option.name);
    for (const std::string& given : parsed ? parsed->results() : Strings{}) {
      if (std::find(option.choices.begin(), option.choices.end(), given) != option.choices.end()) continue;
      const std::string near = nearest(given, option.choices);
      exit_code_ = fail(
          ctx_, {"unknown value of " + option.name + ": `" + printable(given) + "`",
                 (near.empty() ? "" : "did you mean `" + near + "`? ") + "there are: " + join(option.choices, ", ")});
      return false;
    }
  }
  return true;
}

namespace {

// [text](target) reads text.
std::string without_links(std::string text) {
  for (size_t open = text.find("]("); open != text.npos; open = text.find("](", open)) {
    const size_t close = text.find(')', open), begin = text.rfind('[', open);
    if (close == text.npos || begin == text.npos) break;
    text.replace(begin, close - begin + 1, text.substr(begin + 1, open - begin - 1));
    open = begin;
  }
  return text;
}

// "| a | b |" of a Markdown table: a, b.
Strings cells(std::string_view line) {
  Strings out;
  for (std::string_view cell : split(line.substr(1, line.rfind('|') - 1), '|')) out.emplace_back(trim(cell));
  return out;
}

}  // namespace

std::string help_page(std::string_view name) {
  std::string out;
  bool code = false, blank = true;
  const std::vector<std::string_view> page = lines(embedded("docs/cli/" + std::string(name) + ".md"));
  for (size_t i = 0; i < page.size(); i++) {
    std::string_view line = page[i];
    if (line.starts_with("```")) {
      code = !code;
      continue;
    }
    if (!code && line.starts_with("|") && i + 1 < page.size() && page[i + 1].starts_with("|--")) {
      Table table({});
      for (i += 2; i < page.size() && page[i].starts_with("|"); i++)
        table.row(cells(without_links(std::string(page[i]))));
      out += table.str("  ");
      i--, blank = false;
      continue;
    }
    std::string text(line);
    if (code) {
      text = "  " + text;
    } else {
      const size_t hashes = std::min(line.find_first_not_of('#'), line.size());
      text = without_links(hashes > 0 ? std::string(trim(line.substr(hashes))) + (hashes == 2 ? ":" : "") : text);
    }
    const bool empty = trim(text).empty();
    if (empty && blank) continue;
    blank = empty;
    out += (empty ? "" : text) + "\n";
  }
  return out;
}

std::string help_summary(std::string_view name) {
  for (std::string_view line : lines(embedded("docs/cli/" + std::string(name) + ".md"))) {
    if (!line.starts_with("# ")) continue;
    const size_t colon = line.find(": ");
    return std::string(colon == line.npos ? line.substr(2) : line.substr(colon + 2));
  }
  return "";
}

}  // namespace clary::tool
