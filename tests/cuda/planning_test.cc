// Planning for GPUs, on a machine that needs none: code paths, kernels, workspace, break-even against SDPA, words.
#include "engine/cuda/planning.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>

#include "engine/cuda/backend.h"
#include "tests/bounds.h"
#include "tests/json.h"
#include "tests/support.h"

namespace clary::cuda {
namespace {

using test::Case;

const Device& gpu_named(const char* name) {
  for (const Device& d : known_gpus())
    if (std::strcmp(d.name, name) == 0) return d;
  ADD_FAILURE() << "no card " << name;
  return known_gpus()[0];
}

Case tokens(int64_t L, int64_t D = 128, int64_t H = 32) {
  Case c;
  c.Hq = c.Hkv = H, c.Lq = c.Lk = L, c.D = c.Dv = D;
  c.dtype = c.out_dtype = CLARY_BF16;
  c.lse = false;
  return c;
}
// The shapes of a case, contiguous; planning reads no data.
Problem shapes(const Case& c) {
  Problem p;
  p.device_type = CLARY_CUDA;
  p.B = p.num_seqs = c.B, p.Hq = c.Hq, p.Hkv = c.Hkv, p.Lq = c.Lq, p.Lk = c.Lk;
  p.D = static_cast<int>(c.D), p.Dv = static_cast<int>(c.Dv);
  p.scale = 1;
  p.accuracy = c.accuracy;
  p.causal = c.causal;
  const auto fill = [](View* v, int64_t b, int64_t h, int64_t l, int64_t d, int32_t dtype) {
    const int64_t shape[4] = {b, h, l, d}, stride[4] = {h * l * d, l * d, d, 1};
    std::copy(shape, shape + 4, v->shape);
    std::copy(stride, stride + 4, v->stride);
    v->dtype = dtype;
  };
  fill(&p.q, c.B, c.Hq, c.Lq, c.D, c.dtype);
  fill(&p.k, c.B, c.Hkv, c.Lk, c.D, c.dtype);
  fill(&p.v, c.B, c.Hkv, c.Lk, c.Dv, c.dtype);
  fill(&p.out, c.B, c.Hq, c.Lq, c.Dv, c.out_dtype);
  if (c.lse) fill(&p.lse, c.B, c.Hq, c.Lq, 1, CLARY_F32);
  return p;
}
Plan plan_for(const Case& c, const Device& device, const char* force = "", bool not_slower = false) {
  Problem p = shapes(c);
  p.not_slower = not_slower;
  return clary::choose(p, device, force, 0);
}

TEST(GpuPlan, EveryKnownCardServesEveryHeadDim) {
  for (const Device& d : known_gpus())
    for (const int64_t D : {1, 40, 64, 72, 128, 160, 256})
      for (const int32_t dtype : {CLARY_F16, CLARY_BF16, CLARY_F32})
        for (const int32_t accuracy : {CLARY_STANDARD, CLARY_HIGH})
          for (const bool mask : {false, true}) {
            Case c = tokens(1000, D);
            c.dtype = c.out_dtype = dtype;
            c.accuracy = accuracy;
            Problem p = shapes(c);
            char element = 1;
            if (mask) p.mask = {&element, {1, 1, 1, 1000}, {0, 0, 0, 1}, CLARY_BOOL};
            const Plan plan = clary::choose(p, d, "", 0);
            ASSERT_TRUE(plan) << d.name << ": " << plan.why.message();
            const CodePath* path = native_path(d.capability);
            const char* arithmetic = accuracy == CLARY_HIGH ? ":int8f16" : ":int8";
            EXPECT_EQ(std::string(plan.variant), std::string("cuda:") + path->name + arithmetic) << d.name;
            const AttentionVariant& v = variant_of(plan);
            EXPECT_LE(v.shared_bytes, d.shared_per_block) << d.name;
            EXPECT_GE(v.dim, D);
            EXPECT_EQ(v.accuracy, accuracy);
            EXPECT_TRUE(v.mask || !mask);
            EXPECT_TRUE(v.from_sm <= d.capability && d.capability <= v.to_sm) << d.name;
          }
}

TEST(GpuPlan, CodePathsByCapability) {
  const struct {
    int capability;
    const char* path;
  } kWanted[] = {{75, "sm75"},  {80, "sm80"},  {86, "sm80"},  {87, "sm80"},   {89, "sm89"},  {90, "sm90"},
                 {100, "sm80"}, {103, "sm80"}, {110, "sm80"}, {120, "sm120"}, {121, "sm120"}};
  for (const auto& [capability, path] : kWanted) EXPECT_STREQ(native_path(capability)->name, path) << capability;
  EXPECT_EQ(native_path(70), nullptr);
  Device old = gpu_named("T4");
  old.capability = 70;
  const Plan plan = plan_for(tokens(1000), old);
  EXPECT_EQ(plan.why.code(), CLARY_NOT_SUPPORTED);
  EXPECT_NE(std::strstr(plan.why.message(), "7.0"), nullptr);
}

TEST(GpuPlan, ForcedPathsRunOrSayWhyNot) {
  for (const Device& d : known_gpus())
    for (const CodePath& path : code_paths()) {
      const std::string force = std::string("cuda:") + path.name;
      const Plan plan = plan_for(tokens(1000), d, force.c_str());
      EXPECT_EQ(static_cast<bool>(plan), path.only ? path.only == d.capability : path.capability <= d.capability)
          << d.name << " " << force;
      if (plan) {
        EXPECT_EQ(std::string(plan.variant), force + ":int8");
        EXPECT_EQ(&path_of(plan), &path);
      } else {
        EXPECT_EQ(plan.why.code(), CLARY_NO_DEVICE);
        EXPECT_NE(std::strstr(plan.why.message(), path.name), nullptr);
      }
    }
}

TEST(GpuPlan, WhatNamesNothingIsAnError) {
  for (const char* force :
       {"cuda:sm90x", "cuda:sm90a", "cuda:int8", "cuda:sm80:int9", "cuda:sm80:f32", "cudax", "cpu", "cpu:avx2"}) {
    const Plan plan = plan_for(tokens(1000), gpu_named("H200"), force);
    EXPECT_FALSE(plan) << force;
    EXPECT_GT(std::strlen(plan.why.message()), 10u) << force;
    EXPECT_GT(std::strlen(plan.why.hint()), 10u) << force;
  }
  Problem on_cpu = shapes(tokens(1000));
  on_cpu.device_type = CLARY_CPU;
  EXPECT_EQ(clary::choose(on_cpu, gpu_named("H200"), "", 0).why.code(), CLARY_NO_DEVICE);
  EXPECT_EQ(clary::choose(on_cpu, cpu_device(), "cuda", 1).why.code(), CLARY_NO_DEVICE);
}

TEST(GpuPlan, AccuracyDecidesTheArithmetic) {
  Case c = tokens(1000);
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_FAST}) {
    c.accuracy = accuracy;
    EXPECT_STREQ(plan_for(c, gpu_named("A100 80GB")).variant, "cuda:sm80:int8");
  }
  c.accuracy = CLARY_EXACT;
  const Plan exact = plan_for(c, gpu_named("A100 80GB"));
  EXPECT_EQ(exact.why.code(), CLARY_NOT_SUPPORTED);
  EXPECT_NE(std::strstr(exact.why.hint(), "scaled_dot_product_attention"), nullptr);
  c.accuracy = CLARY_HIGH;
  const Plan high = plan_for(c, gpu_named("A100 80GB"));
  EXPECT_STREQ(high.variant, "cuda:sm80:int8f16");
  EXPECT_EQ(variant_of(high).accuracy, CLARY_HIGH);
}

