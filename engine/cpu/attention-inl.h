// The algorithm, once, for every instruction set: T is a facade of isa/*-inl.h. Included inside an anonymous namespace by
// exactly one translation unit per target (target_*.cc).
//
// Scores are computed transposed, S^T = K Q^T: a lane is a query row, so nothing is ever summed across lanes and every row's
// arithmetic is the same sequence of operations at any vector width. All operands of the two products are 32-bit cells:
//   q, P   [step][kBlockRows rows] cells: 4 int8, 2 int16 or 1 float of consecutive channels (q) or keys (P)
//   k, v   read one cell at a time and broadcast: k rows as they are, v with the keys of a cell interleaved
// One block of up to kBlockRows rows goes through the tiles of kTileKeys keys in order. P is relative to the tile's own
// maximum m; its weight against a fixed frame is beta = 2^(m - frame). The frame is the first visible tile's maximum and
// moves only when a tile's maximum leaves it behind by more than kMaxFrameLag, so O needs no rescaling in between:
//   l += beta * sum P,   O += (P V) * (v_scale * beta).
// Scores take one of two ways to P: 16-bit fixed point (kInt8 without a float mask), or f32.

#include "engine/cpu/rows-inl.h"
//
#include "engine/cpu/quantise-inl.h"

template <class T>
struct Attend {
  using F = typename T::F;
  using I = typename T::I;
  using H = typename T::H;
  using Ops = RowOps<T>;
  static constexpr int W = T::W;
  static constexpr int kCellRow = kBlockRows * 4;  // bytes from one step's cells to the next

  // Scratch of a block; see carve().
  struct Block {
    char* q;      // [steps][kBlockRows] cells
    char* s;      // [kTileKeys][kBlockRows] cells: scores, then P in place
    float* o;     // [code_dim(Dv)][kBlockRows]
    float* bias;  // [kTileKeys][kBlockRows] log2 units, -inf = masked
    char* stage;  // q rows on their way in; k and v that need converting
    float frame[kBlockRows], l[kBlockRows], beta[kBlockRows];
    float q_factor[kBlockRows];  // q_scale * |scale| * log2(e)
    float q_mean[kBlockRows];    // scale * q . mean(k), for lse
    int32_t q_init[kBlockRows];  // -kKeyBias * sum of q codes: cancels the offset of k
    int32_t p_init[kBlockRows];  // -kValueBias * sum of P: cancels the offset of v
  };

  // What the arithmetics are made of: floats or codes, and values of a cell.
  static constexpr bool is_float(Arithmetic a) { return a == Arithmetic::kF32 || a == Arithmetic::kBf16; }
  static constexpr int per_cell(Arithmetic a) {
    return a == Arithmetic::kF32 ? 1 : a == Arithmetic::kInt8 && T::kDot8 ? 4 : 2;
  }

  static int64_t stage_bytes(Arithmetic a, int D, int Dv) {
    const int64_t rows = static_cast<int64_t>(W) * (round_up(D, 16) + 32) * 4;  // one group of q rows, floats and codes
    const int widest = code_dim(D > Dv ? D : Dv);
    const int64_t tile = a == Arithmetic::kInt8 ? (T::kDot8 ? 0 : static_cast<int64_t>(kTileKeys) * widest * 2)
                         : is_float(a)          ? static_cast<int64_t>(kTileKeys) * kStageChannels * 4
                                                : 0;
    return rows > tile ? rows : tile;
  }
  static int q_steps(Arithmetic a, int D) { return ((is_float(a) ? D : code_dim(D)) + per_cell(a) - 1) / per_cell(a); }
  static int64_t q_bytes(Arithmetic a, int D) {
    return static_cast<int64_t>(round_up(q_steps(a, D), T::kStepGroup)) * kCellRow;
  }
  static int64_t scratch_bytes(Arithmetic a, int D, int Dv) {
    return static_cast<int64_t>(sizeof(Block)) + q_bytes(a, D) + 2 * kTileKeys * kCellRow +
           static_cast<int64_t>(code_dim(Dv)) * kCellRow + stage_bytes(a, D, Dv) + 6 * 64;
  }
  static Block* carve(char* scratch, Arithmetic a, int D, int Dv) {
    char* at = scratch;
    const auto take = [&](int64_t bytes) {
      at += -reinterpret_cast<uintptr_t>(at) & 63;
      char* p = at;
      at += bytes;
      return p;
    };
    Block* b = reinterpret_cast<Block*>(take(sizeof(Block)));
    b->q = take(q_bytes(a, D));
    b->s = take(kTileKeys * kCellRow);
    b->o = reinterpret_cast<float*>(take(static_cast<int64_t>(code_dim(Dv)) * kCellRow));
    b->bias = reinterpret_cast<float*>(take(kTileKeys * kCellRow));
    b->stage = take(stage_bytes(a, D, Dv));
    return b;
  }

  // ---- building blocks --------------------------------------------------------------------------------------------------

  struct Operand {  // cells of k or v for the product
    const char* data;
    int64_t row, step;  // bytes
  };

  // A Dot may bring a product() of its own, by lane operands or by instructions that take several cells; kRows rows of k or v
  // at a time; kOverwrites<R>: it sets acc where the plain one adds to it.
  template <class Dot>
  static constexpr int rows_per_step(int vectors) {
    if constexpr (requires { Dot::kRows; })
      return Dot::kRows;
    else
      return T::rows_per_step(vectors);
  }
  template <class Dot, int R, int NQ>
  static CLARY_INLINE void start(I (&acc)[R][NQ], const int32_t* init) {
    if constexpr (requires { requires Dot::template kOverwrites<R>; }) return;
    CLARY_FOR (j, NQ) {
      const I first = init ? T::template load<I>(init + j * W) : I{};
      CLARY_FOR (r, R) acc[r][j] = first;
    }
  }

