// The quantiser: its plan on any machine, its codes against f64 on a GPU.
#include "engine/cuda/quantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "device.h"
#include "quantise_check.h"
#include "tests/bounds.h"
#include "tests/support.h"

namespace clary::cuda {
namespace {

using test::Case;
using test::Layout;

TEST(Layout, EveryByteHasOnePlace) {
  for (const int dp : {64, 128, 256}) {
    std::set<int64_t> places, channels;
    for (int64_t row = 0; row < 32; row++)
      for (int i = 0; i < dp; i++) places.insert(rows_offset(dp, 32, row, i));
    EXPECT_EQ(places.size(), 32u * dp);
    EXPECT_EQ(*places.rbegin(), 32 * dp - 1);
    for (int i = 0; i < dp; i++) channels.insert(rotated_channel(i));
    EXPECT_EQ(channels.size(), static_cast<size_t>(dp));
    EXPECT_EQ(*channels.rbegin(), dp - 1);
    for (const int group : {64, 128}) {
      places.clear();
      for (int64_t key = 0; key < 256; key++)
        for (int c = 0; c < dp; c++) places.insert(values_offset(dp, group, c, key));
      EXPECT_EQ(places.size(), 256u * dp);
      EXPECT_EQ(*places.rbegin(), 256 * dp - 1);
    }
  }
  const int kOrder[16] = {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15};  // reference/gpu-attention.md, 4e
  for (int slot = 0; slot < 16; slot++) EXPECT_EQ(key_slot(kOrder[slot]), slot);
}

TEST(Layout, ChunksCoverTheSequence) {
  for (int64_t rows = 0; rows < 40000; rows += 1 + rows / 50) {
    EXPECT_GE(chunk_rows(rows) * chunk_count(rows), rows);
    EXPECT_LE(chunk_count(rows), chunk_bound(rows));
    EXPECT_LE(chunk_bound(rows), kMeanChunks);
  }
  for (int64_t i = 0; i < 1000; i++) EXPECT_EQ(mean_key(true, i) / kMeanStep, i);
}

Problem problem(int64_t B, int64_t Hq, int64_t Hkv, int64_t Lq, int64_t Lk, int64_t D) {
  Case c;
  c.B = B, c.Hq = Hq, c.Hkv = Hkv, c.Lq = Lq, c.Lk = Lk, c.D = c.Dv = D;
  c.dtype = c.out_dtype = CLARY_BF16;
  return test::Instance(c).problem();
}

TEST(Plan, SizesAndWork) {
  QuantisePlan plan;
  ASSERT_TRUE(plan_quantise(problem(1, 4, 2, 1000, 2000, 128), {}, &plan));
  EXPECT_EQ(plan.quantise_blocks, 4u * 8 + 2 * 16);
  EXPECT_EQ(plan.values_blocks, 2u * 4 + 2 * 4 * 4);  // chunks of K: up to 1023 exact rows of a shorter sequence
  EXPECT_STREQ(plan.quantise_kernel, "quantise_bf16_128");
  const uint64_t codes = 4 * 1008 * 128 + 2 * 2 * 2048 * 128;
  EXPECT_GE(plan.workspace, codes);
  EXPECT_LE(plan.workspace, codes * 1.08 + 10000);
  ASSERT_TRUE(plan_quantise(problem(1, 1, 1, 0, 0, 64), {}, &plan));
  EXPECT_EQ(plan.quantise_blocks, 0u);
  EXPECT_EQ(plan.values_blocks, 0u);
  EXPECT_GE(plan.workspace,
            plan.offsets.v_scales + 4 * 64);  // Hopper reads one row of V's scales where there are no keys
}

// Scales of a whole sequence: a cluster of as many blocks as the longest needs, or none and maxima.
TEST(Plan, ClustersOfValues) {
  const struct {
    int64_t keys;
    int cluster;
  } kCases[] = {{1, 1},    {512, 1},   {513, 2},   {1024, 2}, {1025, 4}, {2049, 8},
                {4096, 8}, {4097, 16}, {8192, 16}, {8193, 1}, {20000, 1}};
  for (const auto& c : kCases) {
    QuantisePlan plan;
    ASSERT_TRUE(plan_quantise(problem(1, 3, 3, 10, c.keys, 128), {.v_per_channel = true}, &plan));
    const QuantiseArgs& a = plan.args;
    EXPECT_EQ(a.v_cluster, c.cluster) << c.keys;
    EXPECT_EQ(a.v_chunks > 0, c.keys > 8192) << c.keys;
    EXPECT_EQ(a.v_blocks, 1) << c.keys;
    EXPECT_EQ(a.v_items, 3 * 4 * pad_to(c.keys, c.cluster * kScaleKeys) / kScaleKeys) << c.keys;
    EXPECT_EQ(a.s_items % c.cluster, 0) << c.keys;
    EXPECT_GE(a.s_items, 3 * (a.k_chunks + a.v_chunks)) << c.keys;
  }
}

TEST(Plan, MemoryStaysWithinTwoPercentOfTheCodes) {
  QuantisePlan plan;
  ASSERT_TRUE(plan_quantise(problem(1, 8, 8, 2048, 2048, 128), {}, &plan));
  const double codes = 3.0 * 8 * 2048 * 128, scales = 4.0 * (8 * 2048 + 8 * 16 + 8 * 4 * 128);
  EXPECT_LE(static_cast<double>(plan.workspace), (codes + scales) * test::kGpu_workspace);
}

// images.json of this build.
TEST(Images, NoKernelSpills) {
  std::ifstream file(CLARY_IMAGE_REPORT);
  ASSERT_TRUE(file) << CLARY_IMAGE_REPORT;
  std::string line;
  int kernels = 0;
  while (std::getline(file, line))
    if (const size_t at = line.find("\"spill_bytes\": "); at != std::string::npos) {
      kernels++;
      EXPECT_EQ(line.substr(at + 15, 1), "0") << "see " CLARY_IMAGE_REPORT;
    }
  EXPECT_GE(kernels, 12);
}

// ---- on a GPU ----------------------------------------------------------------------------------------------------------

class QuantiseGpu : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (Status s = gpu_count(&count); !s || count == 0) GTEST_SKIP() << "no GPU: " << s.message();
    const Gpu* first = nullptr;
    ASSERT_TRUE(gpu(0, &first));
    gpu_ = *first;
    const Status s = current_.enter(gpu_, nullptr);
    ASSERT_TRUE(s) << s.message();
  }