// The codes of q, k and v, a scale per row of q, per 128 keys, per 512 keys and channel of v; and 2 %.
TEST(GpuPlan, WorkspaceIsTheCodesAndTwoPercent) {
  for (const int64_t L : {2048, 4096, 17000}) {
    const Case c = tokens(L);
    const double rows = static_cast<double>(c.Hq * L);
    const double codes = rows * (3 * 128 + 4 + 4.0 / 128 + 4.0 * 128 / 512);
    const Plan plan = plan_for(c, gpu_named("H200"));
    EXPECT_GE(static_cast<double>(plan.workspace), rows * 3 * 128) << L;
    EXPECT_LE(static_cast<double>(plan.workspace), codes * test::kGpu_workspace) << L;
  }
}

// Every unit is in one band; under causal those of a band fit the L2 together and bands differ by one unit.
TEST(GpuPlan, BandsOfUnits) {
  const Device& card = gpu_named("H200");
  const struct {
    int64_t L, B, H;
    bool causal;
    int band, longer, whole;
  } kCases[] = {{4096, 4, 32, false, 1, 0, 21},
                {4096, 4, 32, true, 32, 0, 21},
                {16384, 1, 33, true, 6, 3, 85},
                {100, 1, 5, true, 5, 0, 0},
                {1 << 20, 1, 3, true, 1, 0, 5461}};
  for (const auto& c : kCases) {
    Case shape = tokens(c.L, 128, c.H);
    shape.B = c.B;
    Problem p = shapes(shape);
    p.causal = c.causal ? CLARY_CAUSAL_UPPER_LEFT : CLARY_CAUSAL_NONE;
    const AttentionVariant* variant =
        find_attention(p, CLARY_STANDARD, 90, card.shared_per_block, card.shared_per_multiprocessor);
    ASSERT_TRUE(variant && variant->persistent);
    AttentionPlan plan;
    ASSERT_TRUE(plan_attention(p, *variant, &plan));
    const AttentionArgs& a = plan.args;
    EXPECT_EQ(a.band, c.band) << c.L;
    EXPECT_EQ(a.longer_bands, c.longer) << c.L;
    EXPECT_EQ(a.whole_blocks, c.whole) << c.L;
    EXPECT_LE(a.longer_bands * (a.band + 1), a.units) << c.L;
    EXPECT_EQ((a.units - a.longer_bands) % a.band, 0) << c.L;
  }
}

