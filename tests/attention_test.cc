// The contract of clary.h, row by row, on every target of this machine and in every arithmetic, however small the problem.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/compare.h"

namespace clary::test {
namespace {

constexpr const char* kEvery[] = {"int8", "int16", "f32", "direct"};

void expect_right(const Case& c) {
  for (const char* arithmetic : kEvery) EXPECT_EQ(check(c, arithmetic), "") << arithmetic;
}
// As planned: the path a caller gets.
void expect_planned_right(const Case& c) { EXPECT_EQ(check(c), ""); }

TEST(Attention, Dtypes) {
  for (const int32_t in : {CLARY_F16, CLARY_BF16, CLARY_F32})
    for (const int32_t out : {CLARY_F16, CLARY_BF16, CLARY_F32})
      expect_right({.Hq = 2, .Hkv = 2, .Lq = 17, .Lk = 45, .D = 24, .Dv = 20, .dtype = in, .out_dtype = out});
}

TEST(Attention, HeadDims) {
  for (const int64_t D : {1, 2, 3, 5, 8, 16, 31, 40, 64, 72, 80, 96, 100, 128, 160, 192, 255, 256})
    for (const int64_t Dv : {D, int64_t{1}, int64_t{65}})
      expect_right({.seed = static_cast<uint64_t>(D),
                    .Lq = 9,
                    .Lk = 37,
                    .D = D,
                    .Dv = Dv,
                    .dtype = D % 2 ? CLARY_F32 : CLARY_BF16});
}

TEST(Attention, ValueDims) {
  for (const int64_t Dv : {2, 3, 4, 7, 8, 12, 15, 16, 17, 33, 63, 64, 96, 127, 129, 193, 200, 254, 256})
    expect_right({.Lq = 5, .Lk = 20, .D = 16, .Dv = Dv});
}

TEST(Attention, QueryLengths) {
  for (const int64_t Lq : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 79, 127, 128, 129, 200})
    expect_right({.Lq = Lq, .Lk = 50, .D = 20, .Dv = 12});
}

TEST(Attention, KeyLengths) {
  for (const int64_t Lk : {1,   2,   3,   4,   5,   7,   8,   9,   31,  33,   63,   64,   65,  120,
                           127, 128, 129, 136, 191, 255, 256, 257, 384, 1023, 1024, 1025, 2049})
    expect_right({.Lq = 3, .Lk = Lk, .D = 16, .Dv = 12});
}

TEST(Attention, EveryKeyLengthOfTwoTiles) {
  for (int64_t Lk = 1; Lk <= 260; Lk++) expect_right({.Lq = 2, .Lk = Lk, .D = 4, .Dv = 4});
}

TEST(Attention, EveryQueryLengthOfTwoBlocks) {
  for (int64_t Lq = 1; Lq <= 130; Lq++)
    expect_right({.Lq = Lq, .Lk = 10, .D = 4, .Dv = 4, .causal = CLARY_CAUSAL_LOWER_RIGHT});
}

TEST(Attention, PlannedSizes) {
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_EXACT, CLARY_HIGH, CLARY_FAST})
    for (const int64_t Lq : {1, 4, 47, 48, 100})
      for (const int64_t Lk : {1, 31, 32, 130})
        expect_planned_right({.Hq = 2, .Hkv = 1, .Lq = Lq, .Lk = Lk, .D = 16, .Dv = 16, .accuracy = accuracy});
}

// Long keys for few rows: what a work item shares with others (split keys).
TEST(Attention, LongKeys) {
  for (const int64_t Lq : {1, 5})
    for (const int64_t Lk : {1024, 1025, 2500, 5000})
      expect_right({.Hq = 3, .Hkv = 1, .Lq = Lq, .Lk = Lk, .D = 8, .Dv = 4, .data = Data::kSink});
  for (const int32_t causal : {CLARY_CAUSAL_UPPER_LEFT, CLARY_CAUSAL_LOWER_RIGHT})
    expect_right({.Hq = 2, .Hkv = 2, .Lq = 5, .Lk = 2500, .D = 8, .Dv = 4, .causal = causal});
}

