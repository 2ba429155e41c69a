// Time of preprocessing on this machine's GPU against copy bandwidth.
//
// Every candidate of a shape in turn, the L2 flushed before each, 31 rounds, medians; inputs bf16 N(0,1). "own" is the share of
// the copy's bytes per second at the bytes a candidate must move, counting what it reads twice twice.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>

#include "device.h"
#include "engine/cuda/quantise.h"

using namespace clary;
using namespace clary::cuda;
using namespace clary::test;

namespace {

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

struct Timer {
  Event begin, end;
  Timer() {
    device_api().event_create(&begin, 0);
    device_api().event_create(&end, 0);
  }
  double microseconds(const std::function<void()>& work) const {
    const DeviceApi& api = device_api();
    api.event_record(begin, nullptr);
    work();
    api.event_record(end, nullptr);
    api.event_synchronize(end);
    float ms = 0;
    api.elapsed(&ms, begin, end);
    return ms * 1e3;
  }
};

struct Shape {
  int64_t B, H, L, D;
};

struct Candidate {
  const char* name;
  QuantiseOptions options;
  double bytes;  // per element triple; where V may be read twice, two more past a cluster's keys
  int part;      // 0 all; 1 q, 2 v, 3 k codes alone; 4 sums of k alone
};
constexpr Candidate kCandidates[] = {
    {"channel V, sampled mean", {kSampledMean, true}, 9 + 2.0 / kMeanStep, 0},
    {"local V, sampled mean", {kSampledMean, false}, 9 + 2.0 / kMeanStep, 0},
    {"local V, exact mean", {kExactMean, false}, 11, 0},
    {"  q alone", {kNoMean, false}, 3, 1},
    {"  channel v alone", {kNoMean, true}, 3, 2},
    {"  local v alone", {kNoMean, false}, 3, 2},
    {"  k alone", {kNoMean, false}, 3, 3},
    {"  sums of k, exact", {kExactMean, false}, 2, 4},
    {"  sums of k, sampled", {kSampledMean, false}, 2.0 / kMeanStep, 4},
};

}  // namespace

int main() {
  const Gpu* g = nullptr;
  CurrentGpu current;
  if (Status s = gpu(0, &g); !s || !(s = current.enter(*g, nullptr))) return printf("%s\n", s.message()), 1;
  const DeviceApi& api = device_api();
  const Timer timer;

  std::vector<uint16_t> noise(16 << 20);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (uint16_t& x : noise) {
    const float f = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    x = static_cast<uint16_t>((bits + 0x8000) >> 16);
  }
  const size_t flush_bytes = size_t{1} << 30;
  const DeviceMemory flush(flush_bytes), target(flush_bytes), seed(noise.size() * 2);
  seed.put(noise.data(), noise.size() * 2);

  std::vector<double> copies;
  for (int i = 0; i < 21; i++)
    copies.push_back(timer.microseconds([&] { api.copy(target.address(), flush.address(), flush_bytes, nullptr); }));
  const double bandwidth = 2.0 * flush_bytes / median(copies) * 1e-6;  // TB/s
  printf("%s, %d SMs: copy %.2f TB/s\n", g->name, g->multiprocessors, bandwidth);

  for (const Shape& s : {Shape{1, 32, 16384, 128}, Shape{4, 32, 4096, 128}, Shape{4, 32, 1024, 128},
                         Shape{2, 30, 17776, 64}, Shape{1, 16, 16384, 256}}) {
    const int64_t elements = s.B * s.H * s.L * s.D;
    DeviceMemory inputs[3] = {DeviceMemory(elements * 2), DeviceMemory(elements * 2), DeviceMemory(elements * 2)};
    for (const DeviceMemory& m : inputs)
      for (size_t at = 0; at < m.size(); at += seed.size())
        api.copy(m.address() + at, seed.address(), std::min(seed.size(), m.size() - at), nullptr);
    Problem p;
    p.B = s.B, p.Hq = p.Hkv = s.H, p.Lq = p.Lk = s.L, p.D = p.Dv = static_cast<int>(s.D);
    p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.D)));
    View* views[3] = {&p.q, &p.k, &p.v};
    for (int i = 0; i < 3; i++)
      *views[i] = {inputs[i].data(), {s.B, s.H, s.L, s.D}, {s.H * s.L * s.D, s.L * s.D, s.D, 1}, CLARY_BF16};

    std::vector<QuantisePlan> plans;
    uint64_t most = 0;
    for (const Candidate& c : kCandidates) {
      QuantisePlan plan;
      if (!plan_quantise(p, c.options, &plan)) return 1;
      most = std::max(most, plan.workspace);
      plans.push_back(plan);
    }
    const DeviceMemory workspace(most);
    for (size_t i = 0; i < plans.size(); i++) {
      QuantisePlan& plan = plans[i];
      QuantiseArgs& a = plan.args;
      bind(&plan, workspace.data());
      const int part = kCandidates[i].part;
      if (part == 1) a.k_items = 0;
      if (part == 3) a.q_items = 0;
      if (part == 1 || part == 3) {
        plan.values_blocks = 0, a.s_items = 0;
        plan.quantise_blocks = static_cast<uint32_t>(a.q_items + a.k_items);
      }
      if (part == 2 || part == 4) plan.quantise_blocks = 0;
      if (part == 4) plan.values_blocks = static_cast<uint32_t>(a.s_items);
    }
    const auto call = [&](size_t i) {
      if (Status status = quantise(*g, plans[i], nullptr); !status) printf("%s\n", status.message());
    };
    std::vector<std::vector<double>> times(plans.size());
    for (size_t i = 0; i < plans.size(); i++) call(i);
    for (int round = 0; round < 31; round++)
      for (size_t i = 0; i < plans.size(); i++) {
        api.fill(flush.address(), static_cast<uint8_t>(round), 256 << 20, nullptr);
        times[i].push_back(timer.microseconds([&] { call(i); }));
      }
    printf("B%lld H%lld L%lld D%lld\n", static_cast<long long>(s.B), static_cast<long long>(s.H),
           static_cast<long long>(s.L), static_cast<long long>(s.D));
    for (size_t i = 0; i < plans.size(); i++) {
      const double us = median(times[i]);
      const int calls = 20;
      const double row = timer.microseconds([&] {
        for (int n = 0; n < calls; n++) call(i);
      }) / calls;
      const double bytes = (kCandidates[i].bytes + (plans[i].args.v_maxima ? 2 : 0)) * static_cast<double>(elements);
      printf("  %-24s %7.1f us, own %5.1f %%; back to back %7.1f us, own %5.1f %%\n", kCandidates[i].name, us,
             bytes / us * 1e-6 / bandwidth * 100, row, bytes / row * 1e-6 / bandwidth * 100);
    }
  }
  return api.synchronize() == kSuccess ? 0 : 1;
}
