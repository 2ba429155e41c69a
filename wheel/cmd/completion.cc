// clary completion: what a shell needs to finish a half-typed command.
#include "wheel/cmd/cmd.h"
#include "wheel/command.h"
#include "wheel/core/shells.h"

namespace clary::tool {

int cmd_completion(Ctx& ctx, Cli& cli) {
  std::string shell_name;
  cli.word("SHELL", shell_name, {"bash", "zsh", "fish"});
  if (!cli.parse()) return cli.exit_code();
  if (shell_name.empty())
    return fail(
        ctx, {"missing argument: SHELL", "clary completion bash > ~/.local/share/bash-completion/completions/clary"});

  std::vector<DescribedCommand> all;
  for (const Command& command : commands()) {
    Cli described(ctx, command.name, {});
    described.describe_only();
    command.run(ctx, described);
    all.push_back({command.name, described.options()});
  }
  const auto script = shell_name == "bash" ? bash_completion : shell_name == "zsh" ? zsh_completion : fish_completion;
  ctx.out.write(script(all));
  return kFine;
}

}  // namespace clary::tool
