// The attention kernels, on a GPU or emulated: lengths, masks, heads, layouts, magnitudes, shares, varlen.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "attention_check.h"
#include "tests/compare.h"

namespace clary::test {
namespace {

class Attention : public testing::Test {
 protected:
  void SetUp() override {
#ifdef CLARY_EMULATED_SM
    machine_ = emulated_machine();
#else
    std::string why;
    machine_ = gpu_machine(&why);
    if (!machine_) GTEST_SKIP() << why;
#endif
  }
  // Every variant that serves the case.
  std::vector<const cuda::AttentionVariant*> serving(const Case& c) const {
    std::vector<const cuda::AttentionVariant*> list;
    int count = 0;
    const cuda::AttentionVariant* variants = cuda::attention_variants(&count);
    for (int i = 0; i < count; i++)
      if (variants[i].dim == cuda::padded_dim(static_cast<int>(std::max(c.D, c.Dv))) &&
          (variants[i].mask || c.mask == Mask::kNone) && variants[i].from_sm <= machine_->sm() &&
          machine_->sm() <= variants[i].to_sm)
        list.push_back(&variants[i]);
    return list;
  }
  // On every variant that serves the case, or on one of them in turn.
  std::string check(const Case& c, bool all = false) {
    Instance instance(c);
    const std::vector<const cuda::AttentionVariant*> serving = this->serving(c);
    for (size_t i = 0; i < serving.size(); i++) {
      if (!all && i != turn_ % serving.size()) continue;
      const std::string fault = attention_fault(instance, machine_->run(instance, *serving[i]));
      runs_++;
      if (!fault.empty())
        return std::string(machine_->name()) + " " + serving[i]->kernel + ": " + fault + "\n  " + text(c);
    }
    turn_++;
    return "";
  }
  void TearDown() override { std::printf("  %d runs\n", runs_); }

