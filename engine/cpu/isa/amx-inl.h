// AMX: both products of kInt8 run on tiles, 16 keys or channels x 64 query rows at a time; all else is AVX-512.
// Where there is no AMX, tests run it with the tile instructions written out in C++ (CLARY_AMX_EMULATE, tests/targets).
//
// A tile product is C[row][query] += A[row][64 bytes] B[16 steps][query][4 bytes], and C is the accumulators as they are:
//   QK  A = 16 keys as they lie in memory, B = 16 steps of q cells          TDPBSSD
//   PV  A = 16 channels, so v is [channels][keys] here, B = 16 steps of P   TDPBSUD
// A is always read as whole 64-byte rows. Where an operand ends before, that is the next row or what lies behind k_codes and
// v_codes (kernel.h), and finish_cells() has put zeros on the other side of those products.
//
// Tiles 0-3 hold C of four vectors of rows, 4 A, 5 B; 6 and 7 are C and A of 8 rows, for what is left of keys and channels.
// The last 4 channels, if any, are AVX-512's. Five loads of 8 clocks feed four products of 16 (Intel's Optimization Reference
// Manual; not measured).

#if defined(CLARY_AMX_EMULATE)
struct TileUnit {  // of a thread
  bool on;
  int rows[8], bytes[8];
  alignas(64) uint8_t data[8][16][64];
};
static TileUnit& tile_unit() {
  static thread_local TileUnit unit;
  return unit;
}
static void must(bool holds) {  // where the hardware would fault
  if (!holds) __builtin_trap();
}
static void tile_config(const void* config) {
  const uint8_t* c = static_cast<const uint8_t*>(config);
  TileUnit& u = tile_unit();
  must(c[0] == 1 && c[1] == 0);
  u.on = true;
  for (int t = 0; t < 8; t++) {
    u.bytes[t] = c[16 + 2 * t] | c[17 + 2 * t] << 8;
    u.rows[t] = c[48 + t];
    must(u.bytes[t] <= 64 && u.rows[t] <= 16 && (u.bytes[t] == 0) == (u.rows[t] == 0));
  }
  __builtin_memset(u.data, 0, sizeof u.data);
}
static void tile_release() { tile_unit().on = false; }
template <int t>
static void tile_zero() {
  must(tile_unit().on);
  __builtin_memset(tile_unit().data[t], 0, sizeof tile_unit().data[t]);
}
template <int t>
static void tile_load(const char* from, int64_t stride) {
  TileUnit& u = tile_unit();
  must(u.on && u.rows[t] > 0);
  for (int r = 0; r < u.rows[t]; r++)
    __builtin_memcpy(u.data[t][r], from + r * stride, static_cast<size_t>(u.bytes[t]));
}
template <int t>
static void tile_store(void* to, int64_t stride) {
  const TileUnit& u = tile_unit();
  must(u.on && u.rows[t] > 0);
  for (int r = 0; r < u.rows[t]; r++)
    __builtin_memcpy(static_cast<char*>(to) + r * stride, u.data[t][r], static_cast<size_t>(u.bytes[t]));
}
template <int c, int a, int b, bool kSignedB>
static void tile_dot() {
  TileUnit& u = tile_unit();
  must(u.on && u.rows[c] == u.rows[a] && u.bytes[c] == u.bytes[b] && u.bytes[a] == 4 * u.rows[b]);
  for (int r = 0; r < u.rows[c]; r++)
    for (int q = 0; q < u.bytes[c] / 4; q++) {
      int32_t sum;
      __builtin_memcpy(&sum, &u.data[c][r][4 * q], 4);
      for (int i = 0; i < u.bytes[a]; i++) {
        const uint8_t y = u.data[b][i / 4][4 * q + i % 4];
        sum += static_cast<int8_t>(u.data[a][r][i]) * (kSignedB ? static_cast<int8_t>(y) : y);
      }
      __builtin_memcpy(&u.data[c][r][4 * q], &sum, 4);
    }
}
#else  // asm, not intrinsics: g++ 12's _tile_loadd does not say that it reads memory
static CLARY_INLINE void tile_config(const void* config) {
  asm volatile("ldtilecfg %0" ::"m"(*static_cast<const char (*)[64]>(config)));
}
static CLARY_INLINE void tile_release() { asm volatile("tilerelease"); }
template <int t>
static CLARY_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(t));
}
template <int t>
static CLARY_INLINE void tile_load(const char* from, int64_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(t), "r"(from), "r"(stride) : "memory");
}
template <int t>
static CLARY_INLINE void tile_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(t), "r"(to), "r"(stride) : "memory");
}
template <int c, int a, int b, bool kSignedB>
static CLARY_INLINE void tile_dot() {
  if constexpr (kSignedB)
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  else
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
#endif

// Without the bf16 dot: Sapphire Rapids issues one every two clocks, half the rate of f32 (bench/results/cpu-xeon.json).
struct Amx : Avx512<true, true, false> {
  using Base = Avx512<true, true, false>;
  using typename Base::I;
  static constexpr int kKeyBias = 0;
  static constexpr int kStepGroup = 16;
  static constexpr int kValueKeys = kTileKeys;
  static constexpr int kCellRow = kBlockRows * 4;

  // The tile registers while a block of rows is at work. They are off outside: a thread that leaves them on pays 8 KiB at
  // every context switch.
  struct Session {
    Session() {
      alignas(64) static constexpr struct Config {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 8, 8};
      } kConfig;
      static_assert(sizeof kConfig == 64);
      tile_config(&kConfig);
    }
    ~Session() { tile_release(); }
    Session(const Session&) = delete;
  };

  template <bool kSignedB>
  struct Tiles {
    static constexpr int kRows = 16;
    template <int R>
    static constexpr bool kOverwrites = R >= 8;

    template <int R, int NQ>
      requires(R >= 8)
    static CLARY_INLINE void product(I (&acc)[R][NQ], const char* a, const char* b, int64_t b_row, int64_t, int steps) {
      constexpr int64_t kPitch = sizeof acc[0];
      if constexpr (R == 16) {
        each<NQ>([](auto j) { tile_zero<j>(); });
        for (int s = 0; s < steps; s += 16, a += 16 * kCellRow, b += 64) {
          tile_load<4>(b, b_row);
          each<NQ>([&](auto j) {
            tile_load<5>(a + j * 64, kCellRow);
            tile_dot<j, 4, 5, kSignedB>();
          });
        }
        each<NQ>([&](auto j) { tile_store<j>(&acc[0][j], kPitch); });
      } else {
        for (int j = 0; j < NQ; j++) {
          tile_zero<6>();
          for (int s = 0; s < steps; s += 16) {
            tile_load<7>(b + s * 4, b_row);
            tile_load<5>(a + j * 64 + s * kCellRow, kCellRow);
            tile_dot<6, 7, 5, kSignedB>();
          }
          tile_store<6>(&acc[0][j], kPitch);
        }
      }
    }
    template <int N, class Fn>
    static CLARY_INLINE void each(const Fn& f) {
      each(f, std::make_integer_sequence<int, N>{});
    }
    template <class Fn, int... j>
    static CLARY_INLINE void each(const Fn& f, std::integer_sequence<int, j...>) {
      (f(std::integral_constant<int, j>{}), ...);
    }
  };
  struct QK8 : Tiles<true> {};
  struct PV8 : Tiles<false>, Base::PV8 {};

  static CLARY_INLINE void finish_cells(char* cells, int steps) {
    for (int s = steps; s % kStepGroup; s++) Base::store(cells + s * kCellRow, I{});
  }
  // [steps][width] cells to [width][steps].
  static void finish_values(char* cells, int steps, int width, char* spare) {
    const int pitch = round_up(width, 16);
    for (int s = 0; s < steps; s++)
      __builtin_memcpy(spare + s * pitch * 4, cells + s * width * 4, static_cast<size_t>(width) * 4);
    for (int d = 0; d < width; d += 16)
      for (int s = 0; s < steps; s += 16) {
        const int count = steps - s < 16 ? steps - s : 16;
        I t[16] = {};
        for (int i = 0; i < count; i++) t[i] = Base::template load<I>(spare + ((s + i) * pitch + d) * 4);
        Base::transpose(t);
        for (int i = 0; i < 16 && d + i < width; i++)
          __builtin_memcpy(cells + ((d + i) * steps + s) * 4, &t[i], static_cast<size_t>(count) * 4);
      }
  }
};
