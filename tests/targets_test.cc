// Every target gives the same bits, for every arithmetic: sums run in an order that does not depend on the vector width. So one
// oracle serves all, and a result does not change with the machine. The exceptions: f32 on the scalar target, which has no fused
// multiply-add, and where plans differ because targets break even at different sizes.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <thread>

#include "tests/support.h"

namespace clary::test {
namespace {

constexpr const char* kEvery[] = {"int8", "int16", "f32", "direct"};

size_t first_difference(const std::vector<float>& a, const std::vector<float>& b) {
  size_t i = 0;
  while (i < a.size() && std::memcmp(&a[i], &b[i], sizeof(float)) == 0) i++;
  return i;
}

void expect_same_bits(const Case& c, const char* arithmetic) {
  Instance instance(c);
  std::map<Arithmetic, Result> firsts;
  for (const cpu::Target* t : usable_targets()) {
    const Result r = instance.run((std::string(t->name) + (arithmetic ? std::string(":") + arithmetic : "")).c_str());
    ASSERT_EQ(r.status, CLARY_OK) << r.error;
    EXPECT_EQ(r.damage, "");
    if (t->needs == 0 && (r.plan.arithmetic == Arithmetic::kF32 || r.plan.arithmetic == Arithmetic::kDirect)) continue;
    const Result& first = firsts.emplace(r.plan.arithmetic, r).first->second;
    if (!same_bits(first.out, r.out)) {
      const size_t at = first_difference(first.out, r.out);
      ADD_FAILURE() << "out[" << at << "] " << r.out[at] << " on " << r.variant << ", " << first.out[at] << " on "
                    << first.variant << "\n  " << text(c);
    }
    if (!same_bits(first.lse, r.lse)) {
      const size_t at = first_difference(first.lse, r.lse);
      ADD_FAILURE() << "lse[" << at << "] " << r.lse[at] << " on " << r.variant << ", " << first.lse[at] << " on "
                    << first.variant << "\n  " << text(c);
    }
  }
}
void expect_same_bits_everywhere(const Case& c) {
  for (const char* arithmetic : kEvery) expect_same_bits(c, arithmetic);
}

TEST(Targets, AllThatThisMachineRunsAreThere) {
  std::string names;
  for (const cpu::Target* t : usable_targets()) names += std::string(t->name) + " ";
  EXPECT_GE(usable_targets().size(), 1u);
  RecordProperty("targets", names);
  std::printf("targets: %s\n", names.c_str());
}

TEST(Targets, EachRunsUnderItsOwnName) {
  Instance instance({.Lq = 128, .Lk = 128, .D = 16, .Dv = 16});
  for (const cpu::Target* t : usable_targets()) {
    const Result r = instance.run(t->name);
    ASSERT_EQ(r.status, CLARY_OK) << r.error;
    EXPECT_EQ(r.variant, std::string("cpu:") + t->name + ":int8");
  }
}

TEST(Targets, SameBitsForEveryHeadDim) {
  for (const int64_t D : {1, 2, 3, 5, 8, 16, 20, 33, 40, 64, 72, 80, 96, 100, 128, 160, 192, 200, 255, 256})
    expect_same_bits_everywhere(
        {.seed = static_cast<uint64_t>(D), .Lq = 37, .Lk = 141, .D = D, .Dv = 260 - std::max<int64_t>(D, 4)});
}

TEST(Targets, SameBitsForEveryDtype) {
  for (const int32_t in : {CLARY_F16, CLARY_BF16, CLARY_F32})
    for (const int32_t out : {CLARY_F16, CLARY_BF16, CLARY_F32})
      expect_same_bits_everywhere({.Lq = 70, .Lk = 90, .D = 40, .Dv = 24, .dtype = in, .out_dtype = out});
}

TEST(Targets, SameBitsForEveryLength) {
  for (const int64_t Lq : {1, 2, 9, 15, 16, 17, 31, 33, 48, 63, 64, 65})
    for (const int64_t Lk : {1, 7, 8, 127, 129, 300, 1100})
      expect_same_bits_everywhere({.Lq = Lq, .Lk = Lk, .D = 16, .Dv = 12});
}

TEST(Targets, SameBitsForEveryKindOfData) {
  for (const Data data : {Data::kOutlier, Data::kBias, Data::kPeaky, Data::kHeavyTail, Data::kSink, Data::kEqual})
    expect_same_bits_everywhere({.Lq = 40, .Lk = 700, .D = 64, .Dv = 64, .data = data});
}

TEST(Targets, SameBitsUnderMasks) {
  for (const Mask mask : {Mask::kBool, Mask::kF16, Mask::kBf16, Mask::kF32})
    for (const int32_t causal : {CLARY_CAUSAL_NONE, CLARY_CAUSAL_UPPER_LEFT, CLARY_CAUSAL_LOWER_RIGHT})
      expect_same_bits_everywhere(
          {.Hq = 2, .Hkv = 2, .Lq = 70, .Lk = 210, .D = 16, .Dv = 16, .causal = causal, .mask = mask});
}

TEST(Targets, SameBitsForExtremeSizes) {
  for (const float size : {1e-38f, 1e-30f, 1e-3f, 300.0f, 6e4f, 1e19f, 3e38f})
    expect_same_bits_everywhere(
        {.Lq = 20, .Lk = 200, .D = 32, .Dv = 16, .q_size = size, .k_size = size, .v_size = size});
}

TEST(Targets, SameBitsWithNonFiniteValues) {
  for (const Poison poison : {Poison::kNanQ, Poison::kNanK, Poison::kNanV, Poison::kInfQ, Poison::kInfK, Poison::kInfV})
    expect_same_bits_everywhere({.Hq = 2,
                                 .Hkv = 2,
                                 .Lq = 20,
                                 .Lk = 200,
                                 .D = 16,
                                 .Dv = 16,
                                 .causal = CLARY_CAUSAL_UPPER_LEFT,
                                 .poison = poison});
}

TEST(Targets, SameBitsAsPlanned) {
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_EXACT, CLARY_HIGH, CLARY_FAST})
    expect_same_bits({.B = 2,
                      .Hq = 4,
                      .Hkv = 2,
                      .Lq = 150,
                      .Lk = 1100,
                      .D = 64,
                      .Dv = 64,
                      .dtype = CLARY_BF16,
                      .out_dtype = CLARY_BF16,
                      .accuracy = accuracy,
                      .causal = CLARY_CAUSAL_LOWER_RIGHT},
                     nullptr);
}