  struct Run {
    Problem problem;
    QuantisePlan plan;
    std::vector<char> workspace;  // from its first multiple of 256
  };
  // The instance's tensors copied to the GPU byte for byte, quantised twice; the two must agree.
  Run run(const test::Instance& instance, const QuantiseOptions& options, bool graph = false) {
    const test::DeviceApi& api = test::device_api();
    Run r;
    r.problem = instance.problem();
    Problem on_gpu = r.problem;
    const auto place = [](const test::Tensor& t, View* view) {
      // not longer than the tensor, so that memcheck sees a step beyond
      auto memory = std::make_unique<test::DeviceMemory>(t.memory.size());
      memory->put(t.memory.data(), t.memory.size());
      view->data = memory->data() + (static_cast<const char*>(t.view.data) - t.memory.data());
      return memory;
    };
    const auto q = place(instance.q, &on_gpu.q), k = place(instance.k, &on_gpu.k), v = place(instance.v, &on_gpu.v);
    test::DeviceMemory lens(4 * static_cast<size_t>(r.problem.B) + 4);
    if (r.problem.kv_lens) {
      lens.put(r.problem.kv_lens, 4 * static_cast<size_t>(r.problem.B));
      on_gpu.kv_lens = reinterpret_cast<const int32_t*>(lens.data());
    }
    Status s = plan_quantise(on_gpu, options, &r.plan);
    EXPECT_TRUE(s) << s.message();
    test::DeviceMemory workspace(r.plan.workspace);
    bind(&r.plan, workspace.data());
    for (int i = 0; i < 2; i++) {
      workspace.fill(test::kUnwritten);
      Stream stream = nullptr;
      test::GraphExec exec = nullptr;
      test::Graph captured = nullptr;
      if (graph) {
        EXPECT_EQ(api.stream_create(&stream, 1), kSuccess);
        EXPECT_EQ(api.synchronize(), kSuccess);
        EXPECT_EQ(api.capture_begin(stream, 0), kSuccess);
      }
      s = quantise(gpu_, r.plan, stream);
      EXPECT_TRUE(s) << s.message();
      if (graph) {
        EXPECT_EQ(api.capture_end(stream, &captured), kSuccess);
        EXPECT_EQ(api.instantiate(&exec, captured, 0), kSuccess);
        EXPECT_EQ(api.graph_launch(exec, stream), kSuccess);
      }
      EXPECT_EQ(api.synchronize(), kSuccess);
      std::vector<char> now = workspace.get();
      if (i) {
        EXPECT_EQ(std::memcmp(now.data(), r.workspace.data(), now.size()), 0) << "two runs differ";
      }
      r.workspace = std::move(now);
    }
    return r;
  }