  // acc[r][j] += sum over steps of a[step][j] * cell(b + r * b_row + step * b_step)
  template <class Dot, int R, int NQ>
  static CLARY_INLINE void product(I (&acc)[R][NQ], const char* a, const char* b, int64_t b_row, int64_t b_step,
                                   int steps) {
    if constexpr (requires { Dot::template product<R, NQ>(acc, a, b, b_row, b_step, steps); }) {
      Dot::template product<R, NQ>(acc, a, b, b_row, b_step, steps);
    } else {
      for (int s = 0; s < steps; s++) {
        I row[NQ];
        CLARY_FOR (j, NQ) row[j] = T::template load<I>(a + j * W * 4);
        CLARY_FOR (r, R) {
          const I cell = T::broadcast(b + r * b_row);
          CLARY_FOR (j, NQ) Dot::dot(acc[r][j], row[j], cell);
        }
        a += kCellRow;
        b += b_step;
      }
    }
  }

  // The f32 product as a sum of chains of kF32Chain steps.
  template <int R, int NQ>
  static CLARY_INLINE void chained_product(I (&acc)[R][NQ], const char* a, const Operand& k, int steps) {
    alignas(64) char sums[R][NQ][W * 4];
    const char* cells = k.data;
    for (int done = 0;; a += kF32Chain * kCellRow, cells += kF32Chain * k.step) {
      const int now = steps - done < kF32Chain ? steps - done : kF32Chain;
      product<typename T::F32, R, NQ>(acc, a, cells, k.row, k.step, now);
      if (done > 0)
        CLARY_FOR (r, R)
          CLARY_FOR (j, NQ) acc[r][j] = T::bits(T::floats(acc[r][j]) + T::template load<F>(sums[r][j]));
      if ((done += now) == steps) return;
      CLARY_FOR (r, R)
        CLARY_FOR (j, NQ) {
          T::store(sums[r][j], acc[r][j]);
          acc[r][j] = I{};
        }
    }
  }

  // 2^y for y up to about 126; 0 below kExp2Low; NaN stays NaN (the last product keeps it).
  static CLARY_INLINE F exp2(F y) {
    y = T::max(T::splat(kExp2Low), y);
    const F z = y + T::splat(kExp2Magic), f = y - (z - T::splat(kExp2Magic));
    F p = T::splat(kExp2Poly[0]);
    CLARY_UNROLL
    for (int i = 1; i < 6; i++) p = T::fma(p, f, T::splat(kExp2Poly[i]));
    return p * T::floats((I)(((typename T::U)T::bits(z) << 23) + (127u << 23)));
  }

  template <Arithmetic a>
  struct Kind;  // what differs between the arithmetics

  // ---- q ----------------------------------------------------------------------------------------------------------------

  template <Arithmetic a>
  static void pack_q(const AttendArgs& args, const Rows& rows, Block& b, int vectors) {
    const KvHead& kv = args.kv;
    const int D = kv.D, padded = round_up(D, 16), width = code_dim(D);
    float* x = reinterpret_cast<float*>(b.stage);  // [W][padded] floats, or their codes in place
    const int cells = q_steps(a, D), pitch = padded * 4;
    const bool want_lse = rows.lse[0] != nullptr;
    const float log2_scale = args.scale * kLog2e, factor = log2_scale < 0 ? -log2_scale : log2_scale;
    for (int r0 = 0; r0 < vectors * W; r0 += W) {
      for (int r = 0; r < W; r++) {
        float* row = x + r * padded;
        const int i = r0 + r;
        b.q_mean[i] = 0;
        b.q_init[i] = 0;
        if (i >= rows.count) {
          __builtin_memset(row, 0, static_cast<size_t>(pitch));
          b.q_factor[i] = 0;
          continue;
        }
        Ops::load(rows.q[i], kv.dtype, D, row, padded);
        if constexpr (is_float(a)) {
          b.q_factor[i] = log2_scale;
          if constexpr (a == Arithmetic::kBf16)
            for (int d = 0; d < padded; d += W)
              T::store(reinterpret_cast<char*>(row) + d * 2,
                       T::narrow_half(T::bf16_bits(T::template load<F>(row + d))));
        } else {
          if (want_lse) {
            float dot = 0;
            for (int d = 0; d < D; d++) dot += row[d] * kv.mean[d];
            b.q_mean[i] = dot * args.scale;
          }
          Ops::rotate(row, D);
          constexpr int kMax = a == Arithmetic::kInt8 ? kQ8Max : kQ12Max;
          const typename Ops::Scale s = Ops::scale_of(Ops::reduce(Ops::max_bits(row, padded, I{})), kMax);
          b.q_factor[i] = s.scale * factor;
          const float inverse = log2_scale < 0 ? -s.inverse : s.inverse;  // a negative scale turns the codes round
          char* codes = reinterpret_cast<char*>(row);
          if constexpr (a == Arithmetic::kInt8 && T::kDot8) {
            Ops::template store_codes<int8_t>(row, inverse, width, codes, 0);
            if constexpr (T::kKeyBias != 0) {
              int sum = 0;
              for (int d = 0; d < width; d++) sum += reinterpret_cast<const int8_t*>(codes)[d];
              b.q_init[i] = -T::kKeyBias * sum;
            }
          } else {
            Ops::template store_codes<int16_t>(row, inverse, width, codes, 0);
          }
        }
      }
      for (int c = 0; c < cells; c += W) {  // [W rows][W cells] to [W cells][W rows]
        I t[W];
        CLARY_FOR (r, W) t[r] = T::template load<I>(reinterpret_cast<char*>(x + r * padded) + c * 4);
        T::transpose(t);
        const int count = cells - c < W ? cells - c : W;
        for (int i = 0; i < count; i++) T::store(b.q + static_cast<int64_t>(c + i) * kCellRow + r0 * 4, t[i]);
      }
      if constexpr (a == Arithmetic::kInt8) T::finish_cells(b.q + r0 * 4, cells);
    }
  }

