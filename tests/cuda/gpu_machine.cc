// The kernels on GPU 0: launched one by one, and through the C ABI where the planner takes the same kernel. CLARY_FORCE=cuda:sm75 and so
// on runs that code path.
#include <algorithm>
#include <cstring>
#include <memory>

#include "attention_check.h"
#include "device.h"
#include "engine/cuda/planning.h"
#include "engine/env.h"

namespace clary::test {
namespace {

class OnGpu : public Machine {
 public:
  explicit OnGpu(const cuda::Gpu& gpu) : gpu_(gpu) {
    if (!find_device(CLARY_CUDA, gpu.ordinal, &device_)) std::abort();
    const cuda::CodePath* native = cuda::native_path(device_.capability);
    path_ = native;
    for (const cuda::CodePath& path : cuda::code_paths())
      if (std::string("cuda:") + path.name == env().force) path_ = &path;
    if (path_ != native) gpu_.ptx = path_->capability;
    name_ = std::string("gpu:") + path_->name;
  }
  const char* name() const override { return name_.c_str(); }
  int sm() const override { return gpu_.ptx ? gpu_.ptx : device_.capability; }
  bool quick() const override { return true; }

  AttentionRun run(Instance& instance, const cuda::AttentionVariant& variant) override {
    AttentionRun r;
    cuda::CurrentGpu current;
    if (Status s = current.enter(gpu_, nullptr); !s) return r.fault = s.message(), std::move(r);
    instance.out.poison();
    instance.lse.poison();
    Problem p = instance.problem();
    p.device_type = CLARY_CUDA;
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
    // In other bands than are planned, which the second run has: no bit depends on the order of the work.
    r.plan.args.band = std::clamp(r.plan.args.band, 1, 2);
    r.plan.args.longer_bands = r.plan.args.units % r.plan.args.band;
    const DeviceMemory codes(r.quantised.workspace), parts(r.plan.workspace);
    codes.fill(0x55), parts.fill(0x55);
    cuda::bind(&r.quantised, codes.data());
    cuda::bind(&r.plan, r.quantised, parts.data());
    const auto finish = [&] {
      if (const cuda::Result e = device_api().synchronize(); e != cuda::kSuccess)
        r.fault = "the device failed: " + std::to_string(e);
      return r.fault.empty();
    };
    if (Status s = cuda::quantise(gpu_, r.quantised, nullptr); !s) return r.fault = s.message(), std::move(r);
    if (Status s = cuda::attention(gpu_, r.plan, nullptr); !s) return r.fault = s.message(), std::move(r);
    if (!finish()) return r;
    const std::vector<char> first = memory[out]->get();
    std::memcpy(instance.out.memory.data(), first.data(), instance.out.memory.size());
    r.codes = codes.get();
    r.out = instance.out.values();
    if (p.lse.present()) {
      std::memcpy(instance.lse.memory.data(), memory[lse]->get().data(), instance.lse.memory.size());
      r.lse = instance.lse.values();
    }
    if (!instance.out.gaps_untouched() || (p.lse.present() && !instance.lse.gaps_untouched()))
      return r.fault = "a gap of out or lse was written", std::move(r);

    // Once more, the whole way: the same bits.
    const Plan plan = choose(p, device_, env().force, 0);
    if (plan && &cuda::variant_of(plan) == &variant) {
      if (r.fault = call(instance, p, plan); !r.fault.empty() || !finish()) return r;
    } else {
      if (Status s = cuda::quantise(gpu_, r.quantised, nullptr); !s) return r.fault = s.message(), std::move(r);
      if (Status s = cuda::attention(gpu_, r.plan, nullptr); !s) return r.fault = s.message(), std::move(r);
      if (!finish()) return r;
    }
    const std::vector<char> second = memory[out]->get();
    if (std::memcmp(first.data(), second.data(), instance.out.memory.size()) != 0) r.fault = "two runs differ";
    return r;
  }

 private:
  // clary_attention() on what is on the GPU already.
  std::string call(const Instance& instance, const Problem& p, const Plan& plan) const {
    clary_attention_args args = instance.args;
    args.device_type = CLARY_CUDA;
    args.device_id = gpu_.ordinal;
    args.q.data = p.q.data, args.k.data = p.k.data, args.v.data = p.v.data, args.out.data = p.out.data;
    args.mask.data = p.mask.data, args.lse.data = p.lse.data;
    args.kv_lens = p.kv_lens, args.cu_seqlens_q = p.cu_q, args.cu_seqlens_k = p.cu_k;
    const DeviceMemory workspace(plan.workspace + 1);
    workspace.fill(0xff);
    args.workspace = workspace.data() + 1;  // any address will do
    args.workspace_size = plan.workspace;
    if (clary_attention(&args) != CLARY_OK) return clary_last_error();
    const std::string ran = clary_last_variant(), wanted = std::string("cuda:") + path_->name + ":";
    if (ran != plan.variant || ran.rfind(wanted, 0) != 0) return ran + " ran instead of " + wanted;
    device_api().synchronize();  // before the workspace goes
    return "";
  }

  cuda::Gpu gpu_;
  Device device_;
  const cuda::CodePath* path_ = nullptr;
  std::string name_;
};

}  // namespace

Machine* gpu_machine(std::string* why) {
  int count = 0;
  const Status s = cuda::gpu_count(&count);
  const cuda::Gpu* gpu = nullptr;
  if (!s || count == 0 || !cuda::gpu(0, &gpu)) {
    *why = std::string("no GPU: ") + s.message();
    return nullptr;
  }
  static OnGpu on_gpu(*gpu);
  return &on_gpu;
}

}  // namespace clary::test
