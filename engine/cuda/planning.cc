// Planning for a GPU: the code path, the kernel, the workspace, and whether torch's SDPA would be faster. Pure.
#include "engine/cuda/planning.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "engine/cuda/backend.h"
#include "engine/cuda/image.h"

namespace clary::cuda {
namespace {

constexpr CodePath kPaths[] = {{"sm75", 75, 0}, {"sm80", 80, 0}, {"sm89", 89, 0}, {"sm90", 90, 90}, {"sm120", 120, 0}};

// ---- rates -------------------------------------------------------------------------------------------------------------

// Operations (4 B Hq Lq Lk D of a call) a multiprocessor does per clock of the card's highest clock, for head_dims up to 64, 128,
// 256, at many keys. `plain`: what SDPA chooses for f16 and bf16 without a mask; `masked`: with one; `f32`: for f32.
struct Rates {
  int capability;  // from here on
  float standard[3], high[3], plain[3], masked[3], f32[3];
  float ours_masked[3];           // ours with a mask
  float ours_causal = 0.65f;      // the share of our rate that is left with causal
  int rows[3] = {128, 128, 128};  // of a tile of ours
  int blocks = 2;  // tiles on a multiprocessor at a time; 1: a last round that is not full takes as long as a full one
};
// docs/cuda.md says where each row comes from.
constexpr Rates kRates[] = {
    {75, {600, 720, 550}, {450, 540, 500}, {340, 390, 300}, {300, 340, 260}, {50, 55, 50}, {144, 173, 132}},
    {80, {1340, 1800, 1550}, {950, 1150, 1050}, {1100, 1310, 1150}, {700, 800, 600}, {110, 120, 90}, {312, 408, 348}},
    {86, {1080, 1350, 1230}, {400, 450, 420}, {430, 500, 430}, {300, 340, 260}, {110, 115, 90}, {252, 305, 276}},
    {90,
     {2600, 4050, 4550},
     {1120, 1090, 1070},
     {1750, 2380, 2600},
     {850, 1150, 1150},
     {160, 174, 130},
     {374, 456, 384},
     0.85f,
     {256, 192, 128},
     1},
    {100, {600, 720, 650}, {600, 720, 650}, {3000, 4000, 3500}, {700, 800, 600}, {110, 120, 90}, {144, 173, 156}},
    {120, {1080, 1350, 1230}, {400, 450, 420}, {450, 520, 450}, {300, 340, 260}, {110, 115, 90}, {252, 305, 276}},
};
// Measured on an H200 (bench/results/gpu-h200.json).
constexpr double kOverhead = 6e-6;        // seconds a call of ours takes beyond one of SDPA's: two kernels more
constexpr double kPreprocessShare = 0.7;  // of the memory's bandwidth that quantising reaches
constexpr double kReadShare = 0.75;       // the same of reading K and V
constexpr double kExtraKeys = 192;        // keys' worth of time that a block of ours takes to begin and end
constexpr double kCausalShareSdpa = 0.88;
constexpr double kTiledFrom = 16;     // queries from which on SDPA computes whole tiles of 128,
constexpr double kTiledShare = 0.75;  // which take this share of what full ones take

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
    if (!named) return;
    std::snprintf(path, sizeof path, "%s", named + 1);
    if (char* colon = std::strchr(path, ':')) {
      *colon = 0;
      arithmetic = colon + 1;
    }
  }
};

// printf costs a tenth of a plan.
template <size_t N>
void join(char (&to)[N], std::initializer_list<const char*> parts) {
  size_t length = 0;
  for (const char* part : parts)
    for (; *part && length + 1 < N; part++) to[length++] = *part;
  to[length] = 0;
}

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
    return Status::error(CLARY_INVALID_ARGUMENT, "Code paths are sm75, sm80, sm89, sm90 and sm120.",
                         "CLARY_FORCE names no GPU code path: \"%s\"", forced.path);
  if (named->capability > device.capability || (named->only && named->only != device.capability))
    return Status::error(CLARY_NO_DEVICE, "Force an older path, or none.",
                         "code path %s does not run on %s (compute capability %d.%d)", named->name, device.name,
                         device.capability / 10, device.capability % 10);
  *path = named;
  return {};
}

}  // namespace