  // ---- mask -------------------------------------------------------------------------------------------------------------

  static float mask_value(const char* at, int32_t dtype) {
    float x;
    if (dtype == CLARY_F32) {
      __builtin_memcpy(&x, at, 4);
      return x;
    }
    uint16_t h;
    __builtin_memcpy(&h, at, 2);
    if (dtype == CLARY_F16) return f16_to_float(h);
    const uint32_t wide = static_cast<uint32_t>(h) << 16;
    __builtin_memcpy(&x, &wide, 4);
    return x;
  }

  // Fills bias for keys [first, first + n) of the tile. Returns false if every row sees every key and nothing is added.
  // `all_hidden` becomes true if no row sees any.
  static bool build_bias(const AttendArgs& args, const Rows& rows, Block& b, int vectors, int first, int n,
                         int padded_n, bool& all_hidden) {
    bool open = n == padded_n;
    all_hidden = true;
    for (int i = 0; i < rows.count; i++) {
      if (rows.low[i] > first || rows.high[i] < first + n) open = false;
      if (rows.low[i] < first + n && rows.high[i] > first) all_hidden = false;
    }
    if (all_hidden) return true;
    const bool has_mask = rows.mask[0] != nullptr;
    if (open && !has_mask) return false;
    const float hidden = -__builtin_inff();
    if (open && args.mask_dtype == CLARY_BOOL) {  // a mask that hides nothing here, or everything, needs no bias
      bool any = false, all = true;
      for (int i = 0; i < rows.count && (all || !any); i++) {
        const char* m = rows.mask[i] + first * args.mask_stride;
        if (args.mask_stride == 1) {
          uint8_t seen = 0;
          bool zero = false;
          for (int k = 0; k < n; k++) {
            seen |= static_cast<uint8_t>(m[k]);
            zero |= m[k] == 0;
          }
          any |= seen != 0;
          all &= !zero;
        } else {
          for (int k = 0; k < n; k++)
            (m[k * args.mask_stride] ? any : all) = static_cast<bool>(m[k * args.mask_stride]);
        }
      }
      if (all) return false;
      if (!any) return all_hidden = true;
    }
    alignas(64) int32_t low[kBlockRows], high[kBlockRows];
    for (int i = 0; i < kBlockRows; i++) {
      low[i] = i < rows.count ? rows.low[i] : 0;
      high[i] = i < rows.count ? rows.high[i] : INT32_MAX;
    }
    const int end = args.kv.n;
    for (int k = 0; k < padded_n; k++) {
      const int key = first + k;
      for (int j = 0; j < vectors; j++) {
        const I lo = T::template load<I>(low + j * W), hi = T::template load<I>(high + j * W);
        const I here = T::splat(key);
        const I seen = (lo <= here) & (here < hi) & T::splat(key < end ? -1 : 0);
        T::store(b.bias + k * kBlockRows + j * W, seen ? F{} : T::splat(hidden));
      }
    }
    if (!has_mask) return true;
    const int64_t step = args.mask_stride * (args.mask_dtype == CLARY_BOOL ? 1 : args.mask_dtype == CLARY_F32 ? 4 : 2);
    for (int i = 0; i < rows.count; i++) {
      const char* m = rows.mask[i] + first * step;
      float* column = b.bias + i;
      if (args.mask_dtype == CLARY_BOOL) {
        for (int k = 0; k < n; k++, m += step, column += kBlockRows)
          if (!*m) *column = hidden;
      } else {
        for (int k = 0; k < n; k++, m += step, column += kBlockRows) {
          if (*column != 0) continue;
          *column = mask_value(m, args.mask_dtype) * kLog2e;
          if (!(*column < __builtin_inff())) b.l[i] = __builtin_nanf("");  // NaN or +inf: integers would hide it
        }
      }
    }
    return true;
  }

  // ---- scores -----------------------------------------------------------------------------------------------------------

  struct Maxima {  // of a tile, per vector of rows: int16 pairs or f32
    alignas(64) char cells[T::kMaxVectors][W * 4];
  };

  // Codes of n values sign-extended, for targets without an 8-bit dot.
  static void widen(const char* from, char* to, int n) {
    int i = 0;
    for (; i + 2 * W <= n; i += 2 * W)
      T::store(to + 2 * i, T::widen_bytes(T::template load<typename T::Bytes>(from + i)));
    for (; i < n; i++) reinterpret_cast<int16_t*>(to)[i] = reinterpret_cast<const int8_t*>(from)[i];
  }

  template <Arithmetic a, bool kQk>
  static constexpr auto dot_of() {
    if constexpr (a == Arithmetic::kF32)
      return typename T::F32{};
    else if constexpr (a == Arithmetic::kBf16)
      return typename T::Bf16{};
    else if constexpr (a == Arithmetic::kInt16 || !T::kDot8)
      return typename T::S16{};
    else
      return std::conditional_t<kQk, typename T::QK8, typename T::PV8>{};
  }
  template <Arithmetic a>
  using QkDot = decltype(dot_of<a, true>());
  template <Arithmetic a>
  using PvDot = decltype(dot_of<a, false>());

