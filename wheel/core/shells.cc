#include "wheel/core/shells.h"

namespace clary::tool {
namespace {

Strings names_of(const DescribedCommand& command) {
  Strings out;
  for (const CliOption& o : command.options) {
    if (!o.positional) out.push_back(o.name);
  }
  return out;
}

}  // namespace

std::string bash_completion(const std::vector<DescribedCommand>& all) {
  Strings verbs;
  std::string cases, values;
  for (const DescribedCommand& command : all) {
    verbs.push_back(command.name);
    cases += "    " + command.name + ") words='" + join(names_of(command), " ") + "' ;;\n";
    for (const CliOption& o : command.options) {
      if (!o.choices.empty())
        values +=
            "    " + command.name + ":" + (o.positional ? "*" : o.name) + ") words='" + join(o.choices, " ") + "' ;;\n";
    }
  }
  return "_clary() {\n  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=''\n"
         "  if ((COMP_CWORD == 1)); then\n    COMPREPLY=($(compgen -W '" +
         join(verbs, " ") +
         " help --version' -- \"$current\"))\n    return\n  fi\n"
         "  case ${COMP_WORDS[1]}:$before in\n" +
         values +
         "  esac\n"
         "  [[ -n $words || $current != -* ]] || case ${COMP_WORDS[1]} in\n" +
         cases +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n}\ncomplete -o default -F _clary clary\n";
}

std::string zsh_completion(const std::vector<DescribedCommand>& all) {
  std::string verbs, cases;
  for (const DescribedCommand& command : all) {
    verbs += "    '" + command.name + ":" + replace_all(help_summary(command.name), "'", "'\\''") + "'\n";
    cases += "    " + command.name + ")\n      _arguments";
    for (const CliOption& o : command.options) {
      const std::string choices = o.choices.empty() ? "_files" : "(" + join(o.choices, " ") + ")";
      cases += o.positional ? " '*:" + o.name + ":" + choices + "'"
                            : " '" + o.name + (o.placeholder.empty() ? "" : "=:" + o.placeholder + ":" + choices) + "'";
    }
    cases += "\n      ;;\n";
  }
  return "#compdef clary\n_clary() {\n  local -a verbs\n  verbs=(\n" + verbs +
         "  )\n  if ((CURRENT == 2)); then\n    _describe command verbs\n    return\n  fi\n"
         "  local verb=$words[2]\n  shift words\n  ((CURRENT--))\n  case $verb in\n" +
         cases + "  esac\n}\ncompdef _clary clary\n";
}

std::string fish_completion(const std::vector<DescribedCommand>& all) {
  std::string out = "complete -c clary -f\n";
  for (const DescribedCommand& command : all) {
    out += "complete -c clary -n __fish_use_subcommand -a " + command.name + " -d " +
           shell(help_summary(command.name)) + "\n";
    for (const CliOption& o : command.options) {
      const std::string when = "complete -c clary -n '__fish_seen_subcommand_from " + command.name + "' ";
      const std::string choices = o.choices.empty() ? "" : " -a '" + join(o.choices, " ") + "'";
      if (o.positional)
        out += when + (o.choices.empty() ? "-F" : choices.substr(1)) + "\n";
      else
        out += when + "-l " + o.name.substr(2) +
               (o.placeholder.empty() ? ""
                : o.choices.empty()   ? " -r -F"
                                      : " -x" + choices) +
               "\n";
    }
  }
  return out;
}

}  // namespace clary::tool
