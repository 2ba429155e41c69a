// Keys as commands take them.
#pragma once
#include "wheel/core/minisign.h"
#include "wheel/ctx.h"

namespace clary::tool {

// Of --key, else of the file CLARY_KEY names; none: neither. Its password is CLARY_KEY_PASSWORD's.
Result<std::optional<SecretKey>> secret_key(Ctx& ctx, const std::string& path);
Result<PublicKey> public_key(Ctx& ctx, const std::string& text);  // the line, or a file

}  // namespace clary::tool
