// The machine's ceilings, as JSON: rates of the multiply-add instructions, and read bandwidth of each cache level and of
// memory, on one thread and on all. Every loop is one asm statement with 12 independent chains (latency 6 x 2 a clock), and
// runs only where the engine's own probe says that the instruction exists.
//
//   clary_peak [--only SUBSTRING] [--threads N] [--seconds PER_FIGURE]
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/timing.h"
#include "engine/device.h"

namespace clary::bench {
namespace {

// ---- instructions -----------------------------------------------------------------------------------------------------

constexpr long kSteps = 20000, kChains = 12;

#define TIMES12(at) at(0) at(1) at(2) at(3) at(4) at(5) at(6) at(7) at(8) at(9) at(10) at(11)
#define CLOBBERS "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v14", "v15", "cc"

struct Instruction {
  const char* name;
  const char* type;
  uint32_t needs;  // CpuFeature
  int ops;         // multiplies and adds, of one instruction
  void (*run)();   // kSteps * kChains of them
};

#if defined(__x86_64__)
#undef CLOBBERS
#define CLOBBERS                                                                                                      \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15", \
      "cc"
// Operands: bytes 63, words 16191, bf16 and f32 0.75, so that no lane is idle and none is slow.
#define X86(id, text, reg)                                                     \
  void id() {                                                                  \
    long n = kSteps;                                                           \
    const uint32_t pattern = 0x3f3f3f3f;                                       \
    __asm__ volatile("vbroadcastss %1, %%" reg "14\n\tvbroadcastss %1, %%" reg \
                     "15\n\t"                                                  \
                     "1:\n\t" TIMES12(text) "dec %0\n\tjnz 1b\n\tvzeroupper"   \
                     : "+r"(n)                                                 \
                     : "m"(pattern)                                            \
                     : CLOBBERS);                                              \
  }
#define OP(name, reg, k) name " %%" reg "14, %%" reg "15, %%" reg #k "\n\t"
#define BUSD_ZMM(k) OP("vpdpbusd", "zmm", k)
#define BUSD_YMM(k) OP("vpdpbusd", "ymm", k)
#define BUSD_VEX(k) OP("%{vex%} vpdpbusd", "ymm", k)
#define WSSD_ZMM(k) OP("vpdpwssd", "zmm", k)
#define MADDWD_ZMM(k) OP("vpmaddwd", "zmm", k)
#define MADDWD_YMM(k) OP("vpmaddwd", "ymm", k)
#define BF16_ZMM(k) OP("vdpbf16ps", "zmm", k)
#define FMA_ZMM(k) OP("vfmadd231ps", "zmm", k)
#define FMA_YMM(k) OP("vfmadd231ps", "ymm", k)
X86(busd_zmm, BUSD_ZMM, "zmm")
X86(busd_ymm, BUSD_YMM, "ymm")
X86(busd_vex, BUSD_VEX, "ymm")
X86(wssd_zmm, WSSD_ZMM, "zmm")
X86(maddwd_zmm, MADDWD_ZMM, "zmm")
X86(maddwd_ymm, MADDWD_YMM, "ymm")
X86(bf16_zmm, BF16_ZMM, "zmm")
X86(fma_zmm, FMA_ZMM, "zmm")
X86(fma_ymm, FMA_YMM, "ymm")

// AMX: 16 x 64 by 64 x 16 bytes; six accumulators, twice a step. Not run on hardware yet.
void tdpbusd() {
  alignas(64) uint8_t config[64] = {1}, bytes[1024];
  std::memset(bytes, 63, sizeof bytes);
  for (int t = 0; t < 8; t++) config[16 + 2 * t] = 64, config[48 + t] = 16;
  long n = kSteps;
#define TILES(at) at(0) at(1) at(2) at(3) at(4) at(5)
#define TDPBUSD(k) "tdpbusd %%tmm7, %%tmm6, %%tmm" #k "\n\t"
  __asm__ volatile(
      "ldtilecfg %1\n\ttileloadd (%2,%3,1), %%tmm6\n\ttileloadd (%2,%3,1), %%tmm7\n\t"
      "1:\n\t" TILES(TDPBUSD) TILES(TDPBUSD) "dec %0\n\tjnz 1b\n\ttilerelease"
      : "+r"(n)
      : "m"(config), "r"(bytes), "r"(64l)
      : "memory", "cc");
}

const Instruction kInstructions[] = {
    {"tdpbusd", "int8", kAmxInt8, 32768, tdpbusd},        {"vpdpbusd zmm", "int8", kAvx512Vnni, 128, busd_zmm},
    {"vpdpbusd ymm", "int8", kAvx512Vnni, 64, busd_ymm},  {"vpdpbusd ymm vex", "int8", kAvxVnni, 64, busd_vex},
    {"vpdpwssd zmm", "int16", kAvx512Vnni, 64, wssd_zmm}, {"vpmaddwd zmm", "int16", kAvx512, 64, maddwd_zmm},
    {"vpmaddwd ymm", "int16", kAvx2, 32, maddwd_ymm},     {"vdpbf16ps zmm", "bf16", kAvx512Bf16, 64, bf16_zmm},
    {"vfmadd231ps zmm", "f32", kAvx512, 32, fma_zmm},     {"vfmadd231ps ymm", "f32", kAvx2, 16, fma_ymm},
};

#elif defined(__aarch64__)
#define ARM(id, arch, text)                                              \
  void id() {                                                            \
    long n = kSteps;                                                     \
    __asm__ volatile(".arch_extension " arch                             \
                     "\n\tmovi v14.16b, #63\n\tmovi v15.16b, #63\n\t"    \
                     "1:\n\t" TIMES12(text) "subs %0, %0, #1\n\tb.ne 1b" \
                     : "+r"(n)::CLOBBERS);                               \
  }
#define OP(name, k, from) name " v" #k ".4s, v14." from ", v15." from "\n\t"
#define SDOT(k) OP("sdot", k, "16b")
#define UDOT(k) OP("udot", k, "16b")
#define SMMLA(k) OP("smmla", k, "16b")
#define FMLA(k) OP("fmla", k, "4s")
ARM(sdot, "dotprod", SDOT)
ARM(udot, "dotprod", UDOT)
ARM(smmla, "i8mm", SMMLA)
ARM(fmla, "simd", FMLA)

const Instruction kInstructions[] = {
    {"smmla", "int8", kNeonI8mm, 64, smmla},
    {"sdot", "int8", kNeonDot, 32, sdot},
    {"udot", "int8", kNeonDot, 32, udot},
    {"fmla", "f32", kNeon, 8, fmla},
};
#endif

// ---- reads ------------------------------------------------------------------------------------------------------------

constexpr size_t kStride = 512;          // bytes an iteration
constexpr size_t kReadBytes = 4u << 20;  // at least so many between two looks at the clock

using Read = void (*)(const char*, const char*);

#if defined(__x86_64__)
#define READ(id, load, reg, width)                                                                                    \
  void id(const char* p, const char* end) {                                                                           \
    __asm__ volatile("1:\n\t.set at, 0\n\t.rept " #width "\n\t" load " at(%0), %%" reg "0\n\t" load " at+512/" #width \
                     "/2(%0), %%" reg "1\n\t.set at, at+512/" #width                                                  \
                     "\n\t.endr\n\t"                                                                                  \
                     "add $512, %0\n\tcmp %1, %0\n\tjb 1b"                                                            \
                     : "+r"(p)                                                                                        \
                     : "r"(end)                                                                                       \
                     : "xmm0", "xmm1", "cc");                                                                         \
  }
READ(read_zmm, "vmovups", "zmm", 4)
READ(read_ymm, "vmovups", "ymm", 8)
READ(read_xmm, "movups", "xmm", 16)

Read widest_read(uint32_t features) { return features & kAvx512 ? read_zmm : features & kAvx2 ? read_ymm : read_xmm; }
#elif defined(__aarch64__)
void read_q(const char* p, const char* end) {
  __asm__ volatile(
      "1:\n\t.set at, 0\n\t.rept 16\n\tldp q0, q1, [%0, #at]\n\t.set at, at+32\n\t.endr\n\t"
      "add %0, %0, #512\n\tcmp %0, %1\n\tb.lo 1b"
      : "+r"(p)
      : "r"(end)
      : "v0", "v1", "cc");
}
Read widest_read(uint32_t) { return read_q; }
#endif

// Of the data cache, from the kernel: under a hypervisor sysconf() reports the whole socket's L3.
size_t cache_bytes(int level, size_t fallback) {
  for (int index = 0; index < 8; index++) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    int found = 0;
    std::string type, size;
    if (!(std::ifstream(folder + "/level") >> found)) break;
    std::ifstream(folder + "/type") >> type;
    std::ifstream(folder + "/size") >> size;  // "32768K"
    if (found == level && type != "Instruction" && !size.empty()) return std::stoul(size) << 10;
  }
  return fallback;
}

// ---- measuring --------------------------------------------------------------------------------------------------------

// Calls a second of work(thread), summed over threads that run at the same time; the best of five windows.
template <class F>
double rate(int threads, double seconds, const F& work) {
  double best = 0;
  for (int window = 0; window < 5; window++) {
    std::atomic<int> ready{0};
    std::vector<double> rates(static_cast<size_t>(threads));
    const auto one = [&](int index) {
      work(index);
      ready++;
      while (ready < threads) std::this_thread::yield();
      const double begin = thread_seconds();
      long calls = 0;
      double now = begin;
      for (; now - begin < seconds / 5; now = thread_seconds(), calls++) work(index);
      rates[static_cast<size_t>(index)] = static_cast<double>(calls) / (now - begin);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; i++) others.emplace_back(one, i);
    one(0);
    for (std::thread& t : others) t.join();
    double sum = 0;
    for (double r : rates) sum += r;
    best = std::max(best, sum);
  }
  return best;
}

struct Options {
  const char* only = "";
  int threads = 0;  // 0: one, then all
  double seconds = 0.1;

