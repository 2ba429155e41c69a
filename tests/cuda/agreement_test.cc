// A GPU's attention beside the emulation of its kernels on the host, from the same codes.
//
// Integers are exact on both: S always, T wherever P is. P differs by one code where ex2.approx and exp2 round to different sides, and f32 in its
// last bits; numerics.def says how far that may go. The codes themselves are compared with f64 in quantise_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "attention_check.h"
#include "tests/bounds.h"
#include "tests/compare.h"

namespace clary::test {
namespace {

Case random_case(uint64_t seed) {
  Random r(seed * 104729);
  static const int64_t kDims[] = {1, 8, 40, 64, 72, 80, 96, 128, 160, 192, 256}, kGroups[] = {1, 2, 4};
  static const int32_t kDtypes[] = {CLARY_F16, CLARY_BF16, CLARY_F32};
  Case c;
  c.seed = seed;
  c.Hkv = 1, c.Hq = r.pick(kGroups);
  c.Lq = r.between(1, 40), c.Lk = r.chance(0.1) ? r.between(1000, 1400) : r.between(1, 200);
  c.D = c.Dv = r.pick(kDims);
  c.dtype = r.pick(kDtypes), c.out_dtype = CLARY_F32;
  c.data = static_cast<Data>(r.between(0, 6));
  c.causal = static_cast<int32_t>(r.between(0, 2));
  c.layout = static_cast<Layout>(r.between(0, kLayouts - 1));
  return c;
}

// CLARY_FUZZ_COUNT calls in all.
constexpr int kSlices = 8;
class Agreement : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Of8, Agreement, testing::Range(0, kSlices));

TEST_P(Agreement, SameCodesSameResult) {
  std::string why;
  Machine* const gpu = gpu_machine(&why);
  if (!gpu) GTEST_SKIP() << why;
  const int sm = emulated_machine()->sm();
  const char* text_count = std::getenv("CLARY_FUZZ_COUNT");
  const uint64_t count = text_count ? std::strtoull(text_count, nullptr, 10) : 40;
  int variants = 0, calls = 0, equal_calls = 0;
  long elements = 0, equal = 0;
  double worst = 0;
  const cuda::AttentionVariant* all = cuda::attention_variants(&variants);
  for (uint64_t seed = 1 + static_cast<uint64_t>(GetParam()); seed <= count; seed += kSlices) {
    const Case c = random_case(seed);
    for (const cuda::AttentionVariant* v = all; v < all + variants; v++) {
      if (v->dim != cuda::padded_dim(static_cast<int>(c.D)) || std::min(sm, gpu->sm()) < v->from_sm ||
          std::max(sm, gpu->sm()) > v->to_sm)
        continue;
      Instance instance(c);
      const AttentionRun real = gpu->run(instance, *v);
      ASSERT_EQ(real.fault, "") << v->kernel << " " << text(c);
      const AttentionRun emulated = emulate_attention(instance, *v, real.codes);
      ASSERT_EQ(emulated.fault, "") << v->kernel << " " << text(c);
      calls++;
      equal_calls += same_bits(real.out, emulated.out);
      elements += static_cast<long>(real.out.size());
      for (size_t i = 0; i < real.out.size(); i++) equal += std::memcmp(&real.out[i], &emulated.out[i], 4) == 0;
      const double error = relative_l2(real.out, std::vector<double>(emulated.out.begin(), emulated.out.end()));
      worst = std::max(worst, error);
      EXPECT_LE(error, kGpu_emulated) << v->kernel << " " << text(c);
    }
  }
  std::printf("  %d calls, %d equal in every bit; %ld of %ld elements are; relative L2 up to %.2g\n", calls,
              equal_calls, equal, elements, worst);
}

}  // namespace
}  // namespace clary::test