  // S for R keys from `key` on and NQ vectors of rows from vector `j0` on, in the form the way to P wants:
  // fixed: int16 pairs of keys, masked = -32768, and the running maximum; else: x = S * c + bias in f32.
  template <Arithmetic a, int R, int NQ, bool kFixed, bool kMasked>
  static CLARY_INLINE void score_rows(Block& b, const Operand& k, int steps, int shift, int key, int j0,
                                      const float* factor, H (&max16)[NQ], F (&max)[NQ]) {
    I acc[R][NQ];
    start<QkDot<a>>(acc, T::kKeyBias && a == Arithmetic::kInt8 ? b.q_init + j0 * W : nullptr);
    if constexpr (a == Arithmetic::kF32)
      chained_product<R, NQ>(acc, b.q + j0 * W * 4, k, steps);
    else
      product<QkDot<a>, R, NQ>(acc, b.q + j0 * W * 4, k.data, k.row, k.step, steps);
    if constexpr (kFixed) {
      CLARY_UNROLL
      for (int r = 0; r < R; r += 2)
        CLARY_FOR (j, NQ) {
          I s0 = acc[r][j] >> shift, s1 = acc[r + 1][j] >> shift;
          if constexpr (kMasked) {
            const float* bias = b.bias + (key + r) * kBlockRows + (j0 + j) * W;
            s0 = T::template load<F>(bias) == T::splat(-__builtin_inff()) ? T::splat(INT32_MIN) : s0;
            s1 = T::template load<F>(bias + kBlockRows) == T::splat(-__builtin_inff()) ? T::splat(INT32_MIN) : s1;
          }
          const H s = T::pack16(s0, s1);
          max16[j] = T::max16(max16[j], s);
          T::store(b.s + (key + r) / 2 * kCellRow + (j0 + j) * W * 4, s);
        }
    } else {
      CLARY_FOR (r, R)
        CLARY_FOR (j, NQ) {
          const F s = is_float(a) ? T::floats(acc[r][j]) : T::to_float(acc[r][j]);
          const F c = T::template load<F>(factor + j * W);
          F x;
          if constexpr (kMasked)
            x = T::fma(s, c, T::template load<F>(b.bias + (key + r) * kBlockRows + (j0 + j) * W));
          else
            x = s * c;
          max[j] = T::max(max[j], x);
          T::store(b.s + (key + r) * kCellRow + (j0 + j) * W * 4, x);
        }
    }
  }

  // Moves the frame of rows that need it; returns beta. `m`: the tile's maximum, -inf where no key is visible.
  static CLARY_INLINE F weigh(Block& b, int j, F m, int value_dim) {
    F frame = T::template load<F>(b.frame + j * W);
    const I leaves = m - frame > T::splat(kMaxFrameLag);
    F l = T::template load<F>(b.l + j * W);
    const F moved = leaves ? m : frame;
    if (T::any(leaves & (l != F{}))) {
      const F alpha = leaves ? exp2(frame - m) : T::splat(1.0f);
      l = l * alpha;
      for (int d = 0; d < value_dim; d++) {
        float* o = b.o + static_cast<int64_t>(d) * kBlockRows + j * W;
        T::store(o, T::template load<F>(o) * alpha);
      }
      T::store(b.l + j * W, l);
    }
    T::store(b.frame + j * W, moved);
    return m == T::splat(-__builtin_inff()) ? F{} : exp2(m - moved);
  }

  static CLARY_INLINE void add_sum(Block& b, int j, F sum, F beta) {
    T::store(b.beta + j * W, beta);
    T::store(b.l + j * W, T::fma(sum, beta, T::template load<F>(b.l + j * W)));
  }

  // One vector of rows, int16 scores to P in [0, 255].
  template <bool kMasked>
  static CLARY_NOINLINE void softmax_fixed(Block& b, int j, int keys, H max16, F step, int value_dim) {
    const I top = T::widen_max(max16);
    const I none = top == T::splat(-32768);
    const F m = none ? T::splat(-__builtin_inff()) : step * T::to_float(top);
    const F beta = weigh(b, j, m, value_dim);
    // exp_step() of quant/formats.h, W rows at a time
    const F full = step * T::splat(8388608.0f);
    I e = (T::bits(full) >> 23) - (127 + 15);
    e = e < 0 ? I{} : e > 15 ? T::splat(15) : e;
    const F scaled = T::min(full * T::floats((127 - e) << 23), T::splat(65535.0f));
    const I limit = T::rint(T::floats((127 + 16 - e) << 23)) - 1, two_e = T::rint(T::floats((127 + e) << 23));
    const H mh = T::pack16u(T::rint(scaled), T::rint(scaled)), lh = T::pack16u(limit, limit),
            eh = T::pack16u(two_e, two_e);
    const H maximum = T::pack16(top, top);
    const auto steps = [&](H d) { return T::mulhi(T::min16(d, lh) * eh, mh); };
    const auto small_steps = [&](H d) { return T::mulhi(d, mh); };  // e == 0: the limit is 2^16 - 1
    const I sum =
        T::any(e) ? weights<kMasked>(b, j, keys, maximum, steps) : weights<kMasked>(b, j, keys, maximum, small_steps);
    if constexpr (T::kValueBias != 0) T::store(b.p_init + j * W, sum * -T::kValueBias);
    add_sum(b, j, T::to_float(sum), beta);
  }