TEST(Attention, Layouts) {
  for (int in = 0; in < kLayouts; in++)
    for (const int32_t dtype : {CLARY_F16, CLARY_F32})
      expect_right({.B = 2,
                    .Hq = 4,
                    .Hkv = 2,
                    .Lq = 6,
                    .Lk = 19,
                    .D = 20,
                    .Dv = 20,
                    .dtype = dtype,
                    .out_dtype = dtype,
                    .layout = static_cast<Layout>(in),
                    .out_layout = static_cast<Layout>((in + 3) % kLayouts)});
}

// q, k and v as views of one projection, without a copy.
TEST(Attention, OneFusedBuffer) {
  const Case c{.Hq = 3, .Hkv = 3, .Lq = 21, .Lk = 21, .D = 16, .Dv = 16};
  Instance apart(c), fused(c);
  std::vector<float> qkv(static_cast<size_t>(21 * 3 * 3 * 16));
  const Tensor* parts[] = {&apart.q, &apart.k, &apart.v};
  clary_tensor* views[] = {&fused.args.q, &fused.args.k, &fused.args.v};
  for (int part = 0; part < 3; part++) {
    for (int64_t h = 0; h < 3; h++)
      for (int64_t l = 0; l < 21; l++)
        for (int64_t d = 0; d < 16; d++) qkv[((l * 3 + part) * 3 + h) * 16 + d] = parts[part]->get(0, h, l, d);
    *views[part] = {qkv.data() + part * 48, {1, 3, 21, 16}, {0, 16, 144, 1}, CLARY_F32, 0};
  }
  for (const cpu::Target* t : usable_targets()) {
    const Result a = apart.run(t->name), b = fused.run(t->name);
    ASSERT_EQ(b.status, CLARY_OK) << b.error;
    EXPECT_TRUE(same_bits(a.out, b.out)) << t->name;
  }
}

TEST(Attention, GroupedHeads) {
  for (const int64_t group : {1, 2, 3, 7, 8, 64})
    for (const int64_t Lq : {1, 3, 9, 65})
      expect_right(
          {.B = 2, .Hq = 2 * group, .Hkv = 2, .Lq = Lq, .Lk = 33, .D = 8, .Dv = 8, .causal = CLARY_CAUSAL_LOWER_RIGHT});
}

TEST(Attention, CausalBothWays) {
  for (const int32_t causal : {CLARY_CAUSAL_UPPER_LEFT, CLARY_CAUSAL_LOWER_RIGHT})
    for (const int64_t Lq : {1, 5, 64, 130})
      for (const int64_t Lk : {1, 5, 65, 129, 140, 300})
        expect_right({.Lq = Lq, .Lk = Lk, .D = 8, .Dv = 8, .causal = causal});
}

TEST(Attention, Windows) {
  for (const int32_t causal : {CLARY_CAUSAL_NONE, CLARY_CAUSAL_UPPER_LEFT, CLARY_CAUSAL_LOWER_RIGHT})
    for (const auto& [left, right] : std::initializer_list<std::pair<int64_t, int64_t>>{{0, 0},
                                                                                        {1, 0},
                                                                                        {3, 2},
                                                                                        {-1, 5},
                                                                                        {7, -1},
                                                                                        {130, 0},
                                                                                        {-1, -1},
                                                                                        {INT64_MAX, 3},
                                                                                        {2, INT64_MAX},
                                                                                        {INT64_MAX, INT64_MAX}})
      for (const int64_t Lk : {40, 300})
        expect_right({.Lq = 150,
                      .Lk = Lk,
                      .D = 8,
                      .Dv = 4,
                      .causal = causal,
                      .window = true,
                      .window_left = left,
                      .window_right = right});
}