  Machine* machine_ = nullptr;
  size_t turn_ = 0;
  int runs_ = 0;
};

Case base(int64_t D, int64_t Lq, int64_t Lk) {
  Case c;
  c.Hq = 2, c.Hkv = 1;
  c.Lq = Lq, c.Lk = Lk, c.D = c.Dv = D;
  c.dtype = c.out_dtype = CLARY_BF16;
  return c;
}

TEST_F(Attention, Whole) {
  for (const int64_t D : {64, 128, 256}) EXPECT_EQ(check(base(D, 64, 256), true), "");
}
TEST_F(Attention, Dims) {
  for (const int64_t D : {1, 8, 40, 72, 80, 96, 160, 192, 255}) EXPECT_EQ(check(base(D, 33, 150)), "");
  Case c = base(64, 20, 140);
  c.Dv = 100;
  EXPECT_EQ(check(c, true), "");
}
TEST_F(Attention, Lengths) {
  for (const int64_t Lk : {0, 1, 2, 63, 64, 65, 127, 128, 129, 255, 257, 511, 512, 513})
    EXPECT_EQ(check(base(Lk % 2 ? 64 : 128, 1 + Lk * 7 % 70, Lk), true), "");
}
TEST_F(Attention, Causal) {
  for (const int kind : {1, 2})
    for (const int64_t Lk : {1, 40, 128, 200, 300}) {
      Case c = base(Lk % 3 ? 128 : 64, 150, Lk);
      c.causal = kind;
      EXPECT_EQ(check(c, true), "");
      c.window = true;
      c.window_left = Lk / 3;
      EXPECT_EQ(check(c), "");
      c.causal = 0, c.window_right = 5;
      EXPECT_EQ(check(c), "");
    }
}
TEST_F(Attention, Masks) {
  for (int kind = 1; kind <= 4; kind++)
    for (int broadcast = 0; broadcast < 8; broadcast++) {
      Case c = base(kind % 2 ? 64 : 128, 40, 190);
      c.B = 2, c.Hq = 4, c.Hkv = 2;
      c.mask = static_cast<Mask>(kind);
      for (int i = 0; i < 3; i++) c.mask_broadcast[i] = broadcast >> i & 1;
      c.mask_hidden = broadcast == 7 ? 1.0f : 0.4f;
      EXPECT_EQ(check(c), "");
    }
}
TEST_F(Attention, KeyLengths) {
  Case c = base(128, 20, 300);
  c.B = 4, c.kv_lens = {0, 1, 129, 300};
  EXPECT_EQ(check(c, true), "");
  c.causal = 2;
  EXPECT_EQ(check(c, true), "");
}
TEST_F(Attention, Shares) {
  for (const int64_t D : {64, 128, 256}) {
    Case c = base(D, 1, 3000);
    c.B = 2, c.Hq = 8, c.Hkv = 2;
    EXPECT_EQ(check(c, true), "");
    c.causal = 2, c.window = true, c.window_left = 700;
    EXPECT_EQ(check(c), "");
    c.causal = 0, c.window = false;
    c.kv_lens = {1700, 3};
    EXPECT_EQ(check(c), "");
  }
}
TEST_F(Attention, Varlen) {
  for (const int causal : {0, 1, 2}) {
    Case c = base(causal ? 128 : 64, 200, 1700);
    c.Hq = 4, c.Hkv = 2;
    c.cu_q = {0, 3, 3, 150, 200}, c.cu_k = {0, 40, 45, 45, 1700};
    c.causal = causal;
    EXPECT_EQ(check(c, true), "");
  }
}
// More blocks than any card runs at a time: those that stay take several tiles of queries each.
TEST_F(Attention, ManyBlocks) {
  int count = 0;
  const cuda::AttentionVariant& first = *cuda::attention_variants(&count);
  if (!first.persistent || machine_->sm() < first.from_sm || machine_->sm() > first.to_sm)
    GTEST_SKIP() << "no kernel whose blocks stay";
  for (const int causal : {0, 1}) {
    turn_ = 0;
    Case c = base(128, 200, 140);
    c.B = 2, c.Hq = c.Hkv = 40;
    c.causal = causal;
    EXPECT_EQ(check(c), "");
  }
}
TEST_F(Attention, Layouts) {
  for (int layout = 0; layout < kLayouts; layout++)
    for (const int32_t dtype : {CLARY_F16, CLARY_BF16, CLARY_F32}) {
      Case c = base(layout % 2 ? 72 : layout % 4 ? 128 : 64, 20, 70);
      c.B = 2, c.Hq = c.Hkv = 2;
      c.layout = static_cast<Layout>(layout), c.out_layout = static_cast<Layout>((layout + 3) % kLayouts);
      c.dtype = dtype, c.out_dtype = layout % 3 ? dtype : CLARY_F32;
      EXPECT_EQ(check(c), "");
    }
}
TEST_F(Attention, Magnitudes) {
  for (const float size : {1e-38f, 1e-20f, 1e-3f, 30.0f, 1e4f, 1e15f, 3e38f})
    for (int which = 0; which < 8; which++) {
      Case c = base(which & 4 ? 128 : 64, 10, 600);
      c.dtype = c.out_dtype = CLARY_F32;
      const int tensor = which & 3;
      (tensor == 1 ? c.k_size : tensor == 2 ? c.v_size : c.q_size) = size;
      if (tensor == 3) c.k_size = size, c.scale = -0.3f;
      EXPECT_EQ(check(c), "");
    }
}
TEST_F(Attention, NotFinite) {
  for (int poison = 1; poison <= 7; poison++) {
    Case c = base(128, 20, 200);
    c.poison = static_cast<Poison>(poison);
    if (c.poison == Poison::kNanMask) c.mask = Mask::kF32;
    EXPECT_EQ(check(c), "");
  }
}

// Many calls, in slices that run at the same time.
constexpr int kSlices = 8;
class AttentionSlice : public Attention, public testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Of8, AttentionSlice, testing::Range(0, kSlices));

TEST_P(AttentionSlice, EveryLength) {
  const int step = machine_->quick() ? 1 : 43;
  for (int64_t Lq = 1 + GetParam(); Lq <= 130; Lq += kSlices * step)
    for (int64_t Lk = 1 + Lq % step; Lk <= 130; Lk += step) {
      Case c = base((Lq + Lk) % 3 == 0 ? 128 : (Lq + Lk) % 3 == 1 ? 64 : 40, Lq, Lk);
      c.causal = static_cast<int32_t>(Lq * 7 + Lk) % 3;
      ASSERT_EQ(check(c), "");
    }
}

// CLARY_FUZZ_COUNT of them in all; CLARY_FUZZ_FIRST is the first one's seed.
TEST_P(AttentionSlice, Random) {
  const char *count = std::getenv("CLARY_FUZZ_COUNT"), *first = std::getenv("CLARY_FUZZ_FIRST");
  const uint64_t begin = first ? std::strtoull(first, nullptr, 10) : 1;
  const uint64_t end = begin + (count ? std::strtoull(count, nullptr, 10) : 40);
  for (uint64_t seed = begin + static_cast<uint64_t>(GetParam()); seed < end; seed += kSlices) {
    Random r(seed * 7919);
    static const int64_t kDims[] = {1, 8, 40, 64, 72, 80, 96, 128, 160, 192, 256}, kGroups[] = {1, 1, 2, 3, 8};
    static const int32_t kDtypes[] = {CLARY_F16, CLARY_BF16, CLARY_F32};
    Case c;
    c.seed = seed;
    c.B = r.between(1, 3), c.Hkv = r.between(1, 2), c.Hq = c.Hkv * r.pick(kGroups);
    c.Lq = r.chance(0.3) ? r.between(1, 4) : r.between(1, 150);
    c.Lk = r.chance(0.1) ? r.between(1000, 2600) : r.between(0, 300);
    if (c.Lk > 600) c.Lq = r.between(1, 8);
    c.D = r.pick(kDims), c.Dv = r.chance(0.7) ? c.D : r.pick(kDims);
    c.dtype = r.pick(kDtypes), c.out_dtype = r.chance(0.7) ? c.dtype : r.pick(kDtypes);
    c.data = static_cast<Data>(r.chance(0.5) ? 0 : r.between(0, 6));
    c.causal = r.chance(0.5) ? 0 : static_cast<int32_t>(r.between(1, 2));
    c.window = r.chance(0.25);
    if (c.window) c.window_left = r.between(-1, 150), c.window_right = r.between(-1, 50);
    c.lse = r.chance(0.8);
    c.layout = static_cast<Layout>(r.between(0, kLayouts - 1)),
    c.out_layout = static_cast<Layout>(r.between(0, kLayouts - 1));
    if (r.chance(0.2)) {
      c.B = 1;
      c.cu_q = {0, static_cast<int32_t>(r.between(0, c.Lq)), static_cast<int32_t>(c.Lq)};
      c.cu_k = {0, static_cast<int32_t>(r.between(0, c.Lk)), static_cast<int32_t>(c.Lk)};
    } else {
      if (r.chance(0.3)) c.mask = static_cast<Mask>(r.between(1, 4));
      if (c.mask != Mask::kNone && c.layout == Layout::kOdd) c.layout = Layout::kHnd;
      for (bool& b : c.mask_broadcast) b = r.chance(0.3);
      if (r.chance(0.3))
        for (int64_t b = 0; b < c.B; b++) c.kv_lens.push_back(static_cast<int32_t>(r.between(0, c.Lk)));
    }
    if (r.chance(0.1)) c.poison = static_cast<Poison>(r.between(1, 6));
    ASSERT_EQ(check(c), "") << "CLARY_FUZZ_FIRST=" << seed;
  }
}

TEST_F(Attention, AgainstF64) {
  for (const int64_t D : {64, 128, 256})
    for (const Data data : {Data::kNormal, Data::kOutlier, Data::kBias}) {
      Case c = base(D, 128, 1024);
      c.Hq = 1, c.data = data, c.out_dtype = CLARY_F32;
      Instance instance(c);
      const std::vector<double> exact = reference::exact(instance.problem()).out;
      for (const cuda::AttentionVariant* variant : serving(c)) {
        const AttentionRun run = machine_->run(instance, *variant);
        ASSERT_EQ(run.fault, "");
        const double error = relative_l2(run.out, exact);
        std::printf("  %s data %d: %.5f\n", variant->kernel, static_cast<int>(data), error);
        if (data != Data::kBias) {
          EXPECT_LE(error, gpu_bound(variant->accuracy, data == Data::kNormal ? "normal" : "outlier"));
        }
      }
    }
}

}  // namespace
}  // namespace clary::test
