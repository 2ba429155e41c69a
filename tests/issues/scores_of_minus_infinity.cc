// Finite q and k whose scores overflow to -inf in f32: the row's maximum was -inf, which meant "no key visible", and the row came out as
// 0 with lse -inf. Fuzzing found it: sizes of 3e38 on one side only.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/compare.h"

namespace clary::test {
TEST(Issue, ScoresOfMinusInfinity) {
  for (const char* arithmetic : {"int8", "int16", "f32", "direct"}) {
    Instance instance({.Lq = 6, .Lk = 9, .D = 4, .Dv = 4});
    for (int64_t d = 0; d < 4; d++) {
      for (int64_t i = 0; i < 6; i++) instance.q.set(0, 0, i, d, 10);
      for (int64_t j = 0; j < 9; j++) instance.k.set(0, 0, j, d, -3e38f);
    }
    const reference::Exact exact = reference::exact(instance.problem());
    for (const cpu::Target* t : usable_targets()) {
      const Result r = instance.run((std::string(t->name) + ":" + arithmetic).c_str());
      for (size_t i = 0; i < r.out.size(); i++)
        EXPECT_FLOAT_EQ(r.out[i], static_cast<float>(exact.out[i])) << r.variant;
      for (float x : r.lse) EXPECT_TRUE(std::isfinite(x) && x < -1e38f) << r.variant << " " << x;
    }
  }
}
// With an infinity in k every score is -inf or NaN: SDPA gives NaN, and so must every arithmetic.
TEST(Issue, InfiniteKeysAreNotMissingKeys) {
  for (const char* arithmetic : {"int8", "int16", "f32", "direct"}) {
    Instance instance({.Lq = 6, .Lk = 1, .D = 4, .Dv = 4});
    instance.k.set(0, 0, 0, 2, -INFINITY);
    for (const cpu::Target* t : usable_targets()) {
      const Result r = instance.run((std::string(t->name) + ":" + arithmetic).c_str());
      for (float x : r.out) EXPECT_FALSE(std::isfinite(x)) << r.variant;
    }
  }
}
}  // namespace clary::test
