// Building, poisoning and running a Case.
#include "tests/support.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "engine/cpu/threads.h"
#include "engine/env.h"
#include "engine/quant/reference.h"

namespace clary::test {
namespace {

constexpr char kPoison = static_cast<char>(0xff);  // NaN as f16, bf16 and f32; true as bool
constexpr size_t kGuard = 64;                      // bytes watched behind the workspace

struct Strides {
  int64_t stride[4];
  int64_t first;     // elements from the start of the memory to element [0, 0, 0, 0]
  int64_t elements;  // memory
  int64_t bytes_off;
};

Strides strides_of(const int64_t (&n)[4], Layout layout, bool output, const bool* broadcast) {
  const int64_t H = n[1], L = n[2], D = n[3];
  Strides s{{0, 0, 0, 1}, 0, 0, 0};
  const auto set = [&s](int64_t b, int64_t h, int64_t l) { s.stride[0] = b, s.stride[1] = h, s.stride[2] = l; };
  if (output && layout == Layout::kBroadcast) layout = Layout::kPadded;
  switch (layout) {
    case Layout::kHnd:
      set(H * L * D, L * D, D);
      break;
    case Layout::kNhd:
      set(L * H * D, D, H * D);
      break;
    case Layout::kFused:
      set(L * 3 * H * D, D, 3 * H * D);
      break;
    case Layout::kLbhd:
      set(H * D, D, n[0] * H * D);
      break;
    case Layout::kBroadcast:
      set(0, 0, D);
      break;
    case Layout::kFlipped:
      set(H * L * D, L * D, -D);
      break;
    case Layout::kPadded:
    case Layout::kUnaligned:
    case Layout::kOdd:
      set(H * (L * (D + 3) + 5) + 7, L * (D + 3) + 5, D + 3);
      break;
  }
  for (int i = 0; broadcast && i < 4; i++)
    if (broadcast[i]) s.stride[i] = 0;
  int64_t low = 0, high = 0;
  for (int i = 0; i < 4; i++) {
    const int64_t reach = s.stride[i] * std::max<int64_t>(n[i] - 1, 0);
    (reach < 0 ? low : high) += reach;
  }
  s.first = -low + (layout == Layout::kUnaligned ? 1 : 0);
  s.elements = n[0] * n[1] * n[2] * n[3] == 0 ? 0 : s.first + high + 1;
  s.bytes_off = layout == Layout::kOdd ? 1 : 0;
  return s;
}

// Rows of q, k, v before rounding to their dtype, [B, H, L, D].
struct Source {
  std::vector<float> q, k, v;
};

Source generate(const Case& c, Random& random) {
  Source s;
  const auto fill = [&](std::vector<float>& x, int64_t rows, int64_t D) {
    x.resize(static_cast<size_t>(rows * D));
    for (float& value : x) value = static_cast<float>(random.normal());
  };
  const int64_t q_rows = c.B * c.Hq * c.Lq, k_rows = c.B * c.Hkv * c.Lk;
  fill(s.q, q_rows, c.D);
  fill(s.k, k_rows, c.D);
  fill(s.v, k_rows, c.Dv);
  const auto each = [](std::vector<float>& x, int64_t D, const auto& change) {
    for (size_t i = 0; i < x.size(); i++) x[i] = change(x[i], static_cast<int64_t>(i) / D, static_cast<int64_t>(i) % D);
  };
  const auto channels = [&](int64_t D, const auto& value) {
    std::vector<float> x(D);
    for (float& y : x) y = static_cast<float>(value());
    return x;
  };
  switch (c.data) {
    case Data::kNormal:
      break;
    case Data::
        kOutlier: {  // reference/gpu-attention.md §8: 5 channels 5 times in k and 4 times in q, a tenth of k's biased
      std::vector<int64_t> order(c.D);
      std::iota(order.begin(), order.end(), 0);
      for (int64_t i = c.D - 1; i > 0; i--) std::swap(order[i], order[random.between(0, i)]);
      std::vector<float> k_gain(c.D, 1), q_gain(c.D, 1);
      for (int64_t i = 0; i < std::min<int64_t>(5, c.D); i++) k_gain[order[i]] = 5, q_gain[order[i]] = 4;
      const std::vector<float> k_bias = channels(c.D, [&] { return random.chance(0.1) ? 8 * random.normal() : 0; });
      each(s.q, c.D, [&](float x, int64_t, int64_t d) { return x * q_gain[d]; });
      each(s.k, c.D, [&](float x, int64_t, int64_t d) { return x * k_gain[d] + k_bias[d]; });
      break;
    }
    case Data::kBias: {
      const std::vector<float> q_bias = channels(c.D, [&] { return 2 * random.normal(); });
      const std::vector<float> k_bias = channels(c.D, [&] { return 8 * random.normal(); });
      const std::vector<float> v_bias = channels(c.Dv, [&] { return 3 * random.normal(); });
      each(s.q, c.D, [&](float x, int64_t, int64_t d) { return x + q_bias[d]; });
      each(s.k, c.D, [&](float x, int64_t, int64_t d) { return x + k_bias[d]; });
      each(s.v, c.Dv, [&](float x, int64_t, int64_t d) { return x + v_bias[d]; });
      break;
    }
    case Data::kPeaky:
      each(s.q, c.D, [](float x, int64_t, int64_t) { return 4 * x; });
      break;
    case Data::kHeavyTail: {  // rows scaled as Student's t with 5 degrees of freedom
      const auto tail = [&](int64_t rows) {
        return channels(rows, [&] {
          double chi = 0;
          for (int i = 0; i < 5; i++) chi += std::pow(random.normal(), 2);
          return 1 / std::sqrt(chi / 5 + 1e-3);
        });
      };
      const std::vector<float> q_tail = tail(q_rows), k_tail = tail(k_rows), v_tail = tail(k_rows);
      each(s.q, c.D, [&](float x, int64_t row, int64_t) { return 1.5f * x * q_tail[row]; });
      each(s.k, c.D, [&](float x, int64_t row, int64_t) { return x * k_tail[row]; });
      each(s.v, c.Dv, [&](float x, int64_t row, int64_t) { return x * v_tail[row]; });
      break;
    }
    case Data::kSink: {  // the first key of every head takes about half of the weight, the rest is diffuse
      const float amount =
          c.Lk > 1 ? std::sqrt(std::log(static_cast<float>(c.Lk)) / std::sqrt(static_cast<float>(c.D))) : 1;
      each(s.q, c.D, [&](float x, int64_t, int64_t) { return 0.3f * x + amount; });
      each(s.k, c.D, [&](float x, int64_t row, int64_t) { return row % c.Lk == 0 ? amount : 0.3f * x; });
      break;
    }
    case Data::kEqual:
      each(s.q, c.D, [&](float, int64_t, int64_t d) { return s.q[d]; });
      each(s.k, c.D, [&](float, int64_t, int64_t d) { return s.k[d]; });
      each(s.v, c.Dv, [&](float, int64_t, int64_t d) { return s.v[d]; });
      break;
  }
  each(s.q, c.D, [&](float x, int64_t, int64_t) { return x * c.q_size; });
  each(s.k, c.D, [&](float x, int64_t, int64_t) { return x * c.k_size; });
  each(s.v, c.Dv, [&](float x, int64_t, int64_t) { return x * c.v_size; });
  return s;
}

void store(Tensor* t, const std::vector<float>& x) {
  const float limit = t->view.dtype == CLARY_F16 ? 65504.0f : 3.38953139e38f;
  size_t i = 0;
  for (int64_t b = 0; b < t->view.shape[0]; b++)
    for (int64_t h = 0; h < t->view.shape[1]; h++)
      for (int64_t l = 0; l < t->view.shape[2]; l++)
        for (int64_t d = 0; d < t->view.shape[3]; d++) t->set(b, h, l, d, std::clamp(x[i++], -limit, limit));
}

int32_t mask_dtype(Mask mask) {
  return mask == Mask::kBool   ? CLARY_BOOL
         : mask == Mask::kF16  ? CLARY_F16
         : mask == Mask::kBf16 ? CLARY_BF16
                               : CLARY_F32;
}

}  // namespace

// ---- random numbers --------------------------------------------------------------------------------------------------------

uint64_t Random::next() {
  uint64_t x = state_ += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
int64_t Random::between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1));
}
double Random::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * 3.14159265358979323846 * uniform());
}

