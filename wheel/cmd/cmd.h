// The commands of the table in main.cc, each defined in cmd/<name>.cc.
#pragma once
#include "wheel/core/cli.h"
#include "wheel/ctx.h"

namespace clary::tool {

int cmd_build(Ctx& ctx, Cli& cli);
int cmd_cache(Ctx& ctx, Cli& cli);
int cmd_completion(Ctx& ctx, Cli& cli);
int cmd_doctor(Ctx& ctx, Cli& cli);
int cmd_explain(Ctx& ctx, Cli& cli);
int cmd_index(Ctx& ctx, Cli& cli);
int cmd_init(Ctx& ctx, Cli& cli);
int cmd_inspect(Ctx& ctx, Cli& cli);
int cmd_install(Ctx& ctx, Cli& cli);
int cmd_lock(Ctx& ctx, Cli& cli);
int cmd_plan(Ctx& ctx, Cli& cli);
int cmd_publish(Ctx& ctx, Cli& cli);
int cmd_repair(Ctx& ctx, Cli& cli);
int cmd_resolve(Ctx& ctx, Cli& cli);
int cmd_sign(Ctx& ctx, Cli& cli);
int cmd_sync(Ctx& ctx, Cli& cli);
int cmd_test(Ctx& ctx, Cli& cli);
int cmd_verify(Ctx& ctx, Cli& cli);

}  // namespace clary::tool
