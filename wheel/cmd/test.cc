// clary test: whether a wheel installs, imports, loads and computes, in environments that hold nothing else.
#include <cstdlib>

#include "wheel/cmd/cmd.h"
#include "wheel/core/json.h"
#include "wheel/core/trial.h"

namespace clary::tool {
namespace {

// all: every Python here that the wheel is for; else versions ("3.12") or programs.
Result<std::vector<Python>> choose_pythons(Ctx& ctx, const FileFacts& facts, const Strings& wanted) {
  std::vector<Python> out;
  for (const std::string& word : wanted) {
    if (word == "all") {
      for (const Python& python : find_pythons(ctx)) {
        if (wheel_fits(facts, python)) out.push_back(python);
      }
      continue;
    }
    Result<Python> python = word.find('/') == word.npos ? python_for(ctx, word) : ask_python(ctx, word);
    if (!python) return python.error();
    out.push_back(*std::move(python));
  }
  if (out.empty()) {
    if (Result<Python> usual = python_for(ctx, ""); usual && wheel_fits(facts, *usual)) out.push_back(*usual);
    for (const Python& python : out.empty() ? find_pythons(ctx) : std::vector<Python>{}) {
      if (wheel_fits(facts, python) && out.empty()) out.push_back(python);
    }
  }
  if (out.empty())
    return Error{"no Python here that " + base_name(facts.path) + " is for",
                 "clary doctor lists them; --python PROGRAM names one"};
  return out;
}

std::string text_of(const Trial& trial, const std::string& wheel) {
  std::string out = (trial.failed() ? "FAIL " : "OK   ") + base_name(wheel) + " on " + trial.where + "\n";
  size_t loaded = 0;
  for (const Check& c : trial.checks) {
    loaded += c.what == "load" && c.state == "ok";
    if (c.state != "ok" || c.what == "call")
      out += "  " + c.what + (c.name.empty() ? "" : " " + c.name) + ": " + c.state +
             (c.text.empty() ? "" : ": " + printable(c.text)) + "\n";
  }
  if (loaded)
    out += "  " + thousands(loaded) + (loaded == 1 ? " library" : " libraries") + " loaded with immediate binding\n";
  return out;
}

}  // namespace

int cmd_test(Ctx& ctx, Cli& cli) {
  Strings files, pythons;
  TrialOptions o;
  std::string tolerance;
  cli.files("FILE", files);
  cli.values("--python", "PYTHON", pythons);
  cli.value("--with", "FOLDER", o.with);
  cli.values("--install", "REQUIREMENT", o.install);
  cli.value("--call", "FUNCTION", o.call);
  cli.value("--tolerance", "NUMBER", tolerance);
  cli.value("--image", "IMAGE", o.image);
  cli.flag("--gpu", o.gpu);
  cli.flag("--keep", o.keep);
  if (!cli.parse()) return cli.exit_code();
  if (!tolerance.empty()) o.tolerance = std::atof(tolerance.c_str());
  if (!o.with.empty()) o.with = absolute(ctx, o.with);

  int code = kFine;
  Json all = Json::array();
  const auto show = [&](const Trial& trial, const std::string& file) {
    if (trial.failed()) code = kFinding;
    if (!cli.json()) return ctx.out.write(text_of(trial, file));
    Json checks = Json::array();
    for (const Check& c : trial.checks)
      checks.push_back({{"what", c.what}, {"name", c.name}, {"state", c.state}, {"text", c.text}});
    all.push_back({{"file", file}, {"where", trial.where}, {"ok", !trial.failed()}, {"checks", checks}});
  };
  for (const std::string& file : files) {
    const Result<FileFacts> facts =
        read_facts(ctx, absolute(ctx, file), {.digests = true, .threads = ctx.proc.cores()});
    if (!facts) return fail(ctx, facts.error(), kFinding);
    if (!facts->wheel.name) return fail(ctx, {"not a wheel: " + file, facts->wheel.name_fault}, kFinding);
    const Result<std::vector<Python>> chosen =
        !o.image.empty() ? std::vector<Python>{} : choose_pythons(ctx, *facts, pythons);
    if (!chosen) return fail(ctx, chosen.error(), kFinding);
    // From here on it is known where the wheel is tried.

    if (cli.dry_run()) {
      const auto would_try = [&](const std::string& how, const std::string& where) {
        if (cli.json()) all.push_back({{"file", file}, {"where", where}, {"dry_run", true}});
        if (!cli.json()) ctx.out.write("would try " + base_name(file) + how + where + "\n");
      };
      for (const Python& p : *chosen) would_try(" on ", "Python " + p.version);
      if (!o.image.empty()) would_try(" in ", o.image);
      continue;
    }
    if (!o.image.empty()) {
      const Result<Trial> trial = try_in_container(ctx, *facts, o);
      if (!trial) return fail(ctx, trial.error(), kFinding);
      show(*trial, file);
    }
    for (const Python& python : *chosen) {
      const Result<Trial> trial = try_wheel(ctx, *facts, python, o);
      if (!trial) return fail(ctx, trial.error(), kFinding);
      show(*trial, file);
    }
  }
  if (cli.json()) ctx.out.write(dump({{"schema", "clary-test/1"}, {"trials", all}}));
  return code;
}

}  // namespace clary::tool
