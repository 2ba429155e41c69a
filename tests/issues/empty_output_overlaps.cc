// An output without elements was refused as overlapping itself: NumPy gives shape [2, 4, 0, 16] the strides (0, 0, 16, 1).
#include <gtest/gtest.h>

#include "tests/compare.h"

namespace clary::test {
TEST(Issue, EmptyOutputOverlaps) {
  EXPECT_EQ(check({.B = 2, .Hq = 4, .Hkv = 2, .Lq = 0, .Lk = 7, .D = 16, .Dv = 16}), "");
}
}  // namespace clary::test