TEST(Attention, MasksBroadcastInEveryDimension) {
  for (const Mask mask : {Mask::kBool, Mask::kF16, Mask::kBf16, Mask::kF32})
    for (int bits = 0; bits < 16; bits++) {
      Case c{.seed = static_cast<uint64_t>(bits + 1),
             .B = 2,
             .Hq = 4,
             .Hkv = 2,
             .Lq = 9,
             .Lk = 140,
             .D = 8,
             .Dv = 8,
             .mask = mask};
      for (int i = 0; i < 4; i++) c.mask_broadcast[i] = bits >> i & 1;
      c.mask_hidden = bits & 8 ? 0 : 0.4f;
      expect_right(c);
    }
}

TEST(Attention, MasksThatHideWholeTilesAndRows) {
  for (const Mask mask : {Mask::kBool, Mask::kF32})
    for (const float hidden : {0.0f, 0.99f, 0.999f, 1.0f})
      for (const int32_t causal : {CLARY_CAUSAL_NONE, CLARY_CAUSAL_LOWER_RIGHT})
        expect_right({.Lq = 70, .Lk = 300, .D = 8, .Dv = 8, .causal = causal, .mask = mask, .mask_hidden = hidden});
}

TEST(Attention, MasksOfAnyLayout) {
  for (int layout = 0; layout < kLayouts; layout++)
    for (const Mask mask : {Mask::kBool, Mask::kBf16})
      expect_right({.B = 2,
                    .Hq = 2,
                    .Hkv = 2,
                    .Lq = 10,
                    .Lk = 30,
                    .D = 8,
                    .Dv = 8,
                    .layout = static_cast<Layout>(layout),
                    .mask = mask});
}

// A mask stored key-major: its last stride is Lq.
TEST(Attention, TransposedMasks) {
  for (const Mask mask : {Mask::kBool, Mask::kF32}) {
    Instance instance({.Lq = 12, .Lk = 40, .D = 8, .Dv = 8, .mask = mask});
    Tensor turned({1, 1, 40, 12}, instance.mask.view.dtype, Layout::kHnd, false);
    for (int64_t i = 0; i < 12; i++)
      for (int64_t j = 0; j < 40; j++) turned.set(0, 0, j, i, instance.mask.get(0, 0, i, j));
    const Result straight = instance.run();
    instance.args.mask = {turned.view.data, {1, 1, 12, 40}, {0, 0, 1, 12}, turned.view.dtype, 0};
    const Result r = instance.run();
    ASSERT_EQ(r.status, CLARY_OK) << r.error;
    EXPECT_TRUE(same_bits(straight.out, r.out));
  }
}

// A bias of any size: the exponential sees scores plus bias, and the frame has to follow.
TEST(Attention, BiasesOfAnySize) {
  for (const float size : {1e-3f, 30.0f, 500.0f, 1e5f, 3e38f}) {
    Instance instance({.Lq = 4, .Lk = 400, .D = 8, .Dv = 8, .mask = Mask::kF32, .mask_hidden = 0});
    Random random(4);
    for (int64_t i = 0; i < 4; i++)
      for (int64_t j = 0; j < 400; j++)
        instance.mask.set(0, 0, i, j, static_cast<float>(size * (2 * random.uniform() - 1)));
    Judge judge(instance);
    for (const cpu::Target* t : usable_targets())
      for (const char* arithmetic : kEvery)
        EXPECT_EQ(judge(instance.run((std::string(t->name) + ":" + arithmetic).c_str())), "")
            << t->name << " " << arithmetic << " " << size;
  }
}

TEST(Attention, KeyLengthsPerBatchEntry) {
  for (const int32_t causal : {CLARY_CAUSAL_NONE, CLARY_CAUSAL_UPPER_LEFT, CLARY_CAUSAL_LOWER_RIGHT})
    for (const int64_t Lq : {1, 20, 60})
      expect_right({.B = 7,
                    .Hq = 2,
                    .Hkv = 1,
                    .Lq = Lq,
                    .Lk = 260,
                    .D = 8,
                    .Dv = 8,
                    .causal = causal,
                    .kv_lens = {0, 1, 31, 127, 128, 129, 260}});
}

