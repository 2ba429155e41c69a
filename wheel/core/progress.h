// A line on a terminal that says how far a transfer is; nothing anywhere else.
#pragma once
#include "wheel/ctx.h"

namespace clary::tool {

class Progress {
 public:
  Progress(Ctx& ctx, std::string what, uint64_t size) : ctx_(ctx), what_(std::move(what)), size_(size) {}
  ~Progress();  // the line is wiped
  void at(uint64_t bytes);

 private:
  Ctx& ctx_;
  std::string what_;
  uint64_t size_, shown_ = 0;
  bool begun_ = false;
};

}  // namespace clary::tool
