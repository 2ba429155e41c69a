// The table of bounds: every accuracy, on every target, against attention in f64.
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "tests/compare.h"

namespace clary::test {
namespace {

struct Row {
  Data data;
  const char* name;
  int32_t accuracy;
};
class Numerics : public testing::TestWithParam<Row> {};

// f64 attention of a case, once for all accuracies.
const reference::Exact& exact_of(const Instance& instance, const Row& row) {
  static std::map<std::tuple<Data, int64_t, int64_t, int32_t, uint64_t>, reference::Exact> done;
  const auto key = std::make_tuple(row.data, instance.c.D, instance.c.Lk, instance.c.dtype, instance.c.seed);
  const auto found = done.find(key);
  return found != done.end() ? found->second : done.emplace(key, reference::exact(instance.problem())).first->second;
}

// Enough rows and keys that the error is that of long sequences: 16 tiles, two chunks of the mean.
Case table_case(const Row& row, int64_t D, uint64_t seed) {
  return {.seed = seed, .Lq = 64, .Lk = 2048, .D = D, .Dv = D, .accuracy = row.accuracy, .data = row.data};
}

TEST_P(Numerics, BoundsHoldOnEveryTarget) {
  for (const int64_t D : {64, 128, 256})
    for (uint64_t seed = 1; seed <= 2; seed++) {
      const Case c = table_case(GetParam(), D, seed);
      Instance instance(c);
      const reference::Exact& exact = exact_of(instance, GetParam());
      for (const cpu::Target* t : usable_targets()) {
        const Result r = instance.run(t->name);
        ASSERT_EQ(r.status, CLARY_OK) << r.error;
        const double error = relative_l2(r.out, exact.out), lse_error = largest_difference(r.lse, exact.lse);
        EXPECT_LE(error, bound(c.accuracy, GetParam().name)) << r.variant << " " << text(c);
        EXPECT_LE(lse_error, lse_bound(c.accuracy, GetParam().name)) << r.variant << " " << text(c);
        if (seed == 1 && t == usable_targets().back())
          std::printf("%-8s %-8s D=%-3lld relative L2 %.2e of %.2e, lse %.2e of %.2e\n", accuracy_name(c.accuracy),
                      GetParam().name, static_cast<long long>(D), error, bound(c.accuracy, GetParam().name), lse_error,
                      lse_bound(c.accuracy, GetParam().name));
      }
    }
}

TEST_P(Numerics, SixteenBitOutputsAddTheirRoundingOnly) {
  for (const int32_t dtype : {CLARY_F16, CLARY_BF16}) {
    Case c = table_case(GetParam(), 64, 3);
    c.Lk = 1024;
    c.dtype = c.out_dtype = dtype;
    Instance instance(c);
    const reference::Exact& exact = exact_of(instance, GetParam());
    const Result r = instance.run();
    ASSERT_EQ(r.status, CLARY_OK) << r.error;
    EXPECT_LE(relative_l2(r.out, exact.out), bound(c.accuracy, GetParam().name) + rounding(dtype)) << text(c);
  }
}

const Row kRows[] = {
    {Data::kNormal, "normal", CLARY_EXACT},    {Data::kOutlier, "outlier", CLARY_EXACT},
    {Data::kNormal, "normal", CLARY_HIGH},     {Data::kOutlier, "outlier", CLARY_HIGH},
    {Data::kNormal, "normal", CLARY_STANDARD}, {Data::kOutlier, "outlier", CLARY_STANDARD},
    {Data::kNormal, "normal", CLARY_FAST},     {Data::kOutlier, "outlier", CLARY_FAST},
};
INSTANTIATE_TEST_SUITE_P(Table, Numerics, testing::ValuesIn(kRows), [](const auto& info) {
  return std::string(accuracy_name(info.param.accuracy)) + "_" + info.param.name;
});

// Quantisation noise is not a bias: over many rows the errors of a constant V cancel to nothing, and a row of equal keys is exact.
TEST(NumericsOf, ConstantValuesComeBack) {
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_HIGH, CLARY_EXACT}) {
    Instance instance({.Lq = 64, .Lk = 500, .D = 64, .Dv = 16, .accuracy = accuracy});
    for (int64_t j = 0; j < 500; j++)
      for (int64_t d = 0; d < 16; d++) instance.v.set(0, 0, j, d, static_cast<float>(d - 7));
    for (const cpu::Target* t : usable_targets()) {
      const Result r = instance.run(t->name);
      for (size_t i = 0; i < r.out.size(); i++)
        ASSERT_NEAR(r.out[i], static_cast<double>(i % 16) - 7, 7 * bound(CLARY_EXACT, "normal")) << t->name;
    }
  }
}

}  // namespace
}  // namespace clary::test
