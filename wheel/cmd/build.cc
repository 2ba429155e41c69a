// clary build: the wheels of a plan, from sources that are never touched.
#include <algorithm>
#include <cstdlib>

#include "wheel/cmd/cmd.h"
#include "wheel/core/build.h"
#include "wheel/core/host.h"
#include "wheel/core/scan.h"

namespace clary::tool {
namespace {

// "330m", "6h", "90s", "20" (minutes).
Result<int> parse_cap(const std::string& text) {
  const std::string digits = text.substr(0, text.find_first_not_of("0123456789")), unit = text.substr(digits.size());
  const int scale = unit == "s" ? 1 : unit == "m" || unit.empty() ? 60 : unit == "h" ? 3600 : 0;
  if (!is_digits(digits) || digits.size() > 5 || !scale)
    return Error{"not a time: `" + printable(text) + "`", "such as --cap 330m"};
  return std::atoi(digits.c_str()) * scale;
}

// The recipe of the sources; without one, what `clary init` would write.
Result<Recipe> recipe_of(Ctx& ctx, RecipeChoice& o, const std::string& source, const std::optional<Python>& python) {
  if (o.recipe.empty() && ctx.disk.info(source + "/clary.toml")) o.recipe = source + "/clary.toml";
  if (!o.recipe.empty() || ctx.disk.info("clary.toml")) return choose_recipe(ctx, o);
  const Result<SourceFacts> facts = scan_source(ctx, source);
  if (!facts) return facts.error();
  if (facts->version.empty() && o.version.empty())
    return Error{"no version found in " + source, "say it: --version 1.2.3, or write it into clary.toml: clary init"};
  ctx.err.write("no clary.toml: using what `clary init` would write\n");
  Result<Recipe> recipe = parse_recipe(recipe_text(*facts, python ? python->minor() : "3.12"), "clary.toml");
  if (!recipe) return recipe;
  return sharpen_recipe(ctx, *std::move(recipe), o);
}

// An environment that is used as it is says which Python, torch and CUDA are meant.
void follow_environment(Ctx& ctx, const Python& python, RecipeChoice& o) {
  const std::optional<InstalledTorch> torch = torch_in(ctx, python.site);
  if (o.python.empty()) o.python = python.minor();
  if (!torch || !o.torch.empty()) return;
  o.torch = torch->version.substr(0, torch->version.find('+'));
  if (o.cuda.empty()) o.cuda = torch->cuda;
}

}  // namespace

int cmd_build(Ctx& ctx, Cli& cli) {
  RecipeChoice o;
  BuildOptions b;
  std::string only, jobs, cap = "6h";
  bool all = false, no_reuse = false;
  cli.word("CELL", only);
  cli.value("--source", "FOLDER", b.source);
  cli.value("--recipe", "FILE", o.recipe);
  cli.value("--out", "FOLDER", b.out);
  cell_options(cli, o);
  cli.value("--engine", "NAME", b.engine, engine_names());
  cli.value("--base-image", "IMAGE", o.base_image);
  cli.value("--environment", "FOLDER", b.environment);
  cli.value("--toolkit", "WHERE", b.toolkit);
  cli.value("--jobs", "N", jobs);
  cli.value("--cap", "TIME", cap);
  cli.flag("--all", all);
  cli.flag("--fix", b.fix);
  cli.flag("--no-reuse", no_reuse);
  if (!cli.parse()) return cli.exit_code();
  b.source = absolute(ctx, b.source), b.out = absolute(ctx, b.out), b.reuse = !no_reuse;
  if (!b.environment.empty()) b.environment = absolute(ctx, b.environment);
  const Result<int> seconds = parse_cap(cap);
  if (!seconds) return fail(ctx, seconds.error());
  if (!jobs.empty() && (!is_digits(jobs) || jobs.size() > 4 || jobs == "0"))
    return fail(ctx, {"not a number of jobs: `" + printable(jobs) + "`", ""});
  b.seconds = *seconds, b.jobs = std::atoi(jobs.c_str());
  const Engine& engine = *find_engine(b.engine);
  if (*engine.program && !ctx.proc.find(engine.program))
    return fail(ctx,
                {std::string("not on this machine: ") + engine.program,
                 "clary doctor lists what there is; --engine local needs none"},
                kFinding);

  std::optional<Python> python;
  if (!b.environment.empty()) {
    Result<Python> given = ask_python(ctx, b.environment + "/bin/python");
    if (!given) return fail(ctx, given.error());
    python = *given;
    follow_environment(ctx, *python, o);
  } else if (Result<Python> usual = python_for(ctx, "")) {
    python = *usual;
  }
  Result<Recipe> recipe = recipe_of(ctx, o, b.source, python);
  if (!recipe) return fail(ctx, recipe.error());
  b.recipe_folder = absolute(ctx, o.recipe.empty() ? "." : dir_name(o.recipe));
  b.source += recipe->folder == "." ? "" : "/" + recipe->folder;
  Result<Matrix> matrix = make_matrix(*recipe, host_machine(ctx));
  if (!matrix) return fail(ctx, matrix.error());
  if (!only.empty()) std::erase_if(matrix->cells, [&](const Cell& c) { return !matches(only, c.id); });
  if (matrix->cells.empty())
    return fail(ctx,
                {"nothing to build" + (matrix->refused.empty() ? "" : ": " + matrix->refused[0].reason), "clary plan"},
                kFinding);
  if (matrix->cells.size() > 1 && !all) {
    Strings ids;
    for (const Cell& c : matrix->cells) ids.push_back(c.id);
    return fail(ctx, {"the plan has " + count(ids.size(), "cell") + ": " + join(ids, " "),
                      "name one, or build them one after another with --all"});
  }
  // From here on it is decided what is built.

  if (cli.dry_run()) {
    for (const Cell& c : matrix->cells) ctx.out.write("would build " + b.out + "/" + c.wheel + "\n");
    return kFine;
  }
  std::vector<BuildReport> reports;
  int code = kFine;
  for (const Cell& cell : matrix->cells) {
    reports.push_back(build_cell(ctx, *recipe, cell, b));
    const BuildReport& report = reports.back();
    const bool good = report.state == BuildReport::kBuilt || report.state == BuildReport::kReused;
    if (!cli.json()) ctx.out.write(report_text(report));
    if (!good) code = fail(ctx, report.refusal.value_or(Error{}), kFinding);
  }
  if (cli.json()) ctx.out.write(reports_json(reports));
  return code;
}

}  // namespace clary::tool
