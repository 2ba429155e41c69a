// One machine at a time builds what several lack: a small file in the store, written only where nobody was first.
#pragma once
#include "wheel/core/store.h"

namespace clary::tool {

struct Lease {
  enum State { kMine, kTheirs, kCannotWrite } state;
  std::string holder;  // of theirs
};

// For `minutes`; a lease that ran out belongs to nobody.
Result<Lease> take_lease(Ctx& ctx, Store& store, const std::string& what, int minutes);
void give_back_lease(Ctx& ctx, Store& store, const std::string& what);

}  // namespace clary::tool
