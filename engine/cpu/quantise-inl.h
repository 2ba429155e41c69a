// K and V into codes, a chunk of kChunkKeys keys at a time: the prologue of kInt8 and kInt16 (quant/formats.h).

template <class T>
struct Quantise {
  using F = typename T::F;
  using I = typename T::I;
  using Ops = RowOps<T>;
  static constexpr int W = T::W;

  static void sum_keys(const KvHead& kv, int chunk) {
    const int padded = round_up(kv.D, 16), size = kv.dtype == CLARY_F32 ? 4 : 2;
    const int first = chunk * kChunkKeys, last = first + kChunkKeys < kv.n ? first + kChunkKeys : kv.n;
    alignas(64) float rows[4][kMaxHeadDim], sum[kMaxHeadDim] = {};
    for (int i = first; i < last; i += 4) {
      const int count = last - i < 4 ? last - i : 4;
      for (int r = 0; r < count; r++) Ops::load(kv.k + (i + r) * kv.k_stride * size, kv.dtype, kv.D, rows[r], padded);
      for (int d = 0; d < padded; d += W) {
        F s = T::template load<F>(sum + d);
        for (int r = 0; r < count; r++) s = T::fma(T::template load<F>(rows[r] + d), T::splat(kMeanUnit), s);
        T::store(sum + d, s);
      }
    }
    __builtin_memcpy(kv.sums + static_cast<int64_t>(chunk) * kv.D, sum, sizeof(float) * static_cast<size_t>(kv.D));
  }

  static void mean_of(const KvHead& kv, float* mean) {  // [round_up(D, 16)], zero-filled
    const int padded = round_up(kv.D, 16), chunks = chunks_of(kv.n);
    const float unit = 4294967296.0f / static_cast<float>(kv.n);
    for (int d = 0; d < padded; d++) {
      float s = 0;
      for (int c = 0; d < kv.D && c < chunks; c++) s += kv.sums[static_cast<int64_t>(c) * kv.D + d];
      mean[d] = s * unit;
    }
  }

  template <class Code>
  static void keys(const KvHead& kv, int tile, const float* mean, float* x) {
    constexpr int kMax = sizeof(Code) == 1 ? kQ8Max : kQ12Max;
    constexpr int kFlip = sizeof(Code) == 1 && T::kKeyBias ? 0x80 : 0;
    const int padded = round_up(kv.D, 16), width = code_dim(kv.D), size = kv.dtype == CLARY_F32 ? 4 : 2;
    const int first = tile * kTileKeys, n = kv.n - first < kTileKeys ? kv.n - first : kTileKeys;
    I m = {};
    for (int i = 0; i < n; i++) {
      float* row = x + i * padded;
      Ops::load(kv.k + (first + i) * kv.k_stride * size, kv.dtype, kv.D, row, padded);
      for (int d = 0; d < padded; d += W)
        T::store(row + d, T::template load<F>(row + d) - T::template load<F>(mean + d));
      Ops::rotate(row, kv.D);
      m = Ops::max_bits(row, padded, m);
    }
    const typename Ops::Scale s = Ops::scale_of(Ops::reduce(m), kMax);
    kv.k_scale[tile] = s.scale;
    char* to = kv.k_codes + static_cast<int64_t>(first) * width * sizeof(Code);
    for (int i = 0; i < n; i++)
      Ops::template store_codes<Code>(x + i * padded, s.inverse, width, to + i * width * sizeof(Code), kFlip);
    for (int i = n; i < round_up(n, 8); i++)
      __builtin_memset(to + i * width * sizeof(Code), kFlip, width * sizeof(Code));
  }

  template <class Code>
  static void values(const KvHead& kv, int tile, float* x) {
    constexpr int kMax = sizeof(Code) == 1 ? kQ8Max : kQ12Max;
    constexpr int kKeys = sizeof(Code) == 1 && T::kDot8 ? 4 : 2;  // keys in a cell
    constexpr int kCell = kKeys * sizeof(Code);
    constexpr int kFlip = sizeof(Code) == 1 && T::kValueBias ? 0x80 : 0;
    const int padded = round_up(kv.Dv, 16), width = code_dim(kv.Dv), size = kv.dtype == CLARY_F32 ? 4 : 2;
    const int first = tile * kTileKeys, n = kv.n - first < kTileKeys ? kv.n - first : kTileKeys, rows = round_up(n, 8);
    for (int i = 0; i < n; i++)
      Ops::load(kv.v + (first + i) * kv.v_stride * size, kv.dtype, kv.Dv, x + i * padded, padded);
    for (int i = n; i < rows; i++) __builtin_memset(x + i * padded, 0, sizeof(float) * static_cast<size_t>(padded));
    char* to = kv.v_codes + static_cast<int64_t>(first) * width * sizeof(Code);
    float* scales = kv.v_scale + static_cast<int64_t>(tile) * width;
    alignas(64) float inverse[W], scale[W];
    for (int d = 0; d < width; d += W) {
      I m = {};
      for (int i = 0; i < n; i++) m = T::max(m, T::abs_bits(T::template load<F>(x + i * padded + d)));
      for (int j = 0; j < W; j++) {
        const typename Ops::Scale s = Ops::scale_of(static_cast<uint32_t>(m[j]), kMax);
        inverse[j] = s.inverse;
        scale[j] = s.scale;
      }
      const int count = width - d < W ? width - d : W;
      __builtin_memcpy(scales + d, scale, sizeof(float) * static_cast<size_t>(count));
      const F inv = T::template load<F>(inverse);
      for (int i = 0; i < rows; i += kKeys) {
        I cell = {};
        CLARY_FOR (k, kKeys) {
          const I code = T::rint(T::template load<F>(x + (i + k) * padded + d) * inv) ^ kFlip;
          cell |= (code & (sizeof(Code) == 1 ? 0xff : 0xffff)) << (8 * static_cast<int>(sizeof(Code)) * k);
        }
        char* at = to + (static_cast<int64_t>(i / kKeys) * width + d) * kCell;
        if constexpr (kCell == 4) {
          if (count == W)
            T::store(at, cell);
          else
            __builtin_memcpy(at, &cell, static_cast<size_t>(count) * 4);
        } else {
          const typename T::HalfU half = T::narrow_half(cell);
          if (count == W)
            T::store(at, half);
          else
            __builtin_memcpy(at, &half, static_cast<size_t>(count) * 2);
        }
      }
    }
    if constexpr (sizeof(Code) == 1) T::finish_values(to, rows / 4, width, reinterpret_cast<char*>(x));
  }

  static int64_t scratch_bytes(int D, int Dv) {
    return static_cast<int64_t>(kTileKeys) * round_up(D > Dv ? D : Dv, 16) * 4 + 64;
  }

  static void quantise(const KvHead& kv, int chunk, Arithmetic a, char* scratch) {
    alignas(64) float mean[kMaxHeadDim];
    mean_of(kv, mean);
    if (chunk == 0) __builtin_memcpy(kv.mean, mean, sizeof(float) * static_cast<size_t>(kv.D));
    float* x = reinterpret_cast<float*>(scratch);
    constexpr int kTiles = kChunkKeys / kTileKeys;
    for (int tile = chunk * kTiles; tile < (chunk + 1) * kTiles && tile * kTileKeys < kv.n; tile++) {
      if (a == Arithmetic::kInt8) {
        keys<int8_t>(kv, tile, mean, x);
        values<int8_t>(kv, tile, x);
      } else {
        keys<int16_t>(kv, tile, mean, x);
        values<int16_t>(kv, tile, x);
      }
    }
  }
};
