// Planning: for machines we do not have, for forced names, and in words.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/cpu/kernel.h"
#include "engine/env.h"
#include "tests/json.h"
#include "tests/support.h"

namespace clary::test {
namespace {

constexpr uint32_t kEverything = ~0u;

Case medium() { return {.B = 1, .Hq = 4, .Hkv = 4, .Lq = 256, .Lk = 256, .D = 64, .Dv = 64}; }

// The shapes of a case alone: planning reads no data.
Problem shapes(const Case& c) {
  Problem p;
  p.B = p.num_seqs = c.B, p.Hq = c.Hq, p.Hkv = c.Hkv, p.Lq = c.Lq, p.Lk = c.Lk;
  p.D = static_cast<int>(c.D), p.Dv = static_cast<int>(c.Dv);
  p.q.dtype = p.k.dtype = p.v.dtype = p.out.dtype = c.dtype;
  p.accuracy = c.accuracy;
  return p;
}
Plan plan_for(const Case& c, uint32_t features, const char* force = "", int threads = 4) {
  return choose(shapes(c), Device::fake_cpu(features), force, threads);
}
std::string target_of(const Plan& plan) {
  return plan.target ? static_cast<const cpu::Target*>(plan.target)->name : "";
}

TEST(Plan, TheBestTargetWhoseInstructionsAreThereIsTaken) {
  const cpu::TargetList all = cpu::targets();
  for (int i = 0; i < all.count; i++) {
    const cpu::Target& t = *all.begin[i];
    const Plan plan = plan_for(medium(), t.needs);
    ASSERT_TRUE(plan) << plan.why.message();
    EXPECT_EQ(static_cast<const cpu::Target*>(plan.target)->needs & ~t.needs, 0u);
    if (std::strchr(t.name, '_')) {  // a test-only twin (tests/targets): runs when forced, is never planned
      EXPECT_NE(target_of(plan), t.name);
      continue;
    }
    EXPECT_EQ(target_of(plan), t.name);
    EXPECT_EQ(std::string(plan.variant), std::string("cpu:") + t.name + ":int8");
  }
}

TEST(Plan, AMachineWithNothingStillRuns) { EXPECT_EQ(target_of(plan_for(medium(), 0)), "scalar"); }

TEST(Plan, AFeatureMoreNeverPlansBelow) {
  const cpu::TargetList all = cpu::targets();
  const auto rank = [&](const Plan& plan) {
    for (int i = 0; i < all.count; i++)
      if (all.begin[i] == plan.target) return i;
    return -1;
  };
  uint32_t used = 0;
  for (int i = 0; i < all.count; i++) used |= all.begin[i]->needs;
  for (uint32_t features = 0; features < 1024; features++) {
    if (features & ~used) continue;
    for (int bit = 0; bit < 10; bit++)
      EXPECT_GE(rank(plan_for({}, features | 1u << bit)), rank(plan_for({}, features))) << features << " + " << bit;
  }
}

TEST(Plan, ForcedTargetsRunOrSayWhyNot) {
  const cpu::TargetList all = cpu::targets();
  for (int i = 0; i < all.count; i++) {
    const cpu::Target& t = *all.begin[i];
    const std::string force = std::string("cpu:") + t.name;
    EXPECT_EQ(target_of(plan_for(medium(), kEverything, force.c_str())), t.name);
    if (!t.needs) continue;
    const Plan plan = plan_for(medium(), 0, force.c_str());
    EXPECT_FALSE(plan);
    EXPECT_EQ(plan.why.code(), CLARY_NO_DEVICE);
    EXPECT_NE(std::strstr(plan.why.message(), t.name), nullptr) << plan.why.message();
    EXPECT_NE(std::strstr(plan.why.hint(), "scalar"), nullptr) << plan.why.hint();
  }
}

TEST(Plan, ForcedArithmeticIsTaken) {
  for (int a = 0; a < kArithmetics; a++) {
    const auto arithmetic = static_cast<Arithmetic>(a);
    const std::string force = std::string("cpu:scalar:") + arithmetic_name(arithmetic);
    const Plan plan = plan_for({}, 0, force.c_str());
    if (arithmetic == Arithmetic::kBf16) {  // needs bf16 inputs and a target that multiplies them
      EXPECT_EQ(plan.why.code(), CLARY_NOT_SUPPORTED);
      continue;
    }
    ASSERT_TRUE(plan) << plan.why.message();
    EXPECT_EQ(plan.arithmetic, arithmetic);
    EXPECT_EQ(std::string(plan.variant), force);
  }
}

TEST(Plan, UnknownNamesAreErrors) {
  for (const char* force :
       {"gpu", "cpux", "cpu:", "cpu:avx3", "cpu:avx2:int9", "cpu:scalar:", "cuda:sm80", "cuda", "CPU", " cpu", ":"}) {
    const bool empty_name =
        std::strcmp(force, "cpu:") == 0 || std::strcmp(force, "cpu:scalar:") == 0;  // nothing named: no force
    const Plan plan = plan_for(medium(), kEverything, force);
    if (empty_name && plan) continue;
    EXPECT_FALSE(plan) << force;
    EXPECT_NE(plan.why.code(), CLARY_OK) << force;
    EXPECT_GT(std::strlen(plan.why.message()), 10u) << force;
    EXPECT_GT(std::strlen(plan.why.hint()), 10u) << force;
  }
}

TEST(Plan, CallsReportForcedNamesThatAreNotThere) {
  Instance instance(medium());
  const Result r = instance.run("avx3");
  EXPECT_NE(r.status, CLARY_OK);
  EXPECT_NE(r.error.find("avx3"), std::string::npos) << r.error;
}

TEST(Plan, AccuracyDecidesTheArithmetic) {
  Case c = medium();
  EXPECT_EQ(plan_for(c, kEverything).arithmetic, Arithmetic::kInt8);
  c.accuracy = CLARY_FAST;
  EXPECT_EQ(plan_for(c, kEverything).arithmetic, Arithmetic::kInt8);
  c.accuracy = CLARY_HIGH;
  EXPECT_EQ(plan_for(c, kEverything).arithmetic, Arithmetic::kInt16);
  c.accuracy = CLARY_EXACT;
  const Arithmetic a = plan_for(c, kEverything).arithmetic;
  EXPECT_TRUE(a == Arithmetic::kF32 || a == Arithmetic::kDirect);
}

TEST(Plan, FewRowsAreDoneInF32) {
  Case c = medium();
  c.Lq = 1;
  const Arithmetic a = plan_for(c, kEverything).arithmetic;
  EXPECT_TRUE(a == Arithmetic::kF32 || a == Arithmetic::kDirect);
}

// The plan of a sequence depends on it and the target alone: not on threads or batch neighbours.
TEST(Plan, SequencesArePlannedAlone) {
  Random random(11);
  for (int n = 0; n < 300; n++) {
    Case c{.Hkv = random.between(1, 3), .Lq = random.between(0, 600), .Lk = random.between(0, 4000), .D = 8, .Dv = 8};
    c.Hq = c.Hkv * random.between(1, 8);
    c.accuracy = static_cast<int32_t>(random.between(0, 3));
    const Plan one = plan_for(c, 0, "", 1), many = plan_for(c, 0, "", 64);
    Case batch = c;
    batch.B = 3;
    const Plan batched = plan_for(batch, 0, "", 1);
    const auto sequence = [&](const Case& from, const Plan& plan) {
      return plan_sequence(shapes(from), plan, c.Lq, c.Lk);
    };
    const SequencePlan a = sequence(c, one);
    for (const SequencePlan& b : {sequence(c, many), sequence(batch, batched)}) {
      EXPECT_EQ(a.arithmetic, b.arithmetic);
      EXPECT_EQ(a.packed, b.packed);
      EXPECT_EQ(a.rows, b.rows);
      EXPECT_EQ(a.splits, b.splits);
      EXPECT_EQ(a.split_keys, b.split_keys);
      EXPECT_EQ(a.blocks, b.blocks);
    }
    EXPECT_GE(a.units * a.rows, 0);
    EXPECT_EQ(a.units * a.rows, c.Lq * (c.Hq / c.Hkv));
    if (a.splits > 1) {
      EXPECT_GE(a.splits * a.split_keys, c.Lk);
      EXPECT_LT((a.splits - 1) * a.split_keys, c.Lk);
    }
  }
}

TEST(Plan, WordsNameTheVariantOrTheReason) {
  Instance instance(medium());
  const Problem p = instance.problem();
  char line[1000];
  for (const char* force : {"", "cpu:scalar", "cpu:nonsense", "cpu:\"", "cuda"})
    for (const int32_t format : {CLARY_TEXT, CLARY_JSON}) {
      const Plan plan = choose(p, Device::fake_cpu(0), force, 3);
      const int needed = describe(p, plan, format, line, sizeof line);
      EXPECT_EQ(static_cast<size_t>(needed), std::strlen(line));
      if (plan) {
        EXPECT_NE(std::strstr(line, plan.variant), nullptr) << line;
      }
      if (format == CLARY_JSON) {
        EXPECT_TRUE(JsonReader::valid(line)) << line;
      } else if (!plan) {
        EXPECT_NE(std::strstr(line, plan.why.message()), nullptr) << line;
      }
    }
}

TEST(Plan, CudaTensorsAreRefusedWithoutADevice) {
  Instance instance(medium());
  instance.args.device_type = CLARY_CUDA;
  const Plan plan = choose(instance.problem(), Device::fake_cpu(kEverything), "", 1);
  EXPECT_FALSE(plan);
  EXPECT_TRUE(plan.why.code() == CLARY_NOT_SUPPORTED || plan.why.code() == CLARY_NO_DEVICE);
}

}  // namespace
}  // namespace clary::test
