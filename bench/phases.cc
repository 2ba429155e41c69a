// Where a CPU target's clocks go, as JSON: nanoseconds per 16 scores of each phase of one head of N x N attention on one
// thread, N keys of prologue included. This file is compiled once per target, with that target's flags, on top of the
// target's own source (CLARY_TARGET_SOURCE; its facade is CLARY_FACADE): the phases timed are the functions that ship, each
// alone on a tile that is already in the cache. `kernel` is all of them at work together, blocks of rows over all keys;
// what it takes beyond their sum is moving K and V and the code between the phases.
//
//   clary_phases_<target> [N]
#include CLARY_TARGET_SOURCE
//
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bench/timing.h"
#include "engine/device.h"

namespace clary::cpu {
namespace {

using Facade = CLARY_FACADE;
using Kernel = Attend<Facade>;
using Codes = Quantise<Facade>;

constexpr int kRounds = 9;
constexpr double kWindow = 2e-3;

template <class F>
double ns(const F& f) {
  return 1e9 * bench::sample_seconds(f, kRounds, kWindow)[kRounds / 2];
}

// One head's tensors and workspace: floats uniform in [-2, 2).
struct Head {
  Head(int n, int head_dim, Arithmetic arithmetic)
      : N(n), D(head_dim), a(arithmetic), q(size()), k(size()), v(size()), out(size()) {
    uint32_t state = 1;
    for (std::vector<float>* x : {&q, &k, &v})
      for (float& e : *x) e = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-22f - 2.0f;
    const size_t code = a == Arithmetic::kInt8 ? 1 : 2, rows = static_cast<size_t>(round_up(N, 8));
    k_codes.resize(rows * static_cast<size_t>(code_dim(D)) * code + 64);
    v_codes.resize(k_codes.size());
    k_scale.resize(static_cast<size_t>(tiles_of(N)));
    v_scale.resize(static_cast<size_t>(tiles_of(N) * code_dim(D)));
    sums.resize(static_cast<size_t>(chunks_of(N) * D));
    mean.resize(static_cast<size_t>(D));
    const int64_t x = Kernel::scratch_bytes(a, D, D), y = Codes::scratch_bytes(D, D);
    scratch.resize(static_cast<size_t>(x > y ? x : y));
    KvHead& kv = args.kv;
    kv.k = reinterpret_cast<const char*>(k.data());
    kv.v = reinterpret_cast<const char*>(v.data());
    kv.k_stride = kv.v_stride = D;
    kv.n = N;
    kv.D = kv.Dv = D;
    kv.dtype = args.out_dtype = CLARY_F32;
    kv.k_codes = k_codes.data();
    kv.v_codes = v_codes.data();
    kv.k_scale = k_scale.data();
    kv.v_scale = v_scale.data();
    kv.sums = sums.data();
    kv.mean = mean.data();
    args.scale = 1 / __builtin_sqrtf(static_cast<float>(D));
    args.key_end = N;
  }
  size_t size() const { return static_cast<size_t>(N) * static_cast<size_t>(D); }

  void prologue() {
    for (int c = 0; c < chunks_of(N); c++) Codes::sum_keys(args.kv, c);
    for (int c = 0; c < chunks_of(N); c++) Codes::quantise(args.kv, c, a, scratch.data());
  }
  Rows rows(int first) {
    Rows r{};
    r.count = N - first < kBlockRows ? N - first : kBlockRows;
    for (int i = 0; i < r.count; i++) {
      r.q[i] = reinterpret_cast<const char*>(q.data() + static_cast<size_t>(first + i) * static_cast<size_t>(D));
      r.out[i] = reinterpret_cast<char*>(out.data() + static_cast<size_t>(first + i) * static_cast<size_t>(D));
      r.high[i] = N;
    }
    return r;
  }