TEST(Attention, KeyLengthsWithAMask) {
  for (const Mask mask : {Mask::kBool, Mask::kF16})
    expect_right(
        {.B = 3, .Hq = 2, .Hkv = 2, .Lq = 9, .Lk = 150, .D = 8, .Dv = 8, .mask = mask, .kv_lens = {150, 3, 129}});
}

// What lies beyond a length does not change a bit, NaN or not.
TEST(Attention, KeysBeyondALengthDoNotExist) {
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_HIGH, CLARY_EXACT}) {
    Instance instance({.B = 2,
                       .Hq = 2,
                       .Hkv = 2,
                       .Lq = 60,
                       .Lk = 300,
                       .D = 16,
                       .Dv = 16,
                       .accuracy = accuracy,
                       .kv_lens = {100, 37}});
    for (const cpu::Target* t : usable_targets()) {
      const Result nan = instance.run(t->name);
      for (Tensor* tensor : {&instance.k, &instance.v})
        for (int64_t b = 0; b < 2; b++)
          for (int64_t j = instance.c.kv_lens[b]; j < 300; j++) tensor->set(b, 1, j, 3, 12345);
      const Result other = instance.run(t->name);
      EXPECT_TRUE(same_bits(nan.out, other.out) && same_bits(nan.lse, other.lse)) << t->name;
    }
  }
}

// Variable length: bit for bit what each sequence gives alone.
TEST(Attention, VariableLengthEqualsDense) {
  const std::vector<int32_t> cu_q{0, 60, 60, 61, 130, 400, 410}, cu_k{0, 70, 75, 75, 330, 600, 3600};
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_HIGH, CLARY_EXACT})
    for (const int32_t causal : {CLARY_CAUSAL_NONE, CLARY_CAUSAL_UPPER_LEFT, CLARY_CAUSAL_LOWER_RIGHT})
      for (const Layout layout : {Layout::kHnd, Layout::kNhd, Layout::kFused}) {
        const Case c{.Hq = 4,
                     .Hkv = 2,
                     .Lq = 410,
                     .Lk = 3600,
                     .D = 8,
                     .Dv = 8,
                     .accuracy = accuracy,
                     .causal = causal,
                     .layout = layout,
                     .cu_q = cu_q,
                     .cu_k = cu_k};
        Instance packed(c);
        for (const cpu::Target* t : usable_targets()) {
          const Result all = packed.run(t->name);
          ASSERT_EQ(all.status, CLARY_OK) << all.error;
          ASSERT_EQ(all.damage, "") << t->name;
          for (size_t s = 0; s + 1 < cu_q.size(); s++) {
            const int64_t rows = cu_q[s + 1] - cu_q[s], keys = cu_k[s + 1] - cu_k[s];
            Instance alone(
                {.Hq = 4, .Hkv = 2, .Lq = rows, .Lk = keys, .D = 8, .Dv = 8, .accuracy = accuracy, .causal = causal});
            for (int64_t d = 0; d < 8; d++) {
              for (int64_t h = 0; h < 4; h++)
                for (int64_t i = 0; i < rows; i++) alone.q.set(0, h, i, d, packed.q.get(0, h, cu_q[s] + i, d));
              for (int64_t h = 0; h < 2; h++)
                for (int64_t j = 0; j < keys; j++) {
                  alone.k.set(0, h, j, d, packed.k.get(0, h, cu_k[s] + j, d));
                  alone.v.set(0, h, j, d, packed.v.get(0, h, cu_k[s] + j, d));
                }
            }
            const Result one = alone.run(t->name);
            ASSERT_EQ(one.status, CLARY_OK) << one.error;
            for (int64_t h = 0; h < 4; h++)
              for (int64_t i = 0; i < rows; i++) {
                const int64_t a = h * 410 + cu_q[s] + i, b = h * rows + i;
                ASSERT_EQ(all.lse[a], one.lse[b]) << t->name << " sequence " << s << " row " << i;
                for (int64_t d = 0; d < 8; d++)
                  ASSERT_EQ(all.out[a * 8 + d], one.out[b * 8 + d]) << t->name << " sequence " << s;
              }
          }
        }
        if (layout == Layout::kHnd && causal) expect_planned_right(c);
      }
}

