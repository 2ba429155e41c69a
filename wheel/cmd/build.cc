// clary build: the wheels of a plan, from sources that are never touched.
#include <algorithm>
#include <cstdlib>

#include "wheel/cmd/cmd.h"
#include "wheel/core/build.h"
#include "wheel/core/host.h"
#include "wheel/core/json.h"
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

struct BuildArgs {
  RecipeChoice choice;
  BuildOptions build;
  std::string only, jobs, cap = "6h";
  bool all = false, no_reuse = false;
};

void declare(Cli& cli, BuildArgs& a) {
  cli.word("CELL", a.only);
  cli.value("--source", "FOLDER", a.build.source);
  cli.value("--recipe", "FILE", a.choice.recipe);
  cli.value("--out", "FOLDER", a.build.out);
  cell_options(cli, a.choice);
  cli.value("--engine", "NAME", a.build.engine, engine_names());
  cli.value("--base-image", "IMAGE", a.choice.base_image);
  cli.value("--environment", "FOLDER", a.build.environment);
  cli.value("--toolkit", "WHERE", a.build.toolkit);
  cli.value("--jobs", "N", a.jobs);
  cli.value("--cap", "TIME", a.cap);
  cli.flag("--all", a.all);
  cli.flag("--fix", a.build.fix);
  cli.flag("--no-reuse", a.no_reuse);
}

// Paths made absolute, words made numbers.
Result<Done> settle(Ctx& ctx, BuildArgs& a) {
  BuildOptions& b = a.build;
  b.source = absolute(ctx, b.source), b.out = absolute(ctx, b.out), b.reuse = !a.no_reuse;
  if (!b.environment.empty()) b.environment = absolute(ctx, b.environment);
  const Result<int> seconds = parse_cap(a.cap);
  if (!seconds) return seconds.error();
  if (!a.jobs.empty() && (!is_digits(a.jobs) || a.jobs.size() > 4 || a.jobs == "0"))
    return Error{"not a number of jobs: `" + printable(a.jobs) + "`", ""};
  b.seconds = *seconds, b.jobs = std::atoi(a.jobs.c_str());
  return Done{};
}

// The environment's; else this machine's, if there is one. An environment that is used as it is says which Python, torch and
// CUDA are meant.
Result<std::optional<Python>> python_of(Ctx& ctx, const std::string& environment, RecipeChoice& o) {
  if (environment.empty()) {
    Result<Python> usual = python_for(ctx, "");
    return usual ? std::optional(*std::move(usual)) : std::nullopt;
  }
  Result<Python> given = ask_python(ctx, environment + "/bin/python");
  if (!given) return given.error();
  const std::optional<InstalledTorch> torch = torch_in(ctx, given->site);
  if (o.python.empty()) o.python = given->minor();
  if (torch && o.torch.empty()) {
    o.torch = torch->version.substr(0, torch->version.find('+'));
    if (o.cuda.empty()) o.cuda = torch->cuda;
  }
  return std::optional(*std::move(given));
}

// The one named, or that of the sources; without one, what `clary init` would write.
Result<Recipe> recipe_of(Ctx& ctx, RecipeChoice& o, const std::string& source, const std::optional<Python>& python) {
  if (const std::string own = source + "/clary.toml"; o.recipe.empty() && ctx.disk.info(own)) o.recipe = own;
  if (!o.recipe.empty()) return choose_recipe(ctx, o);
  const Result<SourceFacts> facts = scan_source(ctx, source);
  if (!facts) return facts.error();
  if (facts->version.empty() && o.version.empty())
    return Error{"no version found in " + source, "say it: --version 1.2.3, or write it into clary.toml: clary init"};
  ctx.err.write("no clary.toml: using what `clary init` would write\n");
  Result<Recipe> recipe = parse_recipe(recipe_text(*facts, python ? python->minor() : "3.12"), "clary.toml");
  if (!recipe) return recipe;
  return sharpen_recipe(ctx, *std::move(recipe), o);
}

int build_cells(Ctx& ctx, const Cli& cli, const Recipe& recipe, const std::vector<Cell>& cells, const BuildOptions& b) {
  std::vector<BuildReport> reports;
  int code = kFine;
  for (const Cell& cell : cells) {
    reports.push_back(build_cell(ctx, recipe, cell, b));
    const BuildReport& report = reports.back();
    const bool good = report.state == BuildReport::kBuilt || report.state == BuildReport::kReused;
    if (!cli.json()) ctx.out.write(report_text(report));
    if (!good) code = fail(ctx, report.refusal.value_or(Error{}), kFinding);
  }
  if (cli.json()) ctx.out.write(reports_json(reports));
  return code;
}

}  // namespace

int cmd_build(Ctx& ctx, Cli& cli) {
  BuildArgs a;
  declare(cli, a);
  if (!cli.parse()) return cli.exit_code();
  BuildOptions& b = a.build;
  if (Result<Done> good = settle(ctx, a); !good) return fail(ctx, good.error());
  const Engine& engine = *find_engine(b.engine);
  if (*engine.program && !ctx.proc.find(engine.program))
    return fail(ctx,
                {std::string("not on this machine: ") + engine.program,
                 "clary doctor lists what there is; --engine local needs none"},
                kFinding);
  const Result<std::optional<Python>> python = python_of(ctx, b.environment, a.choice);
  if (!python) return fail(ctx, python.error());
  const Result<Recipe> recipe = recipe_of(ctx, a.choice, b.source, *python);
  if (!recipe) return fail(ctx, recipe.error());
  b.recipe_folder = a.choice.recipe.empty() ? b.source : absolute(ctx, dir_name(a.choice.recipe));
  b.source += recipe->folder == "." ? "" : "/" + recipe->folder;
  // From here on it is known what can be built, with what.

  Result<Matrix> matrix = make_matrix(*recipe, host_machine(ctx));
  if (!matrix) return fail(ctx, matrix.error());
  std::vector<Cell>& cells = matrix->cells;
  if (!a.only.empty()) std::erase_if(cells, [&](const Cell& c) { return !matches(a.only, c.id); });
  if (cells.empty())
    return fail(ctx,
                {"nothing to build" + (matrix->refused.empty() ? "" : ": " + matrix->refused[0].reason), "clary plan"},
                kFinding);
  if (cells.size() > 1 && !a.all) {
    Strings ids;
    for (const Cell& c : cells) ids.push_back(c.id);
    return fail(ctx, {"the plan has " + count(ids.size(), "cell") + ": " + join(ids, " "),
                      "name one, or build them one after another with --all"});
  }
  // From here on it is decided what is built.

  if (!cli.dry_run()) return build_cells(ctx, cli, *recipe, cells, b);
  Strings wheels;
  for (const Cell& c : cells) wheels.push_back(b.out + "/" + c.wheel);
  if (cli.json())
    ctx.out.write(dump({{"schema", "clary-build/1"}, {"dry_run", true}, {"wheels", wheels}}));
  else
    ctx.out.write("would build " + join(wheels, "\nwould build ") + "\n");
  return kFine;
}

}  // namespace clary::tool
