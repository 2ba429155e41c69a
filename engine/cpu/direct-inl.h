// kDirect: attention of a few rows (decode), where reading K and V once is all the time there is. Lanes run along channels
// for q . k and p * v, along keys for the softmax; K and V are read in place, once for all rows, in f32 arithmetic.
// Sums over channels and over keys go through kParts partial sums (element i into part i mod kParts) that are then added in
// order, so bits do not depend on the vector width.

constexpr int kDirectRows = 4;  // beyond, the tiles of Attend are faster

template <class T>
struct Direct {
  using F = typename T::F;
  using I = typename T::I;
  using Ops = RowOps<T>;
  static constexpr int W = T::W;
  static constexpr int kParts = 16;  // also the keys of a step
  static constexpr int kVectors = kParts / W;
  struct State {
    float q[kDirectRows][kMaxHeadDim], o[kDirectRows][kMaxHeadDim], t[kDirectRows][kMaxHeadDim];
    float part[kDirectRows][kParts][kParts];  // [row][key of the step][part]
    float s[kDirectRows][kTileKeys];          // scores, then P
    float bias[kDirectRows][kTileKeys];
    float wide[kParts][kMaxHeadDim];  // rows that need converting or padding
    float frame[kDirectRows], l[kDirectRows];
    int32_t masked[kDirectRows];  // the row's bias counts in this tile
  };
  static int64_t scratch_bytes() { return sizeof(State) + 64; }

  // Rows of k or v where they can be read W values at a time: the caller's memory if it divides into whole vectors, else
  // `wide`, as f32. They are then read strictly in the order they lie in memory: that alone reaches 90 % of what 4 KB
  // pages give; four keys at a time half of it.
  struct Stream {
    const char* data;
    int64_t pitch;  // bytes
  };
  template <int Dtype>
  static constexpr int kSize = Dtype == CLARY_F32 ? 4 : 2;

  // Rows that are needed a tile later. Converting, or several rows of q, are so much arithmetic between two loads that the
  // CPU does not look far enough ahead by itself; for one or two rows in f32 it does, and is 10 % slower when told.
  struct Ahead {
    const char* data;  // null: nothing
    int64_t pitch;     // bytes
    int bytes;         // of a row
    CLARY_INLINE void fetch(int row) const {
      if (data)
        for (int at = 0; at < bytes; at += 64) __builtin_prefetch(data + row * pitch + at, 0, 2);
    }
  };

  static CLARY_INLINE Stream widened(const char* base, int64_t stride, int32_t dtype, int dim, int count, State& st) {
    const int size = dtype == CLARY_F32 ? 4 : 2;
    for (int i = 0; i < count; i++) Ops::load(base + i * stride * size, dtype, dim, st.wide[i], round_up(dim, kParts));
    return {reinterpret_cast<const char*>(st.wide), sizeof st.wide[0]};
  }
  // Calls f(dtype constant, stream) for rows [first, first + count).
  template <class Fn>
  static CLARY_INLINE void stream(const char* base, int64_t stride, int32_t dtype, int dim, int first, int count,
                                  State& st, const Fn& f) {
    const int64_t size = dtype == CLARY_F32 ? 4 : 2;
    const char* from = base + first * stride * size;
    if (dim % kParts != 0)
      f(std::integral_constant<int, CLARY_F32>{}, widened(from, stride, dtype, dim, count, st));
    else if (dtype == CLARY_F32)
      f(std::integral_constant<int, CLARY_F32>{}, Stream{from, stride * size});
    else if (dtype == CLARY_BF16)
      f(std::integral_constant<int, CLARY_BF16>{}, Stream{from, stride * size});
    else
      f(std::integral_constant<int, CLARY_F16>{}, Stream{from, stride * size});
  }

  template <int R>
  static CLARY_INLINE Ahead ahead(const char* base, int64_t stride, int32_t dtype, int dim, int first) {
    if (dtype == CLARY_F32 && R <= 2) return {};
    const int size = dtype == CLARY_F32 ? 4 : 2;
    return {base + first * stride * size, stride * size, dim * size};
  }
  // Scores of `count` keys, at most kParts, for R rows: a row of k is loaded once.
  template <int Dtype, int R>
  static CLARY_INLINE void score_step(State& st, Stream k, Ahead ahead, int D, int count, int at) {
    const char* key = k.data;
    for (int i = 0; i < count; i++, key += k.pitch) {
      ahead.fetch(i);
      F sum[R][kVectors] = {};
      for (int d = 0; d < D; d += kParts)
        CLARY_FOR (v, kVectors) {
          const F x = T::template load_as_float<Dtype>(key + (d + v * W) * kSize<Dtype>);
          CLARY_FOR (r, R) sum[r][v] = T::fma(x, T::template load<F>(st.q[r] + d + v * W), sum[r][v]);
        }
      CLARY_FOR (r, R)
        CLARY_FOR (v, kVectors) T::store(st.part[r][i] + v * W, sum[r][v]);
    }
    for (int r = 0; r < R; r++)
      for (int i = 0; i < kParts; i += W) {
        F sum = {};
        for (int v = 0; v < kVectors; v++) {
          I t[W];
          CLARY_FOR (j, W) t[j] = T::template load<I>(st.part[r][i + j] + v * W);
          T::transpose(t);
          CLARY_FOR (j, W) sum = sum + T::floats(t[j]);
        }
        T::store(st.s[r] + at + i, sum);
      }
  }