  // Scores to P in place, 255 at the maximum; steps(d) is the distance d in units of exp_step(). Returns the sum of P.
  template <bool kMasked, class Steps>
  static CLARY_INLINE I weights(Block& b, int j, int keys, H maximum, const Steps& steps) {
    const H A = T::splat16(kExpA), B = T::splat16(kExpB), C = T::splat16(kExpC);
    I sum = {};
    char* s = b.s + j * W * 4;
    const auto p_of = [&](H score) {
      const H t = steps(maximum - score);
      const H f = t << 9;
      H p = T::exp_round(C - T::mulhi(f, A - T::mulhi(f, B)), t);
      if constexpr (kMasked) p = score == T::splat16(0x8000) ? H{} : p;
      return p;
    };
    for (int k = 0; k < keys; k += 4) {
      const H p01 = p_of(T::template load<H>(s + k / 2 * kCellRow)),
              p23 = p_of(T::template load<H>(s + (k / 2 + 1) * kCellRow));
      if constexpr (T::kDot8) {
        const I cell = T::pack_bytes(p01, p23);
        T::PV8::dot(sum, cell, T::splat(0x01010101));
        T::store(s + k / 4 * kCellRow, cell);
      } else {
        const I first = T::pack_words(p01), second = T::pack_words(p23);
        sum += (first & 0xffff) + (first >> 16) + (second & 0xffff) + (second >> 16);
        T::store(s + k / 2 * kCellRow, first);
        T::store(s + (k / 2 + 1) * kCellRow, second);
      }
    }
    return sum;
  }

  // The same from f32 scores; P as the arithmetic's cells.
  template <Arithmetic a>
  static CLARY_NOINLINE void softmax_float(Block& b, int j, int keys, F m, int value_dim) {
    const F beta = weigh(b, j, m, value_dim);
    const F base = m == T::splat(-__builtin_inff()) ? F{} : m;
    char* s = b.s + j * W * 4;
    if constexpr (a == Arithmetic::kF32) {
      F sum = {};
      for (int k = 0; k < keys; k++) {
        const F p = exp2(T::template load<F>(s + k * kCellRow) - base);
        sum += p;
        T::store(s + k * kCellRow, p);
      }
      add_sum(b, j, sum, beta);
    } else if constexpr (a == Arithmetic::kBf16) {
      F sum = {};
      for (int k = 0; k < keys; k += 2) {
        const I p0 = T::bf16_bits(exp2(T::template load<F>(s + k * kCellRow) - base));
        const I p1 = T::bf16_bits(exp2(T::template load<F>(s + (k + 1) * kCellRow) - base));
        sum += T::floats(p0 << 16) + T::floats(p1 << 16);
        T::store(s + k / 2 * kCellRow, p0 | p1 << 16);
      }
      add_sum(b, j, sum, beta);
    } else {
      const F log2_max = T::splat(a == Arithmetic::kInt8 ? 7.99435344f : 11.9996477f);  // log2(255), log2(4095)
      typename T::U sum = {};  // wraps where a NaN became INT_MIN: such rows are strange anyway
      constexpr int kKeys = per_cell(a);
      for (int k = 0; k < keys; k += kKeys) {
        I cell = {};
        CLARY_FOR (i, kKeys) {
          const I p = T::rint(exp2((T::template load<F>(s + (k + i) * kCellRow) - base) + log2_max));
          sum += (typename T::U)p;
          cell |= (I)((typename T::U)p << (32 / kKeys * i));
        }
        T::store(s + k / kKeys * kCellRow, cell);
      }
      if constexpr (T::kValueBias != 0 && a == Arithmetic::kInt8) T::store(b.p_init + j * W, (I)sum * -T::kValueBias);
      add_sum(b, j, T::to_float((I)sum), beta);
    }
  }

  // ---- tiles ------------------------------------------------------------------------------------------------------------

  // What kF32 and kBf16 copy to `stage` at a time when the caller's memory cannot be used in place.
  static constexpr int kStageKeys = 32, kStageChannels = 64;

  // Keys [first, first + count) as cells, zeros up to `padded`.
  template <Arithmetic a>
  static CLARY_INLINE Operand float_keys(const KvHead& kv, Block& b, int first, int count, int padded) {
    constexpr int kSize = a == Arithmetic::kF32 ? 4 : 2;  // of what a cell holds
    const int size = kv.dtype == CLARY_F32 ? 4 : 2;
    const char* k = kv.k + first * kv.k_stride * size;
    if (size == kSize && count == padded && kv.D % per_cell(a) == 0) return {k, kv.k_stride * size, 4};
    const int pitch = round_up(kv.D, 16) * kSize;
    for (int i = 0; i < padded; i++) {
      char* to = b.stage + i * pitch;
      if (i >= count)
        __builtin_memset(to, 0, static_cast<size_t>(pitch));
      else if constexpr (a == Arithmetic::kF32)
        Ops::load(k + i * kv.k_stride * size, kv.dtype, kv.D, reinterpret_cast<float*>(to), pitch / 4);
      else {
        __builtin_memset(to + kv.D * 2, 0, static_cast<size_t>(pitch - kv.D * 2));
        __builtin_memcpy(to, k + i * kv.k_stride * size, static_cast<size_t>(kv.D) * 2);
      }
    }
    return {b.stage, pitch, 4};
  }
  // Channels [d, d + count) of keys [first, first + n) as cells.
  template <Arithmetic a>
  static CLARY_INLINE Operand float_values(const KvHead& kv, Block& b, int first, int n, int padded_n, int d,
                                           int count) {
    const int size = kv.dtype == CLARY_F32 ? 4 : 2;
    const char* v = kv.v + (first * kv.v_stride + d) * size;
    constexpr int kPitch = kStageChannels * 4;
    const auto row = [&](int i) { return v + i * kv.v_stride * size; };
    if constexpr (a == Arithmetic::kF32) {
      if (size == 4 && n == padded_n && count % 4 == 0) return {v, 4, kv.v_stride * 4};
      for (int i = 0; i < padded_n; i++) {
        if (i < n)
          Ops::load(row(i), kv.dtype, count, reinterpret_cast<float*>(b.stage + i * kPitch), round_up(count, 16));
        else
          __builtin_memset(b.stage + i * kPitch, 0, kPitch);
      }
    } else {  // two keys to a cell: the high halves of their floats
      alignas(64) float even[kStageChannels], odd[kStageChannels];
      const int width = round_up(count, 16);
      for (int i = 0; i < padded_n; i += 2) {
        Ops::load(row(i < n ? i : 0), kv.dtype, i < n ? count : 0, even, width);
        Ops::load(row(i + 1 < n ? i + 1 : 0), kv.dtype, i + 1 < n ? count : 0, odd, width);
        for (int j = 0; j < width; j += W)
          T::store(b.stage + i / 2 * kPitch + j * 4,
                   (T::template load<I>(even + j) >> 16 & 0xffff) | T::template load<I>(odd + j));
      }
    }
    return {b.stage, 4, kPitch};
  }

