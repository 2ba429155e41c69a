// A NaN in a float mask was lost in the tile's maximum (max returns its second operand when one is NaN) and its P, rint(NaN), became a
// code: a finite and wrong row in int8 and int16. A visible NaN must show.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/compare.h"

namespace clary::test {
TEST(Issue, NanInAFloatMask) {
  Instance instance({.Lq = 2, .Lk = 20, .D = 8, .Dv = 8, .mask = Mask::kF32, .mask_hidden = 0});
  instance.mask.set(0, 0, 1, 3, NAN);
  for (const cpu::Target* t : usable_targets())
    for (const char* arithmetic : {":int8", ":int16", ":f32", ":direct"}) {
      const Result r = instance.run((t->name + std::string(arithmetic)).c_str());
      for (int d = 0; d < 8; d++) {
        EXPECT_TRUE(std::isfinite(r.out[d])) << r.variant;
        EXPECT_FALSE(std::isfinite(r.out[8 + d])) << r.variant;
      }
    }
}
}  // namespace clary::test
