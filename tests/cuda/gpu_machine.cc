// The kernels on GPU 0. CLARY_TEST_PTX=75 or 80 runs that code path through its PTX.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "attention_check.h"
#include "device.h"

namespace clary::test {
namespace {

class OnGpu : public Machine {
 public:
  explicit OnGpu(const cuda::Gpu* gpu) : gpu_(gpu) {
    const char* ptx = std::getenv("CLARY_TEST_PTX");
    if (ptx) cuda::use_ptx_for_test(ptx_ = std::atoi(ptx));
  }
  const char* name() const override { return "gpu"; }
  int sm() const override { return ptx_ ? ptx_ : gpu_->major * 10 + gpu_->minor; }

  AttentionRun run(Instance& instance, const cuda::AttentionVariant& variant) override {
    AttentionRun r;
    cuda::CurrentGpu current;
    if (Status s = current.enter(*gpu_, nullptr); !s) return r.fault = s.message(), std::move(r);
    instance.out.poison();
    instance.lse.poison();
    Problem p = instance.problem();
    std::vector<std::unique_ptr<DeviceMemory>> memory;
    const auto place = [&](const void* from, size_t bytes) {
      memory.push_back(std::make_unique<DeviceMemory>(bytes));
      memory.back()->put(from, bytes);
      return memory.back()->data();
    };
    const auto tensor = [&](const Tensor& t, View& view) {
      if (!view.present()) return memory.end() - memory.begin();
      const int64_t offset = static_cast<const char*>(t.view.data) - t.memory.data();
      view.data = place(t.memory.data(), t.memory.size()) + offset;
      return memory.end() - memory.begin() - 1;
    };
    const auto lengths = [&](const int32_t*& list, int64_t count) {
      if (list) list = reinterpret_cast<const int32_t*>(place(list, 4 * static_cast<size_t>(count)));
    };
    tensor(instance.q, p.q), tensor(instance.k, p.k), tensor(instance.v, p.v), tensor(instance.mask, p.mask);
    const auto out = static_cast<size_t>(tensor(instance.out, p.out));
    const auto lse = static_cast<size_t>(tensor(instance.lse, p.lse));
    lengths(p.kv_lens, p.B);
    lengths(p.cu_q, p.num_seqs + 1);
    lengths(p.cu_k, p.num_seqs + 1);
    if (Status s = cuda::plan_quantise(p, variant.quantise(p), &r.quantised); !s)
      return r.fault = s.message(), std::move(r);
    if (Status s = cuda::plan_attention(p, variant, &r.plan); !s) return r.fault = s.message(), std::move(r);
    const DeviceMemory codes(r.quantised.workspace), parts(r.plan.workspace);
    codes.fill(0x55), parts.fill(0x55);
    cuda::bind(&r.quantised, codes.data());
    cuda::bind(&r.plan, r.quantised, parts.data());
    for (int i = 0; i < 2; i++) {  // twice: the same bits
      if (Status s = cuda::quantise(*gpu_, r.quantised, nullptr); !s) return r.fault = s.message(), std::move(r);
      if (Status s = cuda::attention(*gpu_, r.plan, nullptr); !s) return r.fault = s.message(), std::move(r);
      if (const cuda::Result e = device_api().synchronize(); e != cuda::kSuccess)
        return r.fault = "the device failed: " + std::to_string(e), std::move(r);
      std::vector<char> now = memory[out]->get();
      if (i && std::memcmp(now.data(), instance.out.memory.data(), instance.out.memory.size()) != 0)
        r.fault = "two runs differ";
      std::memcpy(instance.out.memory.data(), now.data(), instance.out.memory.size());
    }
    r.codes = codes.get();
    r.out = instance.out.values();
    if (p.lse.present()) {
      std::memcpy(instance.lse.memory.data(), memory[lse]->get().data(), instance.lse.memory.size());
      r.lse = instance.lse.values();
    }
    if (!instance.out.gaps_untouched() || (p.lse.present() && !instance.lse.gaps_untouched()))
      r.fault = "a gap of out or lse was written";
    return r;
  }

 private:
  const cuda::Gpu* gpu_;
  int ptx_ = 0;
};

}  // namespace

Machine* machine(std::string* why) {
  int count = 0;
  const Status s = cuda::gpu_count(&count);
  const cuda::Gpu* gpu = nullptr;
  if (!s || count == 0 || !cuda::gpu(0, &gpu)) {
    *why = std::string("no GPU: ") + s.message();
    return nullptr;
  }
  static OnGpu on_gpu(gpu);
  return &on_gpu;
}

}  // namespace clary::test