// ---- tensors -----------------------------------------------------------------------------------------------------------------

int64_t size_of(int32_t dtype) { return dtype == CLARY_F32 ? 4 : dtype == CLARY_BOOL ? 1 : 2; }

Tensor::Tensor(const int64_t (&shape)[4], int32_t dtype, Layout layout, bool output, const bool* broadcast) {
  const Strides s = strides_of(shape, layout, output, broadcast);
  memory.assign(static_cast<size_t>(s.elements * size_of(dtype) + s.bytes_off), kPoison);
  memory.shrink_to_fit();
  view.dtype = dtype;
  std::copy(shape, shape + 4, view.shape);
  std::copy(s.stride, s.stride + 4, view.stride);
  view.data = s.elements ? memory.data() + s.bytes_off + s.first * size_of(dtype) : memory.data();
}
char* Tensor::element(int64_t b, int64_t h, int64_t l, int64_t d) const {
  const int64_t* s = view.stride;
  return static_cast<char*>(view.data) + (b * s[0] + h * s[1] + l * s[2] + d * s[3]) * size_of(view.dtype);
}
void Tensor::set(int64_t b, int64_t h, int64_t l, int64_t d, float value) {
  if (view.dtype == CLARY_BOOL)
    *element(b, h, l, d) = value != 0;
  else
    reference::narrow(value, view.dtype, element(b, h, l, d));
}
float Tensor::get(int64_t b, int64_t h, int64_t l, int64_t d) const {
  return view.dtype == CLARY_BOOL ? *element(b, h, l, d) : reference::widen(element(b, h, l, d), view.dtype);
}
std::vector<float> Tensor::values() const {
  std::vector<float> x;
  const int64_t* n = view.shape;
  for (int64_t b = 0; b < n[0]; b++)
    for (int64_t h = 0; h < n[1]; h++)
      for (int64_t l = 0; l < n[2]; l++)
        for (int64_t d = 0; d < n[3]; d++) x.push_back(get(b, h, l, d));
  return x;
}
void Tensor::poison() { std::fill(memory.begin(), memory.end(), kPoison); }
bool Tensor::gaps_untouched() const {
  Tensor copy = *this;
  copy.view.data = copy.memory.data() + (static_cast<const char*>(view.data) - memory.data());
  const int64_t* n = view.shape;
  for (int64_t b = 0; b < n[0]; b++)
    for (int64_t h = 0; h < n[1]; h++)
      for (int64_t l = 0; l < n[2]; l++)
        for (int64_t d = 0; d < n[3]; d++) std::memset(copy.element(b, h, l, d), kPoison, size_of(view.dtype));
  return std::all_of(copy.memory.begin(), copy.memory.end(), [](char x) { return x == kPoison; });
}

