// clary explain: what a rule or an error message means, and what repairs it.
#include <algorithm>

#include "wheel/cmd/cmd.h"
#include "wheel/core/catalog.h"
#include "wheel/core/finding.h"
#include "wheel/core/json.h"
#include "wheel/core/table.h"

namespace clary::tool {
namespace {

std::string severity_of(const Entry& entry) {
  const Rule* rule = find_rule(entry.code);
  return rule ? severity_name(rule->severity) : "";
}

std::string page(const Answer& a) {
  std::string out =
      a.entry->code + (a.entry->is_rule ? " (" + severity_of(*a.entry) + ")" : "") + ": " + a.entry->title + "\n";
  if (a.line) out += format("line %zu: ", a.line) + printable(trim(a.text)).substr(0, 200) + "\n";
  return out + "\n" + a.entry->body + "\n";
}

Json to_json(const Answer& a) {
  Json out = {{"code", a.entry->code}, {"title", a.entry->title}, {"explanation", a.entry->body}};
  if (a.entry->is_rule) out["severity"] = severity_of(*a.entry);
  if (a.line) out["line"] = a.line, out["text"] = a.text;
  return out;
}

std::string list() {
  Table rules({"rule", "severity", "what holds in a good wheel"}), errors({"error", "what it is"});
  for (const Entry& e : catalog()) {
    if (e.is_rule)
      rules.row({e.code, severity_of(e), e.title});
    else
      errors.row({e.code, e.title});
  }
  return rules.str() + "\n" + errors.str();
}

}  // namespace

int cmd_explain(Ctx& ctx, Cli& cli) {
  Strings words;
  std::string log;
  cli.files("CODE", words, false);
  cli.value("--log", "FILE", log);
  if (!cli.parse()) return cli.exit_code();
  if (words == Strings{"-"}) words.clear(), log = "-";

  std::vector<Answer> answers;
  for (const std::string& word : words) {
    const std::vector<Answer> found = look_up(word);
    answers.insert(answers.end(), found.begin(), found.end());
    if (!found.empty()) continue;
    if (word.find(' ') != word.npos)
      return fail(ctx,
                  {"no known error in this text", "clary doctor --bundle report.txt gathers what a bug report needs"},
                  kFinding);
    Strings codes;
    for (const Entry& e : catalog()) codes.push_back(e.code);
    const std::string near = nearest(word, codes);
    return fail(ctx, {"unknown code: `" + printable(word) + "`",
                      near.empty() ? "clary explain lists them" : "did you mean `" + near + "`?"});
  }
  if (!log.empty()) {
    const Result<std::string> text = ctx.disk.read(log == "-" ? "/dev/stdin" : log, uint64_t{64} << 20);
    if (!text) return fail(ctx, text.error());
    answers = read_log(*text);
    if (answers.empty()) return fail(ctx, {"no known error in " + (log == "-" ? "what was read" : log), ""}, kFinding);
  }
  if (words.empty() && log.empty()) {
    for (const Entry& e : catalog()) answers.push_back({&e, 0, ""});
    if (!cli.json()) ctx.out.write(list());
  } else if (!cli.json()) {
    for (const Answer& a : answers) ctx.out.write((&a == &answers[0] ? "" : "\n") + page(a));
  }
  if (cli.json()) {
    Json all = Json::array();
    for (const Answer& a : answers) all.push_back(to_json(a));
    ctx.out.write(dump({{"schema", "clary-explain/1"}, {"entries", all}}));
  }
  return kFine;
}

}  // namespace clary::tool
