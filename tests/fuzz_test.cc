// Random problems against the oracle: CLARY_FUZZ_COUNT of them (500), each on one target and every sixteenth on all, in the planned
// or in a forced arithmetic. A failure prints its seed; CLARY_FUZZ_SEED=<seed> runs that one alone, CLARY_FUZZ_FIRST=<seed> starts there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/compare.h"

namespace clary::test {
namespace {

constexpr int64_t kMostWork = 600000;  // multiply-adds of a problem

int64_t length(Random& r, int64_t most) {
  static const int64_t kEdges[] = {1, 2, 7, 8, 9, 16, 31, 32, 33, 48, 63, 64, 65, 127, 128, 129, 255, 256, 257};
  const int64_t x = r.chance(0.4) ? r.pick(kEdges) : r.chance(0.5) ? r.between(1, 20) : r.between(1, most);
  return r.chance(0.02) ? 0 : std::min(x, most);
}
int64_t dim(Random& r) {
  static const int64_t kDims[] = {1, 3, 8, 16, 32, 40, 64, 72, 80, 96, 128, 160, 192, 256};
  return r.chance(0.6) ? r.pick(kDims) : r.between(1, r.chance(0.7) ? 40 : 256);
}
float size(Random& r, int32_t dtype) {
  static const float kSizes[] = {1e-30f, 1e-8f, 1e-3f, 0.1f, 5.0f, 100.0f, 6e4f};
  static const float kWide[] = {1e-38f, 1e10f, 1e30f, 3e38f};
  if (r.chance(0.75)) return 1;
  return dtype != CLARY_F16 && r.chance(0.2) ? r.pick(kWide) : r.pick(kSizes);
}

std::vector<int32_t> cumulative(Random& r, int64_t total, size_t sequences) {
  std::vector<int32_t> cu{0};
  for (size_t s = 1; s < sequences; s++) cu.push_back(static_cast<int32_t>(r.between(0, total)));
  cu.push_back(static_cast<int32_t>(total));
  std::sort(cu.begin(), cu.end());
  return cu;
}

Case random_case(uint64_t seed) {
  Random r(seed * 1000003);
  static const int64_t kGroups[] = {1, 1, 1, 2, 3, 4, 8};
  static const int32_t kDtypes[] = {CLARY_F16, CLARY_BF16, CLARY_F32};
  Case c;
  c.seed = seed;
  c.B = r.chance(0.02) ? 0 : r.between(1, 3);
  c.Hkv = r.between(1, 2);
  c.Hq = c.Hkv * r.pick(kGroups);
  c.D = dim(r), c.Dv = r.chance(0.5) ? c.D : dim(r);
  c.dtype = r.pick(kDtypes);
  c.out_dtype = r.chance(0.7) ? c.dtype : r.pick(kDtypes);
  c.accuracy = static_cast<int32_t>(r.between(0, 3));
  c.causal = r.chance(0.5) ? 0 : static_cast<int32_t>(r.between(1, 2));
  c.window = r.chance(0.2);
  if (c.window) c.window_left = r.between(-1, 150), c.window_right = r.between(-1, 50);
  if (r.chance(0.15)) c.scale = static_cast<float>(std::exp(3 * r.normal())) * (r.chance(0.2) ? -1.0f : 1.0f);
  c.data = static_cast<Data>(r.chance(0.4) ? 0 : r.between(0, 6));
  c.q_size = size(r, c.dtype), c.k_size = size(r, c.dtype), c.v_size = size(r, c.dtype);
  c.layout = static_cast<Layout>(r.between(0, kLayouts - 1));
  c.out_layout = static_cast<Layout>(r.between(0, kLayouts - 1));
  c.lse = r.chance(0.8);
  c.Lq = length(r, 140);
  c.Lk = length(r, r.chance(0.1) ? 2500 : 400);
  while (c.B * c.Hq * c.Lq * c.Lk * (c.D + c.Dv) > kMostWork) {
    if (c.B * c.Hq > 4)
      c.B = 1, c.Hkv = 1, c.Hq = r.between(1, 3);
    else if (r.chance(0.3))
      c.D = r.between(1, c.D), c.Dv = r.between(1, c.Dv);
    else if (c.Lq > 1 && r.chance(0.6))
      c.Lq = r.between(1, c.Lq);
    else
      c.Lk = r.between(1, c.Lk);
  }
  if (r.chance(0.2)) {
    const size_t sequences = static_cast<size_t>(r.between(1, 4));
    c.B = 1;
    c.cu_q = cumulative(r, c.Lq, sequences), c.cu_k = cumulative(r, c.Lk, sequences);
  } else {
    if (r.chance(0.35)) c.mask = static_cast<Mask>(r.between(1, 4));
    for (bool& b : c.mask_broadcast) b = r.chance(0.3);
    static const float kHidden[] = {0.0f, 0.3f, 0.9f, 0.99f, 1.0f};
    c.mask_hidden = r.pick(kHidden);
    if (r.chance(0.25))
      for (int64_t b = 0; b < c.B; b++) c.kv_lens.push_back(static_cast<int32_t>(r.between(0, c.Lk)));
  }
  if (r.chance(0.1)) c.poison = static_cast<Poison>(r.between(1, 7));
  return c;
}

std::string fuzz_one(uint64_t seed, bool all_targets) {
  Random r(seed * 7919 + 5);
  static const char* const kArithmetics[] = {"", "", "", ":int8", ":int16", ":f32", ":direct"};
  const Case c = random_case(seed);
  const std::string arithmetic = r.pick(kArithmetics);
  Instance instance(c);
  Judge judge(instance);
  const auto& targets = usable_targets();
  const size_t only = static_cast<size_t>(r.between(0, static_cast<int64_t>(targets.size()) - 1));
  for (size_t t = 0; t < targets.size(); t++) {
    if (!all_targets && t != only) continue;
    const std::string name = targets[t]->name + arithmetic;
    const std::string fault = judge(instance.run(name.c_str()));
    if (!fault.empty())
      return "CLARY_FUZZ_SEED=" + std::to_string(seed) + " on " + name + ": " + fault + "\n  " + text(c);
  }
  return "";
}

uint64_t number(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? std::strtoull(value, nullptr, 10) : otherwise;
}

TEST(Fuzz, RandomProblemsAgreeWithTheOracle) {
  if (const uint64_t seed = number("CLARY_FUZZ_SEED", 0)) {
    std::printf("%s\n", text(random_case(seed)).c_str());
    EXPECT_EQ(fuzz_one(seed, true), "");
    return;
  }
  const uint64_t first = number("CLARY_FUZZ_FIRST", 1), count = number("CLARY_FUZZ_COUNT", 500);
  int faults = 0;
  for (uint64_t seed = first; seed < first + count && faults < 10; seed++) {
    const std::string fault = fuzz_one(seed, seed % 16 == 0);
    if (fault.empty()) continue;
    faults++;
    ADD_FAILURE() << fault;
  }
}

// The generator reaches what it is for.
TEST(Fuzz, TheGeneratorCoversItsOptions) {
  int varlen = 0, masks[5] = {}, causal[3] = {}, layouts[kLayouts] = {}, windows = 0, lens = 0, poisons = 0, rows = 0,
      tiles = 0;
  for (uint64_t seed = 1; seed <= 1000; seed++) {
    const Case c = random_case(seed);
    varlen += !c.cu_q.empty(), masks[static_cast<int>(c.mask)]++, causal[c.causal]++,
        layouts[static_cast<int>(c.layout)]++;
    windows += c.window, lens += !c.kv_lens.empty(), poisons += c.poison != Poison::kNone;
    rows += c.Lq * (c.Hq / c.Hkv) >= 48, tiles += c.Lk > 256;
  }
  for (int n : masks) EXPECT_GE(n, 30);
  for (int n : causal) EXPECT_GE(n, 100);
  for (int n : layouts) EXPECT_GE(n, 50);
  for (int n : {varlen, windows, lens, poisons, rows, tiles}) EXPECT_GE(n, 50);
}

}  // namespace
}  // namespace clary::test