// ---- an instance ---------------------------------------------------------------------------------------------------------------

Instance::Instance(const Case& given) : c(given) {
  Random random(c.seed * 0x2545f4914f6cdd1du + 1);
  q = Tensor({c.B, c.Hq, c.Lq, c.D}, c.dtype, c.layout, false);
  k = Tensor({c.B, c.Hkv, c.Lk, c.D}, c.dtype, c.layout, false);
  v = Tensor({c.B, c.Hkv, c.Lk, c.Dv}, c.dtype, c.layout, false);
  if (c.layout == Layout::kBroadcast) {  // heads of q differ
    const bool batch_only[4] = {true, false, false, false};
    q = Tensor({c.B, c.Hq, c.Lq, c.D}, c.dtype, Layout::kPadded, false, batch_only);
  }
  out = Tensor({c.B, c.Hq, c.Lq, c.Dv}, c.out_dtype, c.out_layout, true);
  const Source source = generate(c, random);
  store(&q, source.q);
  store(&k, source.k);
  store(&v, source.v);
  // Keys past a length do not exist; a layout that shares them between batch entries has to keep the longest.
  for (size_t b = 0; b < c.kv_lens.size(); b++) {
    const int32_t end =
        c.layout == Layout::kBroadcast ? *std::max_element(c.kv_lens.begin(), c.kv_lens.end()) : c.kv_lens[b];
    for (int64_t h = 0; h < c.Hkv; h++)
      for (int64_t j = end; j < c.Lk; j++) {
        for (int64_t d = 0; d < c.D; d++) k.set(b, h, j, d, NAN);
        for (int64_t d = 0; d < c.Dv; d++) v.set(b, h, j, d, NAN);
      }
  }
  if (c.mask != Mask::kNone) {
    mask = Tensor({c.B, c.Hq, c.Lq, c.Lk}, mask_dtype(c.mask),
                  c.layout == Layout::kBroadcast ? Layout::kPadded : c.layout, false, c.mask_broadcast);
    for (int64_t b = 0; b < c.B; b++)
      for (int64_t h = 0; h < c.Hq; h++)
        for (int64_t i = 0; i < c.Lq; i++)
          for (int64_t j = 0; j < c.Lk; j++) {
            const bool hidden = random.chance(c.mask_hidden);
            const float value = static_cast<float>(random.normal());
            mask.set(b, h, i, j, c.mask == Mask::kBool ? !hidden : hidden ? -INFINITY : value);
          }
  }
  const auto plant = [&](Tensor* t, float value) {
    const int64_t* n = t->view.shape;
    if (n[0] * n[1] * n[2] * n[3] == 0) return;
    t->set(random.between(0, n[0] - 1), random.between(0, n[1] - 1), random.between(0, n[2] - 1),
           random.between(0, n[3] - 1), value);
  };
  switch (c.poison) {
    case Poison::kNone:
      break;
    case Poison::kNanQ:
      plant(&q, NAN);
      break;
    case Poison::kNanK:
      plant(&k, NAN);
      break;
    case Poison::kNanV:
      plant(&v, NAN);
      break;
    case Poison::kInfQ:
      plant(&q, INFINITY);
      break;
    case Poison::kInfK:
      plant(&k, -INFINITY);
      break;
    case Poison::kInfV:
      plant(&v, INFINITY);
      break;
    case Poison::kNanMask:
      if (c.mask > Mask::kBool) plant(&mask, NAN);
      break;
  }
  args.size = sizeof args;
  args.accuracy = c.accuracy;
  args.causal = c.causal;
  if (c.scale != 0) args.flags |= CLARY_HAS_SCALE, args.scale = c.scale;
  if (c.window) args.flags |= CLARY_HAS_WINDOW, args.window_left = c.window_left, args.window_right = c.window_right;
  args.q = q.view, args.k = k.view, args.v = v.view, args.out = out.view;
  if (c.lse) {
    lse = Tensor({c.B, c.Hq, c.Lq, 1}, CLARY_F32, c.out_layout, true);
    args.lse = lse.view;
  }
  if (c.mask != Mask::kNone) args.mask = mask.view;
  if (!c.kv_lens.empty()) args.kv_lens = c.kv_lens.data();
  if (!c.cu_q.empty()) {
    args.cu_seqlens_q = c.cu_q.data();
    args.cu_seqlens_k = c.cu_k.data();
    args.num_seqs = static_cast<int64_t>(c.cu_q.size()) - 1;
  }
}

