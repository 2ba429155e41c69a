// clary plan: which wheels there will be, under which names, and what building them takes.
#include "wheel/cmd/cmd.h"
#include "wheel/core/emit.h"
#include "wheel/core/host.h"

namespace clary::tool {
namespace {

constexpr Machine kGithubRunner{4, 16000};

std::string why_empty(const Matrix& matrix) {
  return "nothing to build" + (matrix.refused.empty() ? "" : ": " + matrix.refused[0].reason);
}

Result<std::string> render(const Matrix& matrix, const Recipe& recipe, const Machine& machine,
                           const std::string& form) {
  if (form == "json") return plan_json(matrix, recipe, machine);
  if (form == "github") return plan_github(matrix);
  if (form == "table") return plan_table(matrix, recipe);
  if (matrix.cells.empty()) return Error{why_empty(matrix), ""};
  if (form == "cibuildwheel") return plan_cibuildwheel(matrix);
  if (form == "compose") return plan_compose(matrix);
  return plan_dockerfile(matrix);
}

}  // namespace

int cmd_plan(Ctx& ctx, Cli& cli) {
  RecipeChoice o;
  std::string only, form = "table", shard_text, machine_text;
  bool strict = false;
  cli.value("--recipe", "FILE", o.recipe);
  cli.value("--name", "NAME", o.name);
  cell_options(cli, o);
  cli.value("--only", "PATTERN", only);
  cli.value("--shard", "I/N", shard_text);
  cli.value("--machine", "CxG", machine_text);
  cli.value("--base-image", "IMAGE", o.base_image);
  cli.value("--format", "FORM", form, {"table", "json", "github", "cibuildwheel", "compose", "dockerfile"});
  cli.flag("--strict", strict);
  if (!cli.parse()) return cli.exit_code();
  if (cli.json()) form = "json";

  const Result<Recipe> recipe = choose_recipe(ctx, o);
  if (!recipe) return fail(ctx, recipe.error());
  const Result<Machine> machine = !machine_text.empty() ? parse_machine(machine_text)
                                  : form == "github"    ? kGithubRunner
                                                        : host_machine(ctx);
  if (!machine) return fail(ctx, machine.error());
  const Result<Shard> shard = shard_text.empty() ? Result<Shard>(Shard{}) : parse_shard(shard_text);
  if (!shard) return fail(ctx, shard.error());
  // From here on the question makes sense by itself.

  Result<Matrix> matrix = make_matrix(*recipe, *machine);
  if (!matrix) return fail(ctx, matrix.error());
  if (!only.empty()) std::erase_if(matrix->cells, [&](const Cell& c) { return !matches(only, c.id); });
  take_shard(*matrix, *shard);
  // From here on every cell can be built.

  const Result<std::string> text = render(*matrix, *recipe, *machine, form);
  if (!text) return fail(ctx, text.error(), kFinding);
  ctx.out.write(*text);
  if (matrix->cells.empty()) return fail(ctx, {why_empty(*matrix), ""}, kFinding);
  return strict && !matrix->refused.empty() ? kFinding : kFine;
}

}  // namespace clary::tool