TEST(Attention, VariableLengthOfNothing) {
  expect_right({.Lq = 0, .Lk = 0, .D = 8, .Dv = 8, .cu_q = {0}, .cu_k = {0}});
  expect_right({.Lq = 0, .Lk = 5, .D = 8, .Dv = 8, .cu_q = {0, 0, 0}, .cu_k = {0, 2, 5}});
  expect_right({.Lq = 5, .Lk = 0, .D = 8, .Dv = 8, .cu_q = {0, 2, 5}, .cu_k = {0, 0, 0}});
}

// Bounds on lengths are promises of the caller: a broken one may be refused but never gives a wrong result.
TEST(Attention, LengthBoundsThatLie) {
  Instance instance(
      {.Hq = 2, .Hkv = 2, .Lq = 200, .Lk = 300, .D = 8, .Dv = 8, .cu_q = {0, 10, 200}, .cu_k = {0, 290, 300}});
  Judge judge(instance);
  for (const int64_t most : {1, 190, 1000}) {
    instance.args.max_seqlen_q = instance.args.max_seqlen_k = most;
    const Result r = instance.run();
    if (r.status != CLARY_OK) {
      EXPECT_EQ(r.status, CLARY_INVALID_ARGUMENT);
    } else {
      EXPECT_EQ(judge(r), "");
    }
  }
}

TEST(Attention, EmptyProblems) {
  for (int64_t Case::* size : {&Case::B, &Case::Lq, &Case::Lk}) {
    Case c{.B = 2,
           .Hq = 4,
           .Hkv = 2,
           .Lq = 5,
           .Lk = 7,
           .D = 16,
           .Dv = 8,
           .layout = Layout::kPadded,
           .out_layout = Layout::kPadded};
    c.*size = 0;
    expect_right(c);
  }
  Instance instance({.Lq = 3, .Lk = 0, .D = 8, .Dv = 8});
  const Result r = instance.run();
  ASSERT_EQ(r.status, CLARY_OK) << r.error;
  for (float x : r.out) EXPECT_EQ(x, 0);
  for (float x : r.lse) EXPECT_EQ(x, -INFINITY);
}

TEST(Attention, RowsThatSeeNothingAreZero) {
  for (const char* arithmetic : kEvery) {
    Instance instance({.Lq = 9, .Lk = 4, .D = 8, .Dv = 8, .causal = CLARY_CAUSAL_LOWER_RIGHT});
    for (const cpu::Target* t : usable_targets()) {
      const Result r = instance.run((std::string(t->name) + ":" + arithmetic).c_str());
      for (int i = 0; i < 5; i++) {
        EXPECT_EQ(r.lse[i], -INFINITY);
        for (int d = 0; d < 8; d++) EXPECT_EQ(r.out[i * 8 + d], 0);
      }
      EXPECT_TRUE(std::isfinite(r.lse[5]));
    }
  }
}

TEST(Attention, WithoutLse) { expect_right({.Hq = 2, .Hkv = 1, .Lq = 20, .Lk = 70, .D = 16, .Dv = 16, .lse = false}); }

