#include "wheel/core/progress.h"

#include <algorithm>

namespace clary::tool {

void Progress::at(uint64_t bytes) {
  const uint64_t step = std::max<uint64_t>(1 << 20, size_ / 200);
  if (!ctx_.err.terminal || (begun_ && bytes < shown_ + step)) return;
  shown_ = bytes, begun_ = true;
  std::string line = "\r\x1b[K" + what_ + "  " + human_bytes(bytes);
  if (size_) line += " of " + human_bytes(size_) + format("  %3d %%", static_cast<int>(100 * bytes / size_));
  ctx_.err.write(line);
}

Progress::~Progress() {
  if (begun_) ctx_.err.write("\r\x1b[K");
}

}  // namespace clary::tool
