// The arguments of one command. A command declares what it takes, then parses:
//
//   cli.files("FILE", files);
//   cli.flag("--symbols", symbols);
//   cli.value("--policy", "NAME", policy);
//   if (!cli.parse()) return cli.exit_code();
//
// --help, --json and --dry-run are every command's. Help is the command's page, docs/cli/<name>.md. The same declarations
// feed `clary completion` and the test that every option is on its page.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "wheel/ctx.h"

namespace clary::tool {

struct CliOption {
  std::string name;         // "--policy"; positionals: "FILE"
  std::string placeholder;  // of its value; empty: a flag
  Strings choices;          // of its value; empty: anything
  bool positional = false;
};

class Cli {
 public:
  Cli(Ctx& ctx, std::string command, Strings args);
  ~Cli();

  void files(const char* placeholder, Strings& to, bool required = true);     // positionals, one or more
  void word(const char* placeholder, std::string& to, Strings choices = {});  // one optional positional
  void flag(const char* name, bool& to);
  void value(const char* name, const char* placeholder, std::string& to, Strings choices = {});
  void values(const char* name, const char* placeholder, Strings& to);  // may be given several times

  // False: the command is done, with exit_code(): help was printed, the arguments are wrong, or only a description is wanted.
  bool parse();
  int exit_code() const { return exit_code_; }
  bool json() const { return json_; }
  bool dry_run() const { return dry_run_; }
  const std::string& command() const { return command_; }

  // Instead of parsing: collect the declarations.
  void describe_only() { describe_only_ = true; }
  const std::vector<CliOption>& options() const { return options_; }

 private:
  struct Parser;
  int wrong(const std::string& message, const std::string& word);

  Ctx& ctx_;
  std::string command_;
  Strings args_;
  std::vector<CliOption> options_;
  std::unique_ptr<Parser> parser_;
  bool help_ = false, json_ = false, dry_run_ = false, describe_only_ = false;
  int exit_code_ = kFine;
};

// A page of docs/cli as it reads on a terminal.
std::string help_page(std::string_view name);
std::string help_summary(std::string_view name);  // the first sentence, for the list of commands

}  // namespace clary::tool