  // With few rows a tile takes as long as reading it: asks for `count` rows of the next one meanwhile.
  static CLARY_INLINE void prefetch_tile(const KvHead& kv, int first, int count) {
    if (first + count > kv.n) return;
    const int size = kv.dtype == CLARY_F32 ? 4 : 2;
    for (int i = 0; i < count; i++) {
      const char* k = kv.k + (first + i) * kv.k_stride * size;
      const char* v = kv.v + (first + i) * kv.v_stride * size;
      for (int d = 0; d < kv.D * size; d += 64) __builtin_prefetch(k + d, 0, 2);
      for (int d = 0; d < kv.Dv * size; d += 64) __builtin_prefetch(v + d, 0, 2);
    }
  }

  // S of one tile for NQ vectors of rows from j0 on; the maxima go to memory.
  template <Arithmetic a, int NQ, bool kFixed, bool kMasked>
  static CLARY_NOINLINE void scores(const AttendArgs& args, Block& b, Operand k, int first, int n, int padded_n, int j0,
                                    const float* factor, Maxima& top) {
    constexpr int R = rows_per_step<QkDot<a>>(NQ);
    const KvHead& kv = args.kv;
    const int steps = q_steps(a, kv.D), shift = score_shift(code_dim(kv.D));
    F max[NQ];
    H max16[NQ];
    CLARY_FOR (j, NQ) {
      max[j] = T::splat(-__builtin_inff());
      max16[j] = T::splat16(0x8000);
    }
    int key = 0;
    for (; key < padded_n - (R > 8 ? R - 8 : 0); key += R) {  // padded_n is a multiple of 8
      if constexpr (is_float(a)) {
        if (key % kStageKeys == 0) {
          const int left = n - key, part = padded_n - key < kStageKeys ? padded_n - key : kStageKeys;
          k = float_keys<a>(kv, b, first + key, left < part ? left : part, part);
        }
        if constexpr (NQ <= 4) prefetch_tile(kv, first + kTileKeys + key, R);
      }
      score_rows<a, R, NQ, kFixed, kMasked>(b, k, steps, shift, key, j0, factor, max16, max);
      k.data += R * k.row;
    }
    if constexpr (R > 8)
      if (key < padded_n) score_rows<a, 8, NQ, kFixed, kMasked>(b, k, steps, shift, key, j0, factor, max16, max);
    CLARY_FOR (j, NQ) {
      if constexpr (kFixed)
        T::store(top.cells[j], max16[j]);
      else
        T::store(top.cells[j], max[j]);
    }
  }

  // S and P of one tile.
  template <Arithmetic a, int NQ, bool kFixed, bool kMasked>
  static CLARY_INLINE void probabilities(const AttendArgs& args, Block& b, const Operand& k, int first, int n,
                                         int padded_n, int j0) {
    const KvHead& kv = args.kv;
    Maxima top;
    alignas(64) float factor[NQ * W];
    const float k_scale = is_float(a) ? 1.0f : kv.k_scale[first / kTileKeys];
    for (int j = 0; j < NQ; j++) {
      F c = T::template load<F>(b.q_factor + (j0 + j) * W);
      if constexpr (!is_float(a)) c = c * k_scale;
      T::store(factor + j * W, c);
    }
    scores<a, NQ, kFixed, kMasked>(args, b, k, first, n, padded_n, j0, factor, top);
    const float unit = static_cast<float>(1 << score_shift(code_dim(kv.D)));
    for (int j = 0; j < NQ; j++) {
      if constexpr (kFixed)
        softmax_fixed<kMasked>(b, j0 + j, padded_n, T::template load<H>(top.cells[j]),
                               T::template load<F>(factor + j * W) * unit, kv.Dv);
      else
        softmax_float<a>(b, j0 + j, padded_n, T::template load<F>(top.cells[j]), kv.Dv);
      if constexpr (a == Arithmetic::kInt8) T::finish_cells(b.s + (j0 + j) * W * 4, padded_n / 4);
    }
  }

