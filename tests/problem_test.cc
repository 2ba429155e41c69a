// Problem::from and check: what is accepted, what is refused, for every combination that has an edge. Sentences are in abi_test.
#include <gtest/gtest.h>

#include "engine/problem.h"
#include "tests/support.h"

namespace clary::test {
namespace {

Case small() { return {.B = 2, .Hq = 4, .Hkv = 2, .Lq = 5, .Lk = 7, .D = 16, .Dv = 8}; }

Status check(const Instance& instance, bool planning = false) {
  Problem p;
  if (Status s = Problem::from(&instance.args, &p); !s) return s;
  return p.check(planning);
}

TEST(Problem, ReadsTheStruct) {
  Case c = small();
  c.causal = CLARY_CAUSAL_LOWER_RIGHT;
  c.window = true, c.window_left = 3, c.window_right = 0;
  c.scale = 0.5f;
  Instance instance(c);
  const Problem p = instance.problem();
  EXPECT_EQ(p.B, 2);
  EXPECT_EQ(p.Hq, 4);
  EXPECT_EQ(p.Hkv, 2);
  EXPECT_EQ(p.Lq, 5);
  EXPECT_EQ(p.Lk, 7);
  EXPECT_EQ(p.D, 16);
  EXPECT_EQ(p.Dv, 8);
  EXPECT_EQ(p.group(), 2);
  EXPECT_EQ(p.num_seqs, 2);
  EXPECT_EQ(p.causal, CLARY_CAUSAL_LOWER_RIGHT);
  EXPECT_EQ(p.window_left, 3);
  EXPECT_EQ(p.window_right, 0);
  EXPECT_EQ(p.scale, 0.5f);
  EXPECT_EQ(p.q.at(1, 2, 3), p.q.data + ((1 * 4 + 2) * 5 + 3) * 16 * 4);
}

TEST(Problem, ZeroMeansDefault) {
  Instance instance(small());
  instance.args.window_left = instance.args.window_right = 1;  // not asked for by the flags
  instance.args.scale = 9;
  const Problem p = instance.problem();
  EXPECT_EQ(p.window_left, -1);
  EXPECT_EQ(p.window_right, -1);
  EXPECT_EQ(p.scale, 0.25f);
  EXPECT_EQ(p.accuracy, CLARY_STANDARD);
  EXPECT_EQ(p.causal, CLARY_CAUSAL_NONE);
  EXPECT_FALSE(p.mask.present());
}

TEST(Problem, EveryLayoutIsAccepted) {
  for (int layout = 0; layout < kLayouts; layout++) {
    Case c = small();
    c.layout = c.out_layout = static_cast<Layout>(layout);
    c.mask = Mask::kF32;
    EXPECT_TRUE(check(Instance(c))) << text(c);
  }
}

TEST(Problem, EverySizeUpToTheLargestIsAccepted) {
  for (int64_t D = 1; D <= kMaxHeadDim; D++) {
    Case c = small();
    c.D = D, c.Dv = kMaxHeadDim + 1 - D;
    EXPECT_TRUE(check(Instance(c))) << D;
  }
}

TEST(Problem, EmptySizesAreAccepted) {
  for (int64_t Case::* size : {&Case::B, &Case::Lq, &Case::Lk}) {
    Case c = small();
    c.*size = 0;
    EXPECT_TRUE(check(Instance(c))) << text(c);
  }
}

TEST(Problem, DataMayBeAbsentOnlyWhilePlanning) {
  Instance instance(small());
  for (clary_tensor clary_attention_args::* t :
       {&clary_attention_args::q, &clary_attention_args::k, &clary_attention_args::v, &clary_attention_args::out}) {
    void* const data = (instance.args.*t).data;
    (instance.args.*t).data = nullptr;
    EXPECT_FALSE(check(instance));
    EXPECT_TRUE(check(instance, true));
    (instance.args.*t).data = data;
  }
}

// An output whose strides let two elements meet, against brute force.
TEST(Problem, OverlapIsFoundExactlyWhereStridesNest) {
  Case c{.B = 2, .Hq = 2, .Hkv = 2, .Lq = 3, .Lk = 3, .D = 4, .Dv = 4};
  Instance instance(c);
  int refused = 0, met = 0;
  for (int64_t b : {0, 4, 12, 24, -24, 25})
    for (int64_t h : {0, 2, 4, 8, 12, -12, 24})
      for (int64_t l : {0, 1, 3, 4, -4, 8, 24}) {
        int64_t* stride = instance.args.out.stride;
        stride[0] = b, stride[1] = h, stride[2] = l;
        std::vector<int64_t> offsets;
        for (int64_t i = 0; i < 2 * 2 * 3 * 4; i++)
          offsets.push_back(i / 24 * b + i / 12 % 2 * h + i / 4 % 3 * l + i % 4);
        std::sort(offsets.begin(), offsets.end());
        const bool meet = std::adjacent_find(offsets.begin(), offsets.end()) != offsets.end();
        const bool ok = static_cast<bool>(check(instance));
        if (meet) {
          EXPECT_FALSE(ok) << b << " " << h << " " << l;
        }
        refused += !ok, met += meet;
      }
  EXPECT_LE(refused, met + 25);  // layouts that interleave without meeting may be refused; there are few
}

TEST(Problem, AnyStrideOfASingletonDimensionIsAccepted) {
  Case c = small();
  c.B = 1, c.Lq = 1;
  Instance instance(c);
  for (int64_t stride : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    instance.args.out.stride[0] = instance.args.out.stride[2] = stride;
    instance.args.q.stride[0] = instance.args.q.stride[2] = stride;
    EXPECT_TRUE(check(instance)) << stride;
  }
}

TEST(Problem, LastStrideOfASingleChannelIsFree) {
  Case c = small();
  c.D = 1;
  Instance instance(c);
  instance.args.q.stride[3] = 77;
  EXPECT_TRUE(check(instance));
}

TEST(Problem, LengthsAreCheckedAtTheirEdges) {
  Instance instance(small());
  const auto lengths = [&](int32_t first, int32_t second) {
    const int32_t lens[2] = {first, second};
    instance.args.kv_lens = lens;
    return static_cast<bool>(instance.problem().check_lengths());
  };
  EXPECT_TRUE(lengths(0, 7));
  EXPECT_FALSE(lengths(0, 8));
  EXPECT_FALSE(lengths(-1, 7));
}

}  // namespace
}  // namespace clary::test