TEST(GpuPlan, NeverSlowerWhereAsked) {
  const Case decode = [] {
    Case c = tokens(4096);
    c.B = 8;  // enough heads to fill any card
    c.Lq = 1;
    return c;
  }();
  for (const Device& d : known_gpus()) {
    const Plan refused = plan_for(decode, d, "", true);
    EXPECT_EQ(refused.why.code(), CLARY_NOT_SUPPORTED) << d.name;
    EXPECT_NE(std::strstr(refused.why.message(), "faster"), nullptr);
    EXPECT_NE(std::strstr(refused.why.message(), d.name), nullptr);
    EXPECT_TRUE(plan_for(decode, d)) << d.name;                // nobody asked
    EXPECT_TRUE(plan_for(decode, d, "cuda", true)) << d.name;  // forced
  }
  for (const char* name : {"A100 80GB", "H200", "RTX 3090", "RTX 4090", "RTX 5090", "T4"}) {
    const Plan plan = plan_for(tokens(16384), gpu_named(name), "", true);
    ASSERT_TRUE(plan) << name << ": " << plan.why.message();
    EXPECT_GT(plan.speedup, 1.2f) << name;
  }
}

// What ./dev bench gpu measured on an H200: no call in which torch was faster is thought to be faster, and all that gain much over many keys
// are.
TEST(GpuPlan, AgreesWithTheBench) {
  std::ifstream file(CLARY_SOURCE_DIR "/bench/results/gpu-h200.json");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::string name = "\"name\": \"";
  int rows = 0, gains = 0, found = 0;
  for (size_t at = text.find(name), next; at != std::string::npos; at = next) {
    next = text.find(name, at + 1);
    const std::string row = text.substr(at, next - at);
    const auto after = [&](std::initializer_list<const char*> keys) {  // the text behind the last of them
      size_t i = 0;
      for (const char* key : keys) {
        i = row.find("\"" + std::string(key) + "\": ", i);
        if (i == std::string::npos) return "";  // a number that fails
        i += std::strlen(key) + 4;
      }
      return row.c_str() + i;
    };
    const auto number = [&](std::initializer_list<const char*> keys) { return std::atof(after(keys)); };
    const auto count = [&](const char* key) { return static_cast<int64_t>(number({key})); };
    const double measured = number({"standard", "sustained", "over", "torch"});
    ASSERT_GT(measured, 0) << row.substr(0, 60);
    if (*after({"planned"}) == 'n') continue;  // key lengths
    Case c = tokens(count("Lq"), count("D"), count("H"));
    c.B = count("B"), c.Hkv = count("Hkv"), c.Lk = count("Lk");
    c.causal = *after({"causal"}) == 't' ? CLARY_CAUSAL_UPPER_LEFT : CLARY_CAUSAL_NONE;
    if (std::strncmp(after({"dtype"}), "\"f32", 4) == 0) c.dtype = c.out_dtype = CLARY_F32;
    Problem p = shapes(c);
    char element = 1;
    if (*after({"mask"}) == 't') p.mask = {&element, {1, 1, c.Lq, c.Lk}, {0, 0, c.Lk, 1}, CLARY_BOOL};
    const Estimate e = estimate(p, gpu_named("H200"), CLARY_STANDARD);
    EXPECT_TRUE(measured >= 1 || e.sdpa < e.ours) << row.substr(0, 60);
    const bool gains_much = measured > 1.2 && c.Lk > 1024;
    rows++, gains += gains_much, found += gains_much && e.sdpa > e.ours;
  }
  EXPECT_GE(rows, 50);
  EXPECT_EQ(found, gains);
  EXPECT_GE(gains, 20);
}