  static void fill_bias(const AttendArgs& args, const Rows& rows, State& st, int row, int first, int n) {
    st.masked[row] = n < kTileKeys || rows.mask[row] || rows.low[row] > first || rows.high[row] < first + n;
    if (!st.masked[row]) return;
    const int64_t size = args.mask_dtype == CLARY_BOOL ? 1 : args.mask_dtype == CLARY_F32 ? 4 : 2;
    for (int k = 0; k < kTileKeys; k++) {
      const int key = first + k;
      float x = -__builtin_inff();
      if (k < n && key >= rows.low[row] && key < rows.high[row]) {
        x = 0;
        if (rows.mask[row]) {
          const char* m = rows.mask[row] + key * args.mask_stride * size;
          if (args.mask_dtype == CLARY_BOOL)
            x = *m ? 0 : -__builtin_inff();
          else
            x = Attend<T>::mask_value(m, args.mask_dtype) * kLog2e;
        }
      }
      st.bias[row][k] = x;
    }
  }

  // s to P relative to the tile's maximum; moves the row's frame; returns beta (0 if no key is visible).
  static CLARY_INLINE float softmax(State& st, int row, float c, int Dv) {
    float* s = st.s[row];
    F top = T::splat(-__builtin_inff());
    const F factor = T::splat(c);
    for (int k = 0; k < kTileKeys; k += W) {
      F x = T::template load<F>(s + k) * factor;
      if (st.masked[row]) x = T::fma(T::template load<F>(s + k), factor, T::template load<F>(st.bias[row] + k));
      top = T::max(top, x);
      T::store(s + k, x);
    }
    float m = -__builtin_inff();
    for (int i = 0; i < W; i++) m = top[i] > m || top[i] != top[i] ? top[i] : m;
    const F base = T::splat(m == -__builtin_inff() ? 0 : m);
    F sum[kVectors] = {};
    for (int k = 0; k < kTileKeys; k += kParts)
      CLARY_FOR (v, kVectors) {
        const F p = Attend<T>::exp2(T::template load<F>(s + k + v * W) - base);
        sum[v] = sum[v] + p;
        T::store(s + k + v * W, p);
      }
    float total = 0;
    for (int v = 0; v < kVectors; v++)
      for (int i = 0; i < W; i++) total += sum[v][i];
    if (m == -__builtin_inff()) return 0;
    if (m - st.frame[row] > kMaxFrameLag) {
      const F alpha = Attend<T>::exp2(T::splat(st.frame[row] - m));
      st.l[row] *= alpha[0];
      for (int d = 0; d < round_up(Dv, kParts); d += W)
        T::store(st.o[row] + d, T::template load<F>(st.o[row] + d) * alpha);
      st.frame[row] = m;
    }
    const float beta = Attend<T>::exp2(T::splat(m - st.frame[row]))[0];
    st.l[row] = __builtin_fmaf(total, beta, st.l[row]);
    return beta;
  }

  // t += P V for R rows, N vectors of channels from d on, `count` keys: a vector of v is loaded once.
  template <int Dtype, int R, int N>
  static CLARY_INLINE void add_values(State& st, Stream v, Ahead ahead, int d, int count, int at) {
    F t[R][N];
    CLARY_FOR (r, R)
      CLARY_FOR (j, N) t[r][j] = T::template load<F>(st.t[r] + d + j * W);
    const char* from = v.data + d * kSize<Dtype>;
    for (int i = 0; i < count; i++, from += v.pitch) {
      ahead.fetch(i);
      F weight[R];
      CLARY_FOR (r, R) weight[r] = T::splat(st.s[r][at + i]);
      CLARY_FOR (j, N) {
        const F x = T::template load_as_float<Dtype>(from + j * W * kSize<Dtype>);
        CLARY_FOR (r, R) t[r][j] = T::fma(weight[r], x, t[r][j]);
      }
    }
    CLARY_FOR (r, R)
      CLARY_FOR (j, N) T::store(st.t[r] + d + j * W, t[r][j]);
  }
  template <int Dtype, int R>
  static CLARY_INLINE void value_step(State& st, Stream v, Ahead ahead, int Dv, int count, int at) {
    constexpr int kMost = R == 1 ? 8 : R == 2 && W == 16 ? 8 : 4;
    int d = 0;
    for (; d + kMost * W <= Dv; d += kMost * W, ahead.data = nullptr)
      add_values<Dtype, R, kMost>(st, v, ahead, d, count, at);
    for (; d < Dv; d += W, ahead.data = nullptr) add_values<Dtype, R, 1>(st, v, ahead, d, count, at);
  }