  void expect_right(const test::Instance& instance, const QuantiseOptions& options) {
    SCOPED_TRACE(text(instance.c) + " mean " + std::to_string(options.mean) +
                 (options.v_per_channel ? " per channel" : "") + " group " + std::to_string(options.v_group));
    const Run r = run(instance, options);
    const struct {
      const char* name;
      test::Difference d;
    } kChecks[] = {{"q", test::check_queries(r.problem, r.plan, r.workspace.data())},
                   {"k", test::check_keys(r.problem, r.plan, r.workspace.data())},
                   {"v", test::check_values(r.problem, r.plan, r.workspace.data())}};
    for (const auto& [name, d] : kChecks) {
      EXPECT_LE(d.worst_code, 1) << name;
      EXPECT_LT(d.differing, name[0] == 'v' ? test::kGpu_v_codes : test::kGpu_codes) << name;
      EXPECT_LT(d.excess, test::kGpu_beyond_half) << name;
      EXPECT_LT(d.worst_scale, test::kGpu_scale) << name;
      EXPECT_LT(d.worst_shift, test::kGpu_shift) << name;
      EXPECT_EQ(d.damage, "") << name;
      worst_[name].worst_scale = std::max(worst_[name].worst_scale, d.worst_scale);
      worst_[name].excess = std::max(worst_[name].excess, d.excess);
      worst_[name].differing = std::max(worst_[name].differing, d.differing);
    }
  }
  void TearDown() override {
    for (const auto& [name, d] : worst_)
      printf("  %s: share of codes that differ up to %.1e, beyond half a code up to %.1e; scales off by up to %.1e\n",
             name.c_str(), d.differing, d.excess, d.worst_scale);
  }

  Gpu gpu_;
  CurrentGpu current_;
  std::map<std::string, test::Difference> worst_;
};

Case base(int32_t dtype, int64_t D, int64_t Lq, int64_t Lk) {
  Case c;
  c.B = 2, c.Hq = 2, c.Hkv = 1;
  c.Lq = Lq, c.Lk = Lk, c.D = c.Dv = D;
  c.dtype = c.out_dtype = dtype;
  return c;
}
constexpr int32_t kDtypes[] = {CLARY_BF16, CLARY_F16, CLARY_F32};

TEST_F(QuantiseGpu, TypesAndDims) {
  for (const int32_t dtype : kDtypes)
    for (const int64_t D : {1, 8, 20, 40, 64, 72, 80, 96, 100, 128, 160, 192, 255, 256})
      for (const test::Data data : {test::Data::kNormal, test::Data::kOutlier}) {
        Case c = base(dtype, D, 130, 700);
        c.Dv = D == 64 ? 128 : D == 100 ? 33 : D;
        c.data = data;
        expect_right(test::Instance(c), {.mean = kExactMean, .shift = true});
      }
}

