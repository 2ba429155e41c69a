// The direct path took keys in steps of 16 and left the scores behind the last key as whatever the scratch held. A NaN there, hidden by
// -inf, replaced the running maximum on targets with fewer than 16 lanes: the row came out as one that sees no key. Only a
// scratch full of NaN and fewer keys than a step showed it.
#include <gtest/gtest.h>

#include "tests/compare.h"

namespace clary::test {
TEST(Issue, DirectTailOfKeys) {
  for (const int64_t Lk : {1, 2, 9, 17}) EXPECT_EQ(check({.Lq = 3, .Lk = Lk, .D = 16, .Dv = 12}, "direct"), "");
}
}  // namespace clary::test