  static void attend(const AttendArgs& args, Rows& all, char* scratch) {
    State& st = *reinterpret_cast<State*>(scratch + (-reinterpret_cast<uintptr_t>(scratch) & 63));
    for (int first = 0; first < all.count; first += kDirectRows) {
      const int rows = all.count - first < kDirectRows ? all.count - first : kDirectRows;
      Rows part;
      part.count = rows;
      for (int r = 0; r < rows; r++) {
        part.q[r] = all.q[first + r];
        part.out[r] = all.out[first + r];
        part.lse[r] = all.lse[first + r];
        part.mask[r] = all.mask[first + r];
        part.low[r] = all.low[first + r];
        part.high[r] = all.high[first + r];
      }
      AttendArgs own = args;
      if (own.partial) own.partial += static_cast<int64_t>(first) * (args.kv.Dv + kPartialExtra);
      switch (rows) {
        case 1:
          attend_few<1>(own, part, st);
          break;
        case 2:
          attend_few<2>(own, part, st);
          break;
        case 3:
          attend_few<3>(own, part, st);
          break;
        default:
          attend_few<4>(own, part, st);
      }
      for (int r = 0; !own.partial && r < rows; r++) all.strange[first + r] = part.strange[r];
    }
  }

  template <int R>
  static void attend_few(const AttendArgs& args, Rows& rows, State& st) {
    const KvHead& kv = args.kv;
    const int D = round_up(kv.D, kParts), Dv = round_up(kv.Dv, kParts);
    const float c = args.scale * kLog2e;
    for (int r = 0; r < R; r++) {
      Ops::load(rows.q[r], kv.dtype, kv.D, st.q[r], round_up(kv.D, kParts));
      __builtin_memset(st.o[r], 0, sizeof st.o[r]);
      st.frame[r] = -__builtin_inff();
      st.l[r] = 0;
    }
    for (int first = args.key_begin; first < args.key_end; first += kTileKeys) {
      const int n = kv.n - first < kTileKeys ? kv.n - first : kTileKeys;
      for (int k = 0; k < n; k += kParts) {
        const int keys = n - k < kParts ? n - k : kParts;
        stream(kv.k, kv.k_stride, kv.dtype, kv.D, first + k, keys, st, [&](auto dtype, Stream rows_of_k) {
          score_step<decltype(dtype)::value, R>(st, rows_of_k, ahead<R>(kv.v, kv.v_stride, kv.dtype, kv.Dv, first + k),
                                                D, keys, k);
        });
      }
      float beta[R];
      for (int r = 0; r < R; r++) {
        for (int k = n; k < kTileKeys; k++) st.s[r][k] = 0;
        fill_bias(args, rows, st, r, first, n);
        beta[r] = softmax(st, r, c, kv.Dv);
        __builtin_memset(st.t[r], 0, static_cast<size_t>(Dv) * 4);
      }
      for (int k = 0; k < n; k += kParts) {
        const int keys = n - k < kParts ? n - k : kParts;
        stream(kv.v, kv.v_stride, kv.dtype, kv.Dv, first + k, keys, st, [&](auto dtype, Stream rows_of_v) {
          value_step<decltype(dtype)::value, R>(
              st, rows_of_v, ahead<R>(kv.k, kv.k_stride, kv.dtype, kv.D, first + kTileKeys + k), Dv, keys, k);
        });
      }
      for (int r = 0; r < R; r++)
        for (int d = 0; d < Dv; d += W)
          T::store(st.o[r] + d,
                   T::fma(T::template load<F>(st.t[r] + d), T::splat(beta[r]), T::template load<F>(st.o[r] + d)));
    }
    const int size = args.out_dtype == CLARY_F32 ? 4 : 2;
    for (int r = 0; r < R; r++) {
      if (args.partial) {
        float* to = args.partial + static_cast<int64_t>(r) * (kv.Dv + kPartialExtra);
        __builtin_memcpy(to, st.o[r], static_cast<size_t>(kv.Dv) * 4);
        to[kv.Dv] = st.l[r] == 0 ? -__builtin_inff() : st.frame[r];
        to[kv.Dv + 1] = st.l[r];
        to[kv.Dv + 2] = 0;
        continue;
      }
      const F inverse = T::splat(st.l[r] == 0 ? 0.0f : 1.0f / st.l[r]);
      F check = {};
      for (int d = 0; d < kv.Dv; d += W) {
        const F o = T::template load<F>(st.o[r] + d) * inverse;
        check = T::fma(o, F{}, check);
        Ops::store(rows.out[r] + d * size, args.out_dtype, o, kv.Dv - d < W ? kv.Dv - d : W);
      }
      bool strange = st.l[r] == 0 && rows.low[r] < rows.high[r];
      for (int i = 0; i < W; i++) strange |= check[i] != 0;
      if (rows.lse[r]) {
        float lse = (st.frame[r] + __builtin_log2f(st.l[r])) * kLn2;
        if (st.l[r] == 0) lse = -__builtin_inff();
        strange |= st.l[r] != 0 && !(__builtin_fabsf(lse) < __builtin_inff());
        __builtin_memcpy(rows.lse[r], &lse, 4);
      }
      rows.strange[r] = strange;
    }
  }
};