TEST_F(QuantiseGpu, Lengths) {
  int i = 0;
  for (const int64_t Lk : {1, 15, 16, 17, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025, 2600, 4096, 4097, 5000, 8193})
    for (const int64_t D : {64, 128, 256}) {
      Case c = base(kDtypes[i % 3], D, 1 + i * 37 % 300, Lk);
      expect_right(test::Instance(c), {.mean = static_cast<MeanKind>(i % 3),
                                       .v_per_channel = i % 2 == 1,
                                       .v_group = i % 4 < 2 ? 128 : 64,
                                       .v_half = i % 4 == 3,
                                       .shift = i % 5 < 2});
      i++;
    }
}

TEST_F(QuantiseGpu, Layouts) {
  int i = 0;
  for (int layout = 0; layout < test::kLayouts; layout++)
    for (const int32_t dtype : kDtypes)
      for (const int64_t D : {64, 72, 128, 256}) {
        Case c = base(dtype, D, 77, 600);
        c.Hq = 4, c.Hkv = 2;
        c.layout = static_cast<Layout>(layout);
        expect_right(test::Instance(c), {.mean = i % 2 ? kExactMean : kSampledMean, .v_per_channel = i++ % 3 == 0});
      }
}

TEST_F(QuantiseGpu, KeyLengthsHideNan) {
  for (const int32_t dtype : kDtypes)
    for (const bool per_channel : {false, true}) {
      Case c = base(dtype, 128, 40, 2100);
      c.B = 6;
      c.kv_lens = {0, 1, 128, 1500, 2099, 2100};
      test::Instance instance(c);
      for (int64_t b = 0; b < c.B; b++)
        for (int64_t l = c.kv_lens[b]; l < c.Lk; l++)
          for (int64_t d = 0; d < c.D; d++) {
            instance.k.set(b, 0, l, d, NAN);
            instance.v.set(b, 0, l, d, NAN);
          }
      expect_right(instance, {.mean = kSampledMean, .v_per_channel = per_channel, .shift = true});
    }
}

TEST_F(QuantiseGpu, NanMakesScalesNanInItsHeadOnly) {
  for (const int32_t dtype : kDtypes)
    for (const float bad : {static_cast<float>(NAN), INFINITY, -INFINITY}) {
      Case c = base(dtype, 64, 200, 900);
      test::Instance instance(c);
      instance.q.set(0, 1, 150, 63, bad);
      instance.k.set(1, 0, 899, 0, bad);
      instance.v.set(0, 0, 513, 5, bad);
      expect_right(instance, {.mean = kExactMean});
      expect_right(instance, {.mean = kNoMean, .v_per_channel = true});
    }
}

TEST_F(QuantiseGpu, Magnitudes) {
  for (const float size : {1e-30f, 1e-20f, 1e20f, 3e36f})
    for (const int32_t dtype : {CLARY_BF16, CLARY_F32}) {
      Case c = base(dtype, 128, 100, 1300);
      c.q_size = c.k_size = c.v_size = size;
      c.data = test::Data::kBias;
      expect_right(test::Instance(c), {.mean = kSampledMean});
    }
}

// The code paths of other cards, compiled by this one's driver.
TEST_F(QuantiseGpu, OlderCards) {
  for (const int sm : {75, 80}) {
    gpu_.ptx = sm;
    for (const int32_t dtype : kDtypes)
      for (const int64_t D : {40, 64, 128, 256}) {
        Case c = base(dtype, D, 130, 1100);
        c.data = test::Data::kOutlier;
        expect_right(test::Instance(c), {.mean = kSampledMean, .shift = true});
      }
  }
}

TEST_F(QuantiseGpu, CapturedIntoAGraph) {
  Case c = base(CLARY_BF16, 128, 300, 1300);
  const test::Instance instance(c);
  const Run direct = run(instance, {}), replayed = run(instance, {}, true);
  EXPECT_EQ(direct.workspace, replayed.workspace);
}

}  // namespace
}  // namespace clary::cuda