TEST(Targets, SameBitsForLayouts) {
  const Case dense{.B = 2, .Hq = 4, .Hkv = 2, .Lq = 30, .Lk = 150, .D = 20, .Dv = 20};
  for (const char* arithmetic : kEvery)
    for (const cpu::Target* t : usable_targets()) {
      const std::string name = std::string(t->name) + ":" + arithmetic;
      const Result want = Instance(dense).run(name.c_str());
      for (const Layout layout : {Layout::kNhd, Layout::kFused, Layout::kPadded, Layout::kLbhd, Layout::kFlipped,
                                  Layout::kUnaligned, Layout::kOdd}) {
        Case c = dense;
        c.layout = c.out_layout = layout;
        const Result r = Instance(c).run(name.c_str());
        ASSERT_EQ(r.status, CLARY_OK) << r.error;
        EXPECT_TRUE(same_bits(want.out, r.out) && same_bits(want.lse, r.lse)) << name << " " << text(c);
      }
    }
}

// ---- determinism on one target --------------------------------------------------------------------------------------------

const Case kBusy{.B = 2,
                 .Hq = 6,
                 .Hkv = 2,
                 .Lq = 200,
                 .Lk = 1500,
                 .D = 64,
                 .Dv = 64,
                 .causal = CLARY_CAUSAL_LOWER_RIGHT,
                 .kv_lens = {1500, 1100}};