  int N, D;
  Arithmetic a;
  std::vector<float> q, k, v, out, k_scale, v_scale, sums, mean;
  std::vector<char> k_codes, v_codes, scratch;
  AttendArgs args{};
};

template <Arithmetic a>
void phases(int N, int D, bool first) {
  constexpr bool kQuantised = a != Arithmetic::kF32, kFixed = a == Arithmetic::kInt8;
  constexpr bool kWiden = a == Arithmetic::kInt8 && !Facade::kDot8;
  constexpr int NQ = Facade::kMaxVectors, W = Facade::W, kVectors = kBlockRows / W, n = kTileKeys;
  static_assert(kVectors % NQ == 0);
  Head head(N, D, a);
  const KvHead& kv = head.args.kv;
  const int width = code_dim(D), code = a == Arithmetic::kInt8 ? 1 : 2;

  const double prologue = kQuantised ? ns([&] { head.prologue(); }) : 0;
  const double kernel = ns([&] {
    for (int row = 0; row < N; row += kBlockRows) {
      Rows rows = head.rows(row);
      Kernel::template run<a>(head.args, rows, head.scratch.data());
    }
  });

  // The block as run() leaves it: packed q, settled frames.
  [[maybe_unused]] const std::conditional_t<a == Arithmetic::kInt8, typename Facade::Session, char> session{};
  typename Kernel::Block& b = *Kernel::carve(head.scratch.data(), a, D, D);
  Rows rows = head.rows(0);
  const double pack_q = ns([&] { Kernel::template pack_q<a>(head.args, rows, b, kVectors); });
  typename Kernel::Operand k{kv.k_codes, width * code, 4}, v{kv.v_codes, 4, width * 4};
  if constexpr (kFixed && Facade::kValueKeys > 4) {
    v.row = Facade::kValueKeys < n ? Facade::kValueKeys : n;
    if (Facade::kValueKeys == n) v.step = 4;
  }
  double widen = 0;
  if constexpr (kWiden) {
    widen = ns([&] { Kernel::widen(kv.k_codes, b.stage, n * width); }) * 2;
    k = {b.stage, width * 2, 4};
    v.data = b.stage;
  }
  typename Kernel::Maxima top[kVectors / NQ];
  alignas(64) float factor[kBlockRows];
  for (int i = 0; i < kBlockRows; i++) factor[i] = b.q_factor[i] * (kQuantised ? kv.k_scale[0] : 1.0f);
  const double scores = ns([&] {
    for (int j = 0; j < kVectors; j += NQ)
      Kernel::template scores<a, NQ, kFixed, false>(head.args, b, k, 0, n, n, j, factor + j * W, top[j / NQ]);
  });
  const double softmax = ns([&] {
    for (int j = 0; j < kVectors; j++) {
      const char* cells = top[j / NQ].cells[j % NQ];
      if constexpr (kFixed)
        Kernel::template softmax_fixed<false>(
            b, j, n, Facade::template load<typename Facade::H>(cells),
            Facade::template load<typename Facade::F>(factor + j * W) * static_cast<float>(1 << score_shift(width)), D);
      else
        Kernel::template softmax_float<a>(b, j, n, Facade::template load<typename Facade::F>(cells), D);
    }
  });
  const double values = ns([&] {
    for (int j = 0; j < kVectors; j += NQ) Kernel::template values<a, NQ>(head.args, b, v, 0, n, n, j);
  });
  const double store = ns([&] { Kernel::store_rows(head.args, rows, b, 0); });

  const double all = 16.0 / N / N, tile = 16.0 / kBlockRows / n, block = 16.0 / kBlockRows / N;
  std::printf(
      "%s\n  {\"arithmetic\": \"%s\", \"D\": %d, \"N\": %d, \"prologue\": %.3f, \"pack_q\": %.3f, \"scores\": %.3f, "
      "\"softmax\": %.3f, \"values\": %.3f, \"widen\": %.3f, \"store\": %.3f, \"kernel\": %.3f}",
      first ? "" : ",",
      a == Arithmetic::kInt8    ? "int8"
      : a == Arithmetic::kInt16 ? "int16"
                                : "f32",
      D, N, prologue * all, pack_q * block, scores * tile, softmax * tile, values * tile, widen * tile, store * block,
      kernel * all);
}

}  // namespace
}  // namespace clary::cpu

int main(int argc, char** argv) {
  using namespace clary::cpu;
  const int N = argc > 1 ? std::atoi(argv[1]) : 4096;
  if (N < clary::kTileKeys) {
    std::fprintf(stderr, "usage: %s [N >= %d]\n", argv[0], clary::kTileKeys);
    return 2;
  }
  if ((clary::cpu_device().cpu_features & CLARY_TARGET.needs) != CLARY_TARGET.needs) {
    std::fprintf(stderr, "this CPU lacks instructions that %s needs\n", CLARY_TARGET.name);
    return 1;
  }
  std::printf("{\"target\": \"%s\", \"ghz\": %.3f, \"rows\": [", CLARY_TARGET.name, clary::bench::clock_hz() / 1e9);
  bool first = true;
  for (int D : {64, 72, 128, 256}) {
    phases<clary::Arithmetic::kInt8>(N, D, first);
    first = false;
  }
  for (int D : {64, 128}) phases<clary::Arithmetic::kInt16>(N, D, false);
  for (int D : {64, 128}) phases<clary::Arithmetic::kF32>(N, D, false);
  std::printf("]}\n");
}