Problem Instance::problem() const {
  Problem p;
  Problem::from(&args, &p);
  return p;
}

Result Instance::run(const char* target, const clary_executor* executor) {
  Forced forced(target);
  Result r;
  clary_attention_args a = args;
  a.executor = executor;
  out.poison();
  lse.poison();
  const std::vector<char> inputs[] = {q.memory, k.memory, v.memory, mask.memory};
  uint64_t bytes = 0;
  r.status = clary_workspace_size(&a, &bytes);
  std::vector<char> workspace;
  if (r.status == CLARY_OK) {
    workspace.assign(bytes + 1 + kGuard, kPoison);  // from an odd address
    a.workspace = workspace.data() + 1;
    a.workspace_size = bytes;
    r.status = clary_attention(&a);
  }
  if (r.status != CLARY_OK) {
    r.error = clary_last_error();
    return r;
  }
  r.variant = clary_last_variant();
  r.out = out.values();
  if (c.lse) r.lse = lse.values();
  const Tensor* tensors[] = {&q, &k, &v, &mask};
  for (int i = 0; i < 4; i++)
    if (tensors[i]->memory != inputs[i]) r.damage += "an input was written; ";
  if (!out.gaps_untouched()) r.damage += "a gap of out was written; ";
  if (c.lse && !lse.gaps_untouched()) r.damage += "a gap of lse was written; ";
  if (workspace.front() != kPoison ||
      !std::all_of(workspace.end() - kGuard, workspace.end(), [](char x) { return x == kPoison; }))
    r.damage += "the workspace overflowed; ";
  if (target && (r.variant + ":").rfind(std::string("cpu:") + target + ":", 0) != 0)
    r.damage += r.variant + " ran instead; ";
  r.plan = choose(problem(), cpu_device(), env().force, cpu::concurrency(executor));
  return r;
}