const Case kDecode{.B = 2, .Hq = 4, .Hkv = 2, .Lq = 1, .Lk = 6000, .D = 64, .Dv = 64};

TEST(Determinism, AnyNumberOfThreads) {
  for (const Case& base : {kBusy, kDecode})
    for (const int32_t accuracy : {CLARY_STANDARD, CLARY_HIGH, CLARY_EXACT}) {
      Case c = base;
      c.accuracy = accuracy;
      Instance instance(c);
      Result one;
      for (int threads = 1; threads <= 4; threads++) {
        Threads pool(threads);
        for (int repeat = 0; repeat < 3; repeat++) {
          const Result r = instance.run();
          ASSERT_EQ(r.status, CLARY_OK) << r.error;
          ASSERT_EQ(r.damage, "");
          if (threads == 1 && repeat == 0) one = r;
          EXPECT_TRUE(same_bits(one.out, r.out) && same_bits(one.lse, r.lse)) << threads << " threads, " << text(c);
        }
      }
    }
}

// An outer executor that runs its tasks backwards, or each on a fresh thread.
struct Outer {
  int32_t size;
  bool threads;
  clary_executor executor() {
    return {sizeof(clary_executor), this, [](void* self) { return static_cast<Outer*>(self)->size; },
            [](void* self, int32_t count, void (*task)(void*, int32_t), void* context) {
              if (static_cast<Outer*>(self)->threads) {
                std::vector<std::thread> all;
                for (int32_t i = 0; i < count; i++) all.emplace_back([=] { task(context, i); });
                for (std::thread& t : all) t.join();
              } else {
                for (int32_t i = count - 1; i >= 0; i--) task(context, i);
              }
            }};
  }
};

TEST(Determinism, AnyExecutor) {
  for (const Case& base : {kBusy, kDecode})
    for (const int32_t accuracy : {CLARY_STANDARD, CLARY_EXACT}) {
      Case c = base;
      c.accuracy = accuracy;
      Instance instance(c);
      const Result own = instance.run();
      for (const int32_t size : {1, 2, 5, 64})
        for (const bool threads : {false, true}) {
          Outer outer{size, threads};
          const clary_executor executor = outer.executor();
          const Result r = instance.run(nullptr, &executor);
          ASSERT_EQ(r.status, CLARY_OK) << r.error;
          EXPECT_TRUE(same_bits(own.out, r.out) && same_bits(own.lse, r.lse)) << size;
        }
    }
}

// Adding a batch entry changes no bit of the others.
TEST(Determinism, BatchNeighboursDoNotMatter) {
  const Case c{.B = 3, .Hq = 2, .Hkv = 1, .Lq = 60, .Lk = 200, .D = 32, .Dv = 32, .kv_lens = {200, 20, 130}};
  Instance all(c);
  const Result together = all.run();
  for (int64_t b = 0; b < 3; b++) {
    Instance one(c);
    for (clary_tensor* t : {&one.args.q, &one.args.k, &one.args.v, &one.args.out, &one.args.lse}) t->shape[0] = 1;
    const auto shift = [&](clary_tensor& t) {
      t.data = static_cast<char*>(t.data) + b * t.stride[0] * size_of(t.dtype);
    };
    shift(one.args.q), shift(one.args.k), shift(one.args.v);
    one.args.kv_lens = &c.kv_lens[b];
    const Result r = one.run();
    ASSERT_EQ(r.status, CLARY_OK) << r.error;
    for (int64_t i = 0; i < 2 * 60 * 32; i++) ASSERT_EQ(r.out[i], together.out[b * 2 * 60 * 32 + i]) << b;
    for (int64_t i = 0; i < 2 * 60; i++) ASSERT_EQ(r.lse[i], together.lse[b * 2 * 60 + i]) << b;
  }
}

}  // namespace
}  // namespace clary::test