TEST(GpuPlan, WhatSdpaDoesNotServeInOneCallIsNotCompared) {
  const Device& d = gpu_named("RTX 4090");
  const int32_t lengths[2] = {0, 1};
  Problem base = shapes(tokens(64));
  base.not_slower = true;
  EXPECT_FALSE(clary::choose(base, d, "", 0));
  Problem p = base;
  p.kv_lens = lengths;
  EXPECT_TRUE(clary::choose(p, d, "", 0));
  p = base;
  p.window_left = 3;
  EXPECT_TRUE(clary::choose(p, d, "", 0));
  Case c = tokens(64);
  c.lse = true;
  EXPECT_TRUE(plan_for(c, d, "", true));
  p = base;
  p.causal = CLARY_CAUSAL_LOWER_RIGHT;
  EXPECT_FALSE(clary::choose(p, d, "", 0));  // square: the same as upper_left
}

// Longer problems gain more, until the tensor cores are all there is; on cards where there is anything to gain.
TEST(GpuPlan, SpeedupGrowsWithLength) {
  for (const Device& d : known_gpus())
    for (const int64_t D : {64, 128, 256}) {
      const Estimate longest = estimate(shapes(tokens(65536, D)), d, CLARY_STANDARD);
      EXPECT_EQ(longest.ours < longest.sdpa, d.capability <= 90 || d.capability >= 120) << d.name;
      if (longest.ours > longest.sdpa) continue;
      double last = 0;
      for (int64_t L = 128; L <= 65536; L *= 2) {
        const Estimate e = estimate(shapes(tokens(L, D)), d, CLARY_STANDARD);
        EXPECT_GE(e.sdpa / e.ours, last * 0.999) << d.name << " D " << D << " L " << L;
        EXPECT_GT(e.ours, 0);
        last = e.sdpa / e.ours;
      }
    }
}

TEST(GpuPlan, WordsNameTheVariantOrTheReason) {
  char line[1500];
  for (const char* force : {"", "cuda:sm80", "cuda:sm120", "cuda:nonsense"})
    for (const int32_t format : {CLARY_TEXT, CLARY_JSON}) {
      const Problem p = shapes(tokens(8192));
      const Plan plan = clary::choose(p, gpu_named("A100 80GB"), force, 0);
      const int needed = describe(p, plan, format, line, sizeof line);
      ASSERT_EQ(static_cast<size_t>(needed), std::strlen(line));
      if (format == CLARY_JSON) {
        EXPECT_TRUE(test::JsonReader::valid(line)) << line;
      }
      if (plan) {
        EXPECT_NE(std::strstr(line, plan.variant), nullptr) << line;
        EXPECT_NE(std::strstr(line, variant_of(plan).kernel), nullptr) << line;
        EXPECT_NE(std::strstr(line, format == CLARY_JSON ? "\"speedup\": " : "torch's SDPA"), nullptr) << line;
      } else if (format == CLARY_TEXT) {
        EXPECT_NE(std::strstr(line, plan.why.message()), nullptr) << line;
      }
    }
}

TEST(GpuPlan, TakesAMicrosecond) {
  using Clock = std::chrono::steady_clock;
  const Problem p = shapes(tokens(8192));
  const Device& d = gpu_named("H200");
  double best = 1;
  for (int round = 0; round < 300; round++) {
    const auto begin = Clock::now();
    for (int i = 0; i < 20; i++) ASSERT_TRUE(clary::choose(p, d, "", 0));
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count() / 20);
  }
  printf("  %.2f us a plan\n", 1e6 * best);
  EXPECT_LT(1e6 * best, test::kGpu_plan_us);
}

}  // namespace
}  // namespace clary::cuda