TEST(Attention, Scales) {
  for (const float scale : {1e-30f, 1e-3f, 1.0f, 50.0f, 1e30f, -0.3f, -50.0f})
    expect_right({.Lq = 12, .Lk = 150, .D = 16, .Dv = 8, .scale = scale});
  Instance instance({.Lq = 12, .Lk = 150, .D = 16, .Dv = 8});
  instance.args.flags = CLARY_HAS_SCALE;  // 0: the mean of v
  instance.args.scale = 0;
  Judge judge(instance);
  for (const cpu::Target* t : usable_targets())
    for (const char* arithmetic : kEvery)
      EXPECT_EQ(judge(instance.run((std::string(t->name) + ":" + arithmetic).c_str())), "");
}

TEST(Attention, DataOfEveryKind) {
  for (const Data data : {Data::kOutlier, Data::kBias, Data::kPeaky, Data::kHeavyTail, Data::kSink, Data::kEqual})
    expect_right({.Hq = 2, .Hkv = 1, .Lq = 20, .Lk = 300, .D = 32, .Dv = 16, .data = data});
}

TEST(Attention, FiniteInputsOfAnySizeStayFinite) {
  for (const float q : {1e-38f, 1e-20f, 1e4f, 1e20f, 3e38f})
    for (const float v : {1e-38f, 1.0f, 1e38f})
      for (const Data data : {Data::kNormal, Data::kEqual})
        expect_right({.Lq = 6, .Lk = 140, .D = 16, .Dv = 8, .data = data, .q_size = q, .k_size = q, .v_size = v});
  expect_right({.Lq = 6,
                .Lk = 140,
                .D = 16,
                .Dv = 8,
                .dtype = CLARY_F16,
                .out_dtype = CLARY_F16,
                .q_size = 6e4f,
                .k_size = 6e4f,
                .v_size = 6e4f});
}

TEST(Attention, ZeroInputs) {
  for (int which = 0; which < 8; which++)
    expect_right({.Lq = 6,
                  .Lk = 140,
                  .D = 16,
                  .Dv = 8,
                  .q_size = which & 1 ? 0.0f : 1.0f,
                  .k_size = which & 2 ? 0.0f : 1.0f,
                  .v_size = which & 4 ? 0.0f : 1.0f});
}

// A visible NaN or infinity shows in the rows that see it and stays in its own (batch, head).
TEST(Attention, NonFiniteValuesAreNeitherHiddenNorSpread) {
  for (const Poison poison :
       {Poison::kNanQ, Poison::kNanK, Poison::kNanV, Poison::kInfQ, Poison::kInfK, Poison::kInfV, Poison::kNanMask})
    for (uint64_t seed = 1; seed <= 6; seed++)
      for (const int32_t causal : {CLARY_CAUSAL_NONE, CLARY_CAUSAL_UPPER_LEFT})
        expect_right({.seed = seed,
                      .B = 2,
                      .Hq = 4,
                      .Hkv = 2,
                      .Lq = 20,
                      .Lk = 150,
                      .D = 16,
                      .Dv = 8,
                      .causal = causal,
                      .mask = poison == Poison::kNanMask ? Mask::kF32 : Mask::kNone,
                      .poison = poison});
}

TEST(Attention, HiddenNonFiniteKeysDoNotExist) {
  for (const float bad : {NAN, INFINITY})
    for (const Mask mask : {Mask::kBool, Mask::kF32}) {
      Instance instance({.Lq = 20, .Lk = 150, .D = 16, .Dv = 8, .mask = mask, .mask_hidden = 0});
      for (int64_t j : {3, 140}) {
        for (int64_t i = 0; i < 20; i++) instance.mask.set(0, 0, i, j, mask == Mask::kBool ? 0 : -INFINITY);
        instance.k.set(0, 0, j, 5, bad), instance.v.set(0, 0, j, 2, bad);
      }
      Judge judge(instance);
      for (const cpu::Target* t : usable_targets())
        for (const char* arithmetic : kEvery) {
          const Result r = instance.run((std::string(t->name) + ":" + arithmetic).c_str());
          EXPECT_EQ(judge(r), "") << t->name << " " << arithmetic;
        }
    }
}

}  // namespace
}  // namespace clary::test
