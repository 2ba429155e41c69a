// Keys of 1e20 all alike: the codes of k less its mean are small and out is right, but the mean's share of lse overflowed to inf - inf.
// Only out was looked at for values that are not finite.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/compare.h"

namespace clary::test {
TEST(Issue, LseBeyondF32) {
  const Case c{.Lq = 6, .Lk = 140, .D = 16, .Dv = 8, .data = Data::kEqual, .q_size = 1e20f, .k_size = 1e20f};
  for (const char* arithmetic : {"int8", "int16", "f32", "direct"}) {
    EXPECT_EQ(check(c, arithmetic), "");
    Instance instance(c);
    for (float x : instance.run((std::string("scalar:") + arithmetic).c_str()).lse) EXPECT_TRUE(std::isfinite(x));
  }
}
}  // namespace clary::test