std::span<const CodePath> code_paths() { return kPaths; }
std::span<const Device> known_gpus() { return kKnown; }

// Blackwell of data centres runs the code of sm80; only 8.9 has what sm89 adds, only 9.0 what sm90 is made of.
const CodePath* native_path(int capability) {
  return capability >= 120  ? &kPaths[4]
         : capability == 90 ? &kPaths[3]
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
  const bool causal = p.causal != CLARY_CAUSAL_NONE, mask = p.mask.present(), f32 = p.q.dtype == CLARY_F32;
  const double queries = static_cast<double>(p.Lq), keys = static_cast<double>(p.Lk),
               group = static_cast<double>(p.group());
  const double heads = static_cast<double>(p.B * p.Hq), key_heads = static_cast<double>(p.B * p.Hkv),
               sms = d.multiprocessors;
  const double clocks = 1e6 * d.clock * sms, bandwidth = 1e9 * d.bandwidth;
  const double q = heads * queries * p.D, kv = key_heads * keys * (p.D + p.Dv), out = heads * queries * p.Dv;
  const double ops = 2 * heads * queries * keys * (p.D + p.Dv) / (causal ? 2 : 1);
  const auto blocks = [](double rows) { return std::ceil(rows / 128); };
  const auto seconds = [&](double work, double rate, double use, double bytes) {
    return std::max(work / (rate * clocks * std::min(use, 1.0)), bytes / (kReadShare * bandwidth));
  };
  Estimate e{};
  // Ours: tiles of the padded head_dim; the queries of a key head's group in one tile; where tiles are few the keys are shared out to fill
  // the card.
  const double padded = static_cast<double>(padded_dim(dim)) / dim,
               row_blocks = std::ceil(queries * group / r.rows[at]);
  const double filled = r.rows[at] * row_blocks / (queries * group);
  const double shares = static_cast<double>(share_count(p.Lq * p.group(), p.Hkv, p.Lk));
  const double rate = accuracy == CLARY_HIGH ? r.high[at]
                      : mask                 ? r.ours_masked[at]
                                             : r.standard[at] * (causal ? r.ours_causal : 1);
  const double rounds = key_heads * row_blocks * shares / (r.blocks * sms);
  // Causal tiles differ in length and fill the last round up.
  const double use = r.blocks == 1 && rounds > 1 && !causal ? rounds / std::ceil(rounds) : rounds;
  e.ours = kOverhead + (q + kv) * (f32 ? 5 : 3) / (kPreprocessShare * bandwidth) +
           seconds(ops * padded * filled * (1 + kExtraKeys * shares / keys), rate, use,
                   q + kv + out * static_cast<double>(p.out.size()));
  // SDPA: the heads of a group find K and V in the L2. Where it takes cuDNN (9.0, 10.0), or anything but flash, few blocks leave
  // multiprocessors idle.
  const bool idles = f32 || mask || d.capability / 10 == 9 || d.capability / 10 == 10;
  const double elements = q + kv + out, mask_bytes = mask ? heads * queries * keys : 0;
  const double tiled = queries < kTiledFrom ? 1 : std::max(1.0, kTiledShare * 128 * blocks(queries) / queries);
  e.sdpa = seconds(ops * tiled,
                   (f32    ? r.f32
                    : mask ? r.masked
                           : r.plain)[at] *
                       (causal ? kCausalShareSdpa : 1),
                   idles ? heads * blocks(queries) / sms : 1, elements * (f32 ? 4 : 2) + mask_bytes);
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
  join(plan.variant, {"cuda:", path->name, ":", arithmetic_name(plan.arithmetic)});
  join(plan.reason, {plan.forced_arithmetic ? "arithmetic forced" : "quantised as asked",
                     forced.path[0] ? ", code path forced" : "", ", kernel ", variant->kernel});
  return plan;
}

}  // namespace clary::cuda