  bool wants(const char* name) const { return std::strstr(name, only) != nullptr; }
};

class Rows {  // of a JSON list
 public:
  explicit Rows(const char* name) { std::printf(",\n \"%s\": [", name); }
  ~Rows() { std::printf("]"); }
  void next() {
    std::printf(first_ ? "\n  " : ",\n  ");
    first_ = false;
  }

 private:
  bool first_ = true;
};

void instructions(const Options& options, const std::vector<int>& threads, double hz) {
  Rows rows("dot");
  for (const Instruction& i : kInstructions) {
    if ((i.needs & cpu_device().cpu_features) != i.needs || !options.wants(i.name)) continue;
    for (int n : threads) {
      const double each = kSteps * kChains * rate(n, options.seconds, [&](int) { i.run(); });
      rows.next();
      std::printf("{\"name\": \"%s\", \"type\": \"%s\", \"threads\": %d, \"gops\": %.1f, \"per_clock\": %.2f}", i.name,
                  i.type, n, each * i.ops / 1e9, each / hz / n);
    }
  }
}

void reads(const Options& options, const std::vector<int>& threads, double hz) {
  const size_t l1 = cache_bytes(1, 32 << 10), l2 = cache_bytes(2, 512 << 10), l3 = cache_bytes(3, 8 << 20);
  // Half a private level; of L3 what two L2 do not hold; four times L3 for memory. The last two are shared by the threads.
  const struct {
    const char* name;
    size_t bytes;
    bool shared;
  } levels[] = {{"L1", l1 / 2, false},
                {"L2", l2 / 2, false},
                {"L3", std::max(l3 / 2, 4 * l2), true},
                {"memory", std::min<size_t>(std::max<size_t>(4 * l3, 256 << 20), size_t{1} << 30), true}};
  const Read read = widest_read(cpu_device().cpu_features);
  Rows rows("read");
  for (const auto& level : levels) {
    if (!options.wants(level.name)) continue;
    for (int n : threads) {
      const size_t count = static_cast<size_t>(n);
      const size_t each = std::max(kStride, (level.shared ? level.bytes / count : level.bytes) / kStride * kStride);
      char* data = static_cast<char*>(std::aligned_alloc(kStride, each * count));
      if (!data) continue;
      std::memset(data, 1, each * count);
      const size_t passes = (kReadBytes + each - 1) / each;
      const double calls = rate(n, std::max(options.seconds, level.shared ? 0.25 : 0.0), [&](int index) {
        const char* begin = data + each * static_cast<size_t>(index);
        for (size_t i = 0; i < passes; i++) read(begin, begin + each);
      });
      const double bytes = calls * static_cast<double>(passes * each);
      std::free(data);
      rows.next();
      std::printf("{\"level\": \"%s\", \"bytes\": %zu, \"threads\": %d, \"gb_per_s\": %.1f, \"bytes_per_clock\": %.1f}",
                  level.name, each * count, n, bytes / 1e9, bytes / hz / n);
    }
  }
}

}  // namespace
}  // namespace clary::bench

int main(int argc, char** argv) {
  clary::bench::Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (value && name == "--only") {
      options.only = value;
    } else if (value && name == "--threads") {
      options.threads = std::atoi(value);
    } else if (value && name == "--seconds") {
      options.seconds = std::atof(value);
    } else {
      std::fprintf(stderr, "usage: %s [--only SUBSTRING] [--threads N] [--seconds PER_FIGURE]\n", argv[0]);
      return 2;
    }
  }
  std::vector<int> threads = {1, static_cast<int>(std::thread::hardware_concurrency())};
  if (threads[1] <= 1) threads.pop_back();
  if (options.threads > 0) threads = {options.threads};
  const double hz = clary::bench::clock_hz();
  std::printf("{\"ghz\": %.3f", hz / 1e9);
  clary::bench::instructions(options, threads, hz);
  clary::bench::reads(options, threads, hz);
  std::printf("}\n");
}