const std::vector<const cpu::Target*>& usable_targets() {
  static const std::vector<const cpu::Target*> usable = [] {
    std::vector<const cpu::Target*> found;
    const cpu::TargetList all = cpu::targets();
    for (int i = 0; i < all.count; i++)
      if ((all.begin[i]->needs & ~cpu_device().cpu_features) == 0) found.push_back(all.begin[i]);
    return found;
  }();
  return usable;
}

Forced::Forced(const char* target) : forced_(target) {
  if (target) set_force_for_test((std::string("cpu:") + target).c_str());
}
Forced::~Forced() {
  if (forced_) set_force_for_test(nullptr);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// ---- one line ------------------------------------------------------------------------------------------------------------------

std::string text(const Case& c) {
  static const char* const kData[] = {"normal", "outlier", "bias", "peaky", "heavy_tail", "sink", "equal"};
  static const char* const kLayout[] = {"hnd",       "nhd",     "fused",     "padded", "lbhd",
                                        "broadcast", "flipped", "unaligned", "odd"};
  static const char* const kMask[] = {"none", "bool", "f16", "bf16", "f32"};
  static const char* const kPoisons[] = {"none", "nan_q", "nan_k", "nan_v", "inf_q", "inf_k", "inf_v", "nan_mask"};
  static const char* const kCausal[] = {"none", "upper_left", "lower_right"};
  char line[600];
  std::snprintf(line, sizeof line,
                "seed=%llu B=%lld H=%lld/%lld Lq=%lld Lk=%lld D=%lld Dv=%lld %s->%s %s %s sizes=%g,%g,%g layout=%s->%s",
                static_cast<unsigned long long>(c.seed), static_cast<long long>(c.B), static_cast<long long>(c.Hq),
                static_cast<long long>(c.Hkv), static_cast<long long>(c.Lq), static_cast<long long>(c.Lk),
                static_cast<long long>(c.D), static_cast<long long>(c.Dv), dtype_name(c.dtype), dtype_name(c.out_dtype),
                accuracy_name(c.accuracy), kData[static_cast<int>(c.data)], c.q_size, c.k_size, c.v_size,
                kLayout[static_cast<int>(c.layout)], kLayout[static_cast<int>(c.out_layout)]);
  std::string s = line;
  if (c.causal) s += std::string(" causal=") + kCausal[c.causal];
  if (c.window) s += " window=" + std::to_string(c.window_left) + "," + std::to_string(c.window_right);
  if (c.scale != 0) s += " scale=" + std::to_string(c.scale);
  if (c.mask != Mask::kNone) {
    s += std::string(" mask=") + kMask[static_cast<int>(c.mask)] + " hidden=" + std::to_string(c.mask_hidden) +
         " broadcast=";
    for (bool b : c.mask_broadcast) s += b ? '1' : '0';
  }
  const auto list = [&s](const char* name, const std::vector<int32_t>& x) {
    if (x.empty()) return;
    s += std::string(" ") + name + "=";
    for (int32_t value : x) s += std::to_string(value) + ",";
  };
  list("kv_lens", c.kv_lens);
  list("cu_q", c.cu_q);
  list("cu_k", c.cu_k);
  if (!c.lse) s += " no lse";
  if (c.poison != Poison::kNone) s += std::string(" poison=") + kPoisons[static_cast<int>(c.poison)];
  return s;
}

}  // namespace clary::test
