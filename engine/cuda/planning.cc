// Planning for a GPU: the code path, the kernel, the workspace, and whether torch's SDPA would be faster. Pure.
#include "engine/cuda/planning.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "engine/cuda/backend.h"
#include "engine/cuda/image.h"

namespace clary::cuda {
namespace {

constexpr CodePath kPaths[] = {{"sm75", 75}, {"sm80", 80}, {"sm89", 89}, {"sm120", 120}};

// ---- rates -------------------------------------------------------------------------------------------------------------

// Operations (4 B Hq Lq Lk D of a call) a multiprocessor does per clock of the card's highest clock, for head_dims up to 64, 128,
// 256. `plain`: SDPA on f16 and bf16 without a mask; `masked`: with one; `f32`: on f32.
struct Rates {
  int capability;  // from here on
  float standard[3], high[3], plain[3], masked[3], f32[3];
};
// docs/cuda.md says where each row comes from.
constexpr Rates kRates[] = {
    {75, {700, 850, 800}, {500, 600, 560}, {340, 390, 300}, {300, 340, 260}, {50, 55, 50}},
    {80, {1500, 2000, 1900}, {1100, 1350, 1250}, {1100, 1310, 1150}, {700, 800, 600}, {110, 120, 90}},
    {86, {1250, 1500, 1400}, {420, 480, 450}, {430, 500, 430}, {300, 340, 260}, {110, 115, 90}},
    {90, {1900, 2290, 2200}, {1300, 1500, 1400}, {1170, 1340, 1260}, {700, 800, 600}, {110, 120, 90}},
    {100, {700, 850, 800}, {700, 850, 800}, {3000, 4000, 3500}, {700, 800, 600}, {110, 120, 90}},
    {120, {1250, 1500, 1400}, {420, 480, 450}, {450, 520, 450}, {300, 340, 260}, {110, 115, 90}},
};
constexpr double kLaunch = 3e-6;          // seconds between dependent launches
constexpr double kPreprocessShare = 0.6;  // of the memory's bandwidth that quantising reaches
constexpr double kReadShare = 0.75;       // the same of reading K and V

const Rates& rates_of(int capability) {
  const Rates* found = kRates;
  for (const Rates& r : kRates)
    if (r.capability <= capability) found = &r;
  return *found;
}

// ---- cards -------------------------------------------------------------------------------------------------------------

constexpr Device card(const char* name, int capability, int multiprocessors, int shared_kb, int clock, int bandwidth) {
  Device d;
  d.type = CLARY_CUDA;
  for (int i = 0; name[i]; i++) d.name[i] = name[i];
  d.capability = capability;
  d.multiprocessors = multiprocessors;
  d.shared_per_multiprocessor = shared_kb << 10;
  d.shared_per_block = (capability < 80 ? shared_kb : shared_kb - 1) << 10;
  d.clock = clock;
  d.bandwidth = bandwidth;
  return d;
}

// Name, compute capability, multiprocessors, shared memory of one in KB, MHz, GB/s: the vendor's data sheets.
constexpr Device kKnown[] = {
    card("T4", 75, 40, 64, 1590, 320),           card("RTX 2080 Ti", 75, 68, 64, 1545, 616),
    card("A100 40GB", 80, 108, 164, 1410, 1555), card("A100 80GB", 80, 108, 164, 1410, 2039),
    card("A10", 86, 72, 100, 1695, 600),         card("RTX 3060", 86, 28, 100, 1777, 360),
    card("RTX 3090", 86, 82, 100, 1695, 936),    card("Orin", 87, 16, 164, 1300, 204),
    card("L4", 89, 58, 100, 2040, 300),          card("RTX 4060", 89, 24, 100, 2460, 272),
    card("RTX 4090", 89, 128, 100, 2520, 1008),  card("L40S", 89, 142, 100, 2520, 864),
    card("H100 SXM", 90, 132, 228, 1980, 3352),  card("H200", 90, 132, 228, 1980, 4917),
    card("B200", 100, 148, 228, 1965, 8000),     card("B300", 103, 148, 228, 2032, 8000),
    card("Thor", 110, 20, 228, 1575, 273),       card("RTX 5090", 120, 170, 100, 2407, 1792),
    card("RTX 5060", 120, 30, 100, 2497, 448),   card("GB10", 121, 48, 100, 2418, 273),
};

// "", "cuda", "cuda:path" or "cuda:path:arithmetic" in parts; a part that is not there is empty.
struct Forced {
  char path[24] = {0};
  const char* arithmetic = "";
  explicit Forced(const char* force) {
    const char* named = std::strchr(force, ':');
    std::snprintf(path, sizeof path, "%s", named ? named + 1 : "");
    if (char* colon = std::strchr(path, ':')) {
      *colon = 0;
      arithmetic = colon + 1;
    }
  }
};

Status pick_path(const Forced& forced, const Device& device, const CodePath** path) {
  *path = native_path(device.capability);
  if (!*path)
    return Status::error(CLARY_NOT_SUPPORTED, "clary needs a GPU of compute capability 7.5 or newer.",
                         "%s has compute capability %d.%d", device.name, device.capability / 10,
                         device.capability % 10);
  if (!forced.path[0]) return {};
  const CodePath* named = nullptr;
  for (const CodePath& p : kPaths)
    if (std::strcmp(p.name, forced.path) == 0) named = &p;
  if (!named)
    return Status::error(CLARY_INVALID_ARGUMENT, "Code paths are sm75, sm80, sm89 and sm120.",
                         "CLARY_FORCE names no GPU code path: \"%s\"", forced.path);
  if (named->capability > device.capability)
    return Status::error(CLARY_NO_DEVICE, "Force an older path, or none.",
                         "code path %s does not run on %s (compute capability %d.%d)", named->name, device.name,
                         device.capability / 10, device.capability % 10);
  *path = named;
  return {};
}

}  // namespace

std::span<const CodePath> code_paths() { return kPaths; }
std::span<const Device> known_gpus() { return kKnown; }

// Hopper and Blackwell of data centres run the code of sm80; only 8.9 has what sm89 adds.
const CodePath* native_path(int capability) {
  return capability >= 120  ? &kPaths[3]
         : capability == 89 ? &kPaths[2]
         : capability >= 80 ? &kPaths[1]
         : capability >= 75 ? &kPaths[0]
                            : nullptr;
}

bool sdpa_serves(const Problem& p) {
  return !p.varlen() && !p.kv_lens && !p.lse.present() && p.window_left < 0 && p.window_right < 0 &&
         (p.causal != CLARY_CAUSAL_LOWER_RIGHT || p.Lq == p.Lk);
}

Estimate estimate(const Problem& p, const Device& d, int32_t accuracy) {
  const Rates& r = rates_of(d.capability);
  const int dim = std::max(p.D, p.Dv), at = dim <= 64 ? 0 : dim <= 128 ? 1 : 2;
  const double size = p.q.dtype == CLARY_F32 ? 4 : 2;
  const double q = static_cast<double>(p.B * p.Hq) * static_cast<double>(p.Lq);
  const double k = static_cast<double>(p.B * p.Hkv) * static_cast<double>(p.Lk);
  const double ops = 2.0 * q * static_cast<double>(p.Lk) * (p.D + p.Dv) / (p.causal == CLARY_CAUSAL_NONE ? 1 : 2);
  // Both cut the queries into blocks of 128 rows, and share out the keys where that makes too few of them; our tiles are of the
  // padded head_dim.
  const double padded = static_cast<double>(padded_dim(dim)) / dim;
  const double clocks = 1e6 * d.clock * d.multiprocessors, bytes_per_s = 1e9 * d.bandwidth;
  const auto seconds = [&](double work, const float (&rate)[3], double bytes) {
    return std::max(work / (rate[at] * clocks), bytes / (kReadShare * bytes_per_s));
  };
  const double codes = q * p.D + k * (p.D + p.Dv);
  const double tensors = codes * size, output = q * p.Dv * static_cast<double>(p.out.size());
  const auto& theirs = p.q.dtype == CLARY_F32 ? r.f32 : p.mask.present() ? r.masked : r.plain;
  const double mask = p.mask.present() ? static_cast<double>(p.B * p.Hq * p.Lq) * static_cast<double>(p.Lk) * 2 : 0;
  Estimate e{};
  e.ours = 2 * kLaunch + (tensors + codes) / (kPreprocessShare * bytes_per_s) +
           seconds(ops * padded, accuracy == CLARY_HIGH ? r.high : r.standard, codes + output);
  e.sdpa = seconds(ops, theirs, tensors + output + mask);
  return e;
}

Plan choose(const Problem& p, const Device& device, const char* force) {
  Plan plan;
  const Forced forced(force);
  if (device.type != CLARY_CUDA) {
    plan.why = Status::error(CLARY_NO_DEVICE, "Move the tensors to a GPU, or force a CPU target.",
                             "the CUDA backend was asked for tensors on the CPU");
    return plan;
  }
  if (embedded_images().entries().empty()) {
    plan.why = Status::error(CLARY_NOT_SUPPORTED, "Build with -DCLARY_CUDA=ON.", "this build has no GPU code");
    return plan;
  }
  const CodePath* path = nullptr;
  if (plan.why = pick_path(forced, device, &path); !plan.why) return plan;

  const Arithmetic forced_arithmetic = std::strcmp(forced.arithmetic, arithmetic_name(Arithmetic::kInt8F16)) == 0
                                           ? Arithmetic::kInt8F16
                                           : Arithmetic::kInt8;
  if (forced.arithmetic[0] && std::strcmp(forced.arithmetic, arithmetic_name(forced_arithmetic)) != 0) {
    plan.why = Status::error(CLARY_INVALID_ARGUMENT, "Arithmetics of a GPU are int8 and int8f16.",
                             "CLARY_FORCE names no arithmetic: \"%.20s\"", forced.arithmetic);
    return plan;
  }
  plan.forced_arithmetic = forced.arithmetic[0] != 0;
  if (p.accuracy == CLARY_EXACT && !plan.forced_arithmetic) {
    plan.why = Status::error(CLARY_NOT_SUPPORTED, "Use torch's scaled_dot_product_attention, or another accuracy.",
                             "exact has no low-bit arithmetic on a GPU");
    return plan;
  }
  plan.arithmetic = plan.forced_arithmetic     ? forced_arithmetic
                    : p.accuracy == CLARY_HIGH ? Arithmetic::kInt8F16
                                               : Arithmetic::kInt8;
  const int32_t accuracy = plan.arithmetic == Arithmetic::kInt8F16 ? CLARY_HIGH : CLARY_STANDARD;
  const AttentionVariant* variant =
      find_attention(p, accuracy, path == native_path(device.capability) ? device.capability : path->capability,
                     device.shared_per_block, device.shared_per_multiprocessor);
  if (!variant) {
    plan.why = Status::error(CLARY_NOT_SUPPORTED, "Use accuracy standard, or torch's scaled_dot_product_attention.",
                             "code path %s has no %s kernel for head dimensions D = %d, Dv = %d", path->name,
                             arithmetic_name(plan.arithmetic), p.D, p.Dv);
    return plan;
  }

  if (sdpa_serves(p) && p.Lk > 0 && !p.empty()) {
    const Estimate e = estimate(p, device, accuracy);
    plan.speedup = static_cast<float>(e.sdpa / e.ours);
  }
  if (p.not_slower && !force[0] && plan.speedup > 0 && plan.speedup < 1) {
    plan.why = Status::error(CLARY_NOT_SUPPORTED, "Use torch's scaled_dot_product_attention, or CLARY_FORCE=cuda.",
                             "torch's SDPA is faster for this problem on %s", device.name);
    return plan;
  }

  QuantisePlan quantised;
  if (plan.why = plan_quantise(p, variant->quantise(p), &quantised); !plan.why) return plan;
  AttentionPlan attended;
  if (plan.why = plan_attention(p, *variant, &attended); !plan.why) return plan;
  plan.workspace = quantised.workspace + attended.workspace;
  plan.backend = &kBackend;
  plan.target = variant;
  plan.path = path;
  plan.workers = 0;
  std::snprintf(plan.variant, sizeof plan.variant, "cuda:%s:%s", path->name, arithmetic_name(plan.arithmetic));
  std::snprintf(plan.reason, sizeof plan.reason, "%s%s, kernel %s",
                plan.forced_arithmetic ? "arithmetic forced" : "quantised as asked",
                forced.path[0] ? ", code path forced" : "", variant->kernel);
  return plan;
}

}  // namespace clary::cuda