  // O += P V for R channels from d on.
  template <Arithmetic a, int R, int NQ>
  static CLARY_INLINE void add_values(Block& b, const Operand& v, const float* v_scale, int steps, int d, int j0) {
    I acc[R][NQ];
    start<PvDot<a>>(acc, T::kValueBias && a == Arithmetic::kInt8 ? b.p_init + j0 * W : nullptr);
    product<PvDot<a>, R, NQ>(acc, b.s + j0 * W * 4, v.data, v.row, v.step, steps);
    CLARY_FOR (r, R)
      CLARY_FOR (j, NQ) {
        float* o = b.o + static_cast<int64_t>(d + r) * kBlockRows + (j0 + j) * W;
        F beta = T::template load<F>(b.beta + (j0 + j) * W);
        F t;
        if constexpr (is_float(a)) {
          t = T::floats(acc[r][j]);
        } else {
          t = T::to_float(acc[r][j]);
          beta = beta * T::splat(v_scale[d + r]);
        }
        T::store(o, T::fma(t, beta, T::template load<F>(o)));
      }
  }

  template <Arithmetic a, int NQ>
  static CLARY_NOINLINE void values(const AttendArgs& args, Block& b, Operand v, int first, int n, int padded_n,
                                    int j0) {
    constexpr int R = rows_per_step<PvDot<a>>(NQ);
    const KvHead& kv = args.kv;
    const int width = code_dim(kv.Dv), steps = padded_n / per_cell(a);
    const float* v_scale = is_float(a) ? nullptr : kv.v_scale + static_cast<int64_t>(first / kTileKeys) * width;
    for (int d = 0; d < width;) {
      if constexpr (is_float(a)) {
        if (d % kStageChannels == 0) {
          const int count = kv.Dv - d < kStageChannels ? kv.Dv - d : kStageChannels;
          v = float_values<a>(kv, b, first, n, padded_n, d, count);
        }
      }
      if (d + R <= width) {
        add_values<a, R, NQ>(b, v, v_scale, steps, d, j0);
        d += R;
        v.data += R * v.row;
      } else if (R > 8 && d + 8 <= width) {
        add_values<a, 8, NQ>(b, v, v_scale, steps, d, j0);
        d += 8;
        v.data += 8 * v.row;
      } else {
        add_values<a, 4, NQ>(b, v, v_scale, steps, d, j0);
        d += 4;
        v.data += 4 * v.row;
      }
    }
  }

  template <Arithmetic a, int NQ>
  static void tile_group(const AttendArgs& args, Block& b, const Operand& k, int first, int n, int padded_n, bool fixed,
                         bool masked, int j0) {
    if constexpr (a == Arithmetic::kInt8) {
      if (fixed && masked)
        probabilities<a, NQ, true, true>(args, b, k, first, n, padded_n, j0);
      else if (fixed)
        probabilities<a, NQ, true, false>(args, b, k, first, n, padded_n, j0);
      else  // a float mask
        probabilities<a, NQ, false, true>(args, b, k, first, n, padded_n, j0);
    } else {
      if (masked)
        probabilities<a, NQ, false, true>(args, b, k, first, n, padded_n, j0);
      else
        probabilities<a, NQ, false, false>(args, b, k, first, n, padded_n, j0);
    }
  }

  template <Arithmetic a>
  static void run(const AttendArgs& args, Rows& rows, char* scratch) {
    const KvHead& kv = args.kv;
    Block& b = *carve(scratch, a, kv.D, kv.Dv);
    [[maybe_unused]] const std::conditional_t<a == Arithmetic::kInt8, typename T::Session, char> session{};
    int vectors = (rows.count + W - 1) / W;
    if (vectors > 2 && vectors % T::kMaxVectors) vectors = round_up(vectors, T::kMaxVectors);
    const int width = code_dim(kv.Dv), k_width = code_dim(kv.D);
    pack_q<a>(args, rows, b, vectors);
    for (int i = 0; i < vectors * W; i++) {
      b.frame[i] = -__builtin_inff();
      b.l[i] = 0;
    }
    for (int d = 0; d < width; d++) __builtin_memset(b.o + d * kBlockRows, 0, static_cast<size_t>(vectors) * W * 4);

    const bool float_mask = rows.mask[0] && args.mask_dtype != CLARY_BOOL;
    constexpr int kCodeBytes = a == Arithmetic::kInt8 ? 1 : 2;
    for (int first = args.key_begin; first < args.key_end; first += kTileKeys) {
      const int n = kv.n - first < kTileKeys ? kv.n - first : kTileKeys, padded_n = round_up(n, 8);
      bool all_hidden;
      const bool masked = build_bias(args, rows, b, vectors, first, n, padded_n, all_hidden);
      if (all_hidden) continue;
      Operand k{}, v{};
      constexpr bool kWiden = a == Arithmetic::kInt8 && !T::kDot8;
      if constexpr (!is_float(a)) {
        const char* codes = kv.k_codes + static_cast<int64_t>(first) * k_width * kCodeBytes;
        k = {codes, k_width * kCodeBytes, 4};
        if constexpr (kWiden) {
          widen(codes, b.stage, padded_n * k_width);
          k = {b.stage, k_width * 2, 4};
        }
      }
      each_group(vectors, [&](auto nq, int j0) {
        tile_group<a, decltype(nq)::value>(args, b, k, first, n, padded_n, !float_mask, masked, j0);
      });
      if constexpr (!is_float(a)) {
        const char* codes = kv.v_codes + static_cast<int64_t>(first) * width * kCodeBytes;
        v = {codes, 4, static_cast<int64_t>(width) * 4};
        if constexpr (a == Arithmetic::kInt8 && T::kValueKeys > 4) {
          v.row = T::kValueKeys < padded_n ? T::kValueKeys : padded_n;
          if (T::kValueKeys == kTileKeys) v.step = 4;
        }
        if constexpr (kWiden) {
          widen(codes, b.stage, padded_n * width);
          v.data = b.stage;
        }
      }
      each_group(vectors, [&](auto nq, int j0) { values<a, decltype(nq)::value>(args, b, v, first, n, padded_n, j0); });
    }
    constexpr float kLog2Max = a == Arithmetic::kInt8 ? 7.99435344f : a == Arithmetic::kInt16 ? 11.9996477f : 0.0f;
    if (args.partial)
      store_partial(args, rows, b, kLog2Max);
    else
      store_rows(args, rows, b, kLog2Max);
  }

