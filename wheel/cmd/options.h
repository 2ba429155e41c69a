// Options and sentences that several commands share.
#pragma once
#include "wheel/core/cli.h"
#include "wheel/core/resolve.h"
#include "wheel/core/source.h"

namespace clary::tool {

void take_source(Cli& cli, SourceOptions& to);  // --from, --key, --signed
void take_target(Cli& cli, TargetChoice& to);   // --python, --platform, --torch, --cuda, --driver, --gpu
void warn(Ctx& ctx, const std::string& text);   // "warning: ..." unless it is empty
// Why there is no wheel: the commonest reason, and what would help.
Error none_fits(const std::vector<Candidate>& candidates, const Wish& wish, const std::string& source);

}  // namespace clary::tool
