// One chosen wheel from where it is offered into an environment: through the cache, proven, then installed. What resolve
// chose and what a lock file says both end here.
#pragma once
#include "wheel/core/cache.h"
#include "wheel/core/environment.h"
#include "wheel/core/source.h"

namespace clary::tool {

struct Delivery {
  std::string project{}, version{}, file{}, sha256{};
  uint64_t size = 0;
  Strings addresses{};  // https, or paths
  std::string token{}, token_origin{};
  Stack stack{};
  std::string source{};
  int64_t serial = 0;
  Strings pinned{};  // variables of the environment that decided
};
Delivery delivery_of(const Offer& offer, const WheelEntry& wheel);

// The verified file, held in the cache.
Result<Cache::Held> fetch_wheel(Ctx& ctx, const Delivery& what);

// True: it was not there before. `replace`: even if it is.
Result<bool> deliver(Ctx& ctx, Environment& environment, const Delivery& what, bool replace);

}  // namespace clary::tool
