#include "wheel/cmd/options.h"

#include <map>

namespace clary::tool {

void take_source(Cli& cli, SourceOptions& to) {
  cli.value("--from", "SOURCE", to.from);
  cli.value("--key", "KEY", to.key);
  cli.flag("--signed", to.signed_only);
}

void take_target(Cli& cli, TargetChoice& to) {
  cli.value("--python", "PYTHON", to.python);
  cli.value("--platform", "PLATFORM", to.platform);
  cli.value("--torch", "VERSION", to.torch);
  cli.value("--cuda", "VERSION", to.cuda);
  cli.value("--driver", "VERSION", to.driver);
  cli.value("--gpu", "LIST", to.gpu);
}

void warn(Ctx& ctx, const std::string& text) {
  if (text.empty()) return;
  ctx.err.write((ctx.err.colour ? "\x1b[1;33mwarning\x1b[0m: " : "warning: ") + text + "\n");
}

Error none_fits(const std::vector<Candidate>& candidates, const Wish& wish, const std::string& source) {
  const std::string what = wish.name.empty() ? "wheel" : wish.name + wish.versions.str();
  std::map<std::string, size_t> rules;
  for (const Candidate& c : candidates) rules[c.rule]++;
  // Of those that fail latest: they come nearest.
  static constexpr const char* kHints[][2] = {
      {"size", "free some disk space"},
      {"gpu", "this GPU needs a wheel of its own: clary build, or ask the publisher"},
      {"driver", "install a newer GPU driver, or a wheel of an older CUDA"},
      {"cuda", "install the torch of that CUDA, or let clary choose: --any-torch"},
      {"cxx11-abi", "install the torch release the wheel was built with"},
      {"torch", "--any-torch installs the torch that the wheel needs"},
      {"python", "use a Python that the wheels are for, or clary build"},
      {"floor", "use a newer system or image"},
      {"platform", "none is for this system: clary build"},
      {"yanked", "all were withdrawn"},
      {"version", "clary resolve without a version lists what there is"}};
  for (const auto& [rule, hint] : kHints) {
    if (!rules[rule]) continue;
    for (const Candidate& c : candidates) {
      if (c.rule == rule)
        return {"no " + what + " of " + source + " fits: " + printable(c.wheel->file) + ": " + printable(c.reason),
                hint};
    }
  }
  return {"no " + what + " at " + source, "clary resolve --from " + shell(source) + " lists what there is"};
}

}  // namespace clary::tool