  // Calls f(constant NQ, first vector) over groups of kMaxVectors, then of what is left.
  template <class Fn>
  static CLARY_INLINE void each_group(int vectors, const Fn& f) {
    int j = 0;
    for (; j + T::kMaxVectors <= vectors; j += T::kMaxVectors) f(std::integral_constant<int, T::kMaxVectors>{}, j);
    if constexpr (T::kMaxVectors > 2)
      for (; j + 2 <= vectors; j += 2) f(std::integral_constant<int, 2>{}, j);
    for (; j < vectors; j++) f(std::integral_constant<int, 1>{}, j);
  }

  // ---- results ----------------------------------------------------------------------------------------------------------

  static void store_partial(const AttendArgs& args, const Rows& rows, Block& b, float log2_max) {
    const int Dv = args.kv.Dv;
    for (int i = 0; i < rows.count; i++) {
      float* to = args.partial + static_cast<int64_t>(i) * (Dv + kPartialExtra);
      for (int d = 0; d < Dv; d++) to[d] = b.o[static_cast<int64_t>(d) * kBlockRows + i];
      to[Dv] = b.l[i] == 0 ? -__builtin_inff() : b.frame[i] - log2_max;
      to[Dv + 1] = b.l[i];
      to[Dv + 2] = b.q_mean[i];
    }
  }

  static void store_rows(const AttendArgs& args, Rows& rows, Block& b, float log2_max) {
    const int Dv = args.kv.Dv, size = args.out_dtype == CLARY_F32 ? 4 : 2;
    for (int r0 = 0; r0 < rows.count; r0 += W) {
      const int in_group = rows.count - r0 < W ? rows.count - r0 : W;
      for (int i = 0; i < in_group; i++)  // out is rarely in a cache: fetch all its lines at once
        for (int at = 0; at < Dv * size; at += 64) __builtin_prefetch(rows.out[r0 + i] + at, 1);
      const F l = T::template load<F>(b.l + r0);
      const F inverse = l == F{} ? F{} : T::splat(1.0f) / l;
      F check = {};
      for (int d = 0; d < Dv; d += W) {
        I t[W];
        CLARY_FOR (i, W) {
          F o = {};
          if (d + i < Dv) o = T::template load<F>(b.o + static_cast<int64_t>(d + i) * kBlockRows + r0) * inverse;
          check = T::fma(o, F{}, check);
          t[i] = T::bits(o);
        }
        T::transpose(t);
        const int count = Dv - d < W ? Dv - d : W;
        for (int i = 0; i < in_group; i++)
          Ops::store(rows.out[r0 + i] + d * size, args.out_dtype, T::floats(t[i]), count);
      }
      for (int i = 0; i < in_group; i++)
        rows.strange[r0 + i] = check[i] != 0 || (l[i] == 0 && rows.low[r0 + i] < rows.high[r0 + i]);
    }
    if (rows.lse[0])
      for (int i = 0; i < rows.count; i++) {
        float lse = (b.frame[i] + __builtin_log2f(b.l[i]) - log2_max) * kLn2 + b.q_mean[i];
        if (b.l[i] == 0) lse = -__builtin_inff();
        rows.strange[i] |= b.l[i] != 0 && !(__builtin_fabsf(lse) < __builtin_inff());
        __builtin_memcpy(rows.lse[i], &lse, 4);
      }
  }
};

#include "engine/cpu/direct-inl.h"

template <class T>
void attend(const AttendArgs& args, Rows& rows, Arithmetic a, char* scratch) {
  switch (a) {
    case Arithmetic::kInt8:
      return Attend<T>::template run<Arithmetic::kInt8>(args, rows, scratch);
    case Arithmetic::kInt16:
      return Attend<T>::template run<Arithmetic::kInt16>(args, rows, scratch);
    case Arithmetic::kF32:
      return Attend<T>::template run<Arithmetic::kF32>(args, rows, scratch);
    case Arithmetic::kBf16:
      if constexpr (T::kBf16) return Attend<T>::template run<Arithmetic::kBf16>(args, rows, scratch);
      return;  // the planner gives it only to targets that have it
    case Arithmetic::kDirect:
      return Direct<T>::attend(args, rows, scratch);
    case Arithmetic::kInt8F16:
      return;  // a GPU's
  }
}

// Attention and the codes of K and V share one scratch, at different times.
template <class T>
int64_t scratch_bytes(Arithmetic a, int D, int Dv) {
  const int64_t direct = Direct<T>::scratch_bytes();
  if (a == Arithmetic::kDirect) return direct;
  const int64_t tiles = Attend<T>::scratch_bytes(a, D, Dv);
  const int64_t codes = Attend<T>::is_float(a) ? 0 : Quantise<T>::scratch_bytes(D, Dv);
  return tiles > codes ? tiles : codes;
}

template <class T>
constexpr Target target_of(const char* name, uint32_t needs) {
  // Break-evens measured on Zen 4 at 1k to 16k keys, D = 128 (bench/results).
  return {
      name,     needs, T::kBf16, T::kDot8 ? 20 : 56, 56, scratch_bytes<T>, Quantise<T>::sum_keys, Quantise<T>::quantise,
      attend<T>};
}
