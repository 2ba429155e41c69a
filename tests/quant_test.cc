// The oracle and formats.h against what they claim: exponentials, rotation, codes, ranges, and agreement of the two levels.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/quant/formats.h"
#include "engine/quant/reference.h"
#include "tests/bounds.h"
#include "tests/compare.h"

namespace clary::test {
namespace {

// Steps as they occur (N(0,1) at D = 64 has 2^-8) and, below them, rows so flat that 16 bits of score span little.
TEST(Formats, ExpU8FollowsExp2ForEveryStep) {
  double squares = 0;
  int64_t count = 0;
  for (double log_step = -22; log_step <= 6; log_step += 0.11) {
    const float step = static_cast<float>(std::exp2(log_step));
    const ExpStep s = exp_step(step);
    double largest = 0;
    for (int32_t d = 0; d <= 65535; d = d < 3000 ? d + 1 : d + d / 61 + 1) {
      const double want = 255 * std::exp2(-static_cast<double>(d) * step);
      const double error = std::fabs(exp_u8(static_cast<uint16_t>(d), s) - want);
      largest = std::max(largest, error);
      if (want > 0.5 && log_step >= -12) squares += error * error, count++;
    }
    EXPECT_LE(largest, log_step >= -12 ? kExp_u8 : kExp_u8_flat) << step;
  }
  EXPECT_LE(std::sqrt(squares / static_cast<double>(count)), kExp_u8_rms);
}

TEST(Formats, ExpU8IsMonotoneAndStartsAt255) {
  for (const float step : {0.0f, 1e-30f, 1e-6f, 3e-4f, 0.01f, 1.0f, 7.7f, 300.0f, 1e30f, INFINITY}) {
    const ExpStep s = exp_step(step);
    int last = 255;
    EXPECT_EQ(exp_u8(0, s), 255) << step;
    for (int d = 1; d <= 65535; d++) {
      const int p = exp_u8(static_cast<uint16_t>(d), s);
      ASSERT_LE(p, last) << "step " << step << " d " << d;
      last = p;
    }
    if (step >= 0.01f) {
      EXPECT_EQ(last, 0) << step;
    }
  }
}

TEST(Formats, Exp2PolynomialKeepsItsBound) {
  for (double y = -126; y <= 61; y += 0.0137) {
    const float x = static_cast<float>(y);
    ASSERT_NEAR(reference::exp2_poly(x) / std::exp2(static_cast<double>(x)), 1, kExp_poly) << y;
  }
  EXPECT_EQ(reference::exp2_poly(0), 1.0f);
  EXPECT_EQ(reference::exp2_poly(-INFINITY), 0.0f);
  EXPECT_TRUE(std::isnan(reference::exp2_poly(NAN)));
}

TEST(Formats, ShiftedScoresFitSixteenBits) {
  for (int D = 1; D <= 256; D++) {
    const int64_t most = int64_t{kQ8Max} * kQ8Max * D;
    EXPECT_LE(most >> score_shift(D), 32767) << D;
    EXPECT_GT(-most >> score_shift(D), -32768) << D;
    if (score_shift(D) > 0) {
      EXPECT_GT(most >> (score_shift(D) - 1), 32767) << D;
    }
  }
  EXPECT_LT(int64_t{kQ12Max} * kQ12Max * 256, int64_t{1} << 31);
  EXPECT_LT(int64_t{kP12Max} * kQ12Max * kTileKeys, int64_t{1} << 31);
}

TEST(Formats, RotationIsOrthogonalForEveryHeadDim) {
  Random random(3);
  for (int D = 1; D <= 256; D++) {
    std::vector<float> a(D), b(D);
    double aa = 0, ab = 0;
    for (int d = 0; d < D; d++) {
      a[d] = static_cast<float>(random.normal()), b[d] = static_cast<float>(random.normal());
      aa += static_cast<double>(a[d]) * a[d], ab += static_cast<double>(a[d]) * b[d];
    }
    reference::rotate(a.data(), D);
    reference::rotate(b.data(), D);
    double raa = 0, rab = 0;
    for (int d = 0; d < D; d++) raa += static_cast<double>(a[d]) * a[d], rab += static_cast<double>(a[d]) * b[d];
    ASSERT_NEAR(raa, aa, kOracle_rotation * aa) << D;
    ASSERT_NEAR(rab, ab, kOracle_rotation * (aa + 1)) << D;
  }
}

TEST(Formats, RotationSpreadsOneChannelEvenly) {
  for (const int D : {2, 8, 64, 128, 256}) {
    std::vector<float> x(D);
    x[D / 3] = 3;
    reference::rotate(x.data(), D);
    for (float y : x) ASSERT_FLOAT_EQ(std::fabs(y), 3 / std::sqrt(static_cast<float>(D))) << D;
  }
}

TEST(Codes, RoundHalfToEvenWithinRange) {
  const float x[] = {127, 2.5f, 3.5f, -2.5f, -3.5f, 0.49f, -127, 0};
  const int16_t want[] = {127, 2, 4, -2, -4, 0, -127, 0};
  int16_t codes[8];
  EXPECT_EQ(reference::encode(x, 8, 1, kQ8Max, codes, 1), 1.0f);
  EXPECT_EQ(std::memcmp(codes, want, sizeof want), 0);
}

TEST(Codes, ScaleTurnsThemBack) {
  Random random(5);
  for (const int max : {kQ8Max, kQ12Max})
    for (const double size : {1e-38, 1e-30, 1.0, 6e4, 1e37}) {
      float x[64];
      int16_t codes[64];
      for (float& y : x) y = static_cast<float>(size * random.normal());
      const float scale = reference::encode(x, 64, 1, max, codes, 1);
      ASSERT_GT(scale, 0);
      for (int i = 0; i < 64; i++) {
        ASSERT_LE(std::abs(codes[i]), max) << size;
        ASSERT_LE(std::fabs(codes[i] * static_cast<double>(scale) - x[i]), kOracle_code * scale) << size;
      }
    }
}

TEST(Codes, NonFiniteValuesGiveANanScale) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const float x[3] = {1, bad, 2};
    int16_t codes[3];
    EXPECT_TRUE(std::isnan(reference::encode(x, 3, 1, kQ8Max, codes, 1)));
  }
}

TEST(Codes, MeanOfEqualKeysLeavesNothing) {
  for (const int64_t keys : {1, 2, 1000, 1024, 1025, 5000}) {
    const std::vector<float> k(keys, 1.5f);
    EXPECT_NEAR(reference::key_mean(k.data(), keys, 1)[0], 1.5f, kOracle_mean) << keys;
  }
}

TEST(Codes, MeanOfTheLargestKeysIsFinite) {
  const std::vector<float> k(5000, 3.4e38f);
  EXPECT_TRUE(std::isfinite(reference::key_mean(k.data(), 5000, 1)[0]));
}

TEST(Elements, NarrowAndWidenAreInverse) {
  for (const int32_t dtype : {CLARY_F16, CLARY_BF16})
    for (uint32_t bits = 0; bits < 65536; bits++) {
      const auto half = static_cast<uint16_t>(bits);
      uint16_t back;
      const float x = reference::widen(&half, dtype);
      reference::narrow(x, dtype, &back);
      if (std::isnan(x)) {
        EXPECT_TRUE(std::isnan(reference::widen(&back, dtype)));
      } else {
        ASSERT_EQ(half, back) << dtype_name(dtype) << " " << x;
      }
    }
}

TEST(Elements, NarrowRoundsHalfToEven) {
  const auto f16 = [](float x) {
    uint16_t h;
    reference::narrow(x, CLARY_F16, &h);
    return h;
  };
  EXPECT_EQ(f16(1 + 0x1p-11f), 0x3c00);      // tie to even, down
  EXPECT_EQ(f16(1 + 3 * 0x1p-11f), 0x3c02);  // tie to even, up
  EXPECT_EQ(f16(std::nextafterf(1 + 0x1p-11f, 2)), 0x3c01);
  EXPECT_EQ(f16(65519.0f), 0x7bff);
  EXPECT_EQ(f16(65520.0f), 0x7c00);
  EXPECT_EQ(f16(0x1p-25f), 0);  // half of the smallest, tie to 0
  EXPECT_EQ(f16(std::nextafterf(0x1p-25f, 1)), 1);
  uint16_t b;
  reference::narrow(1 + 0x1p-8f, CLARY_BF16, &b);
  EXPECT_EQ(b, 0x3f80);
}

// exact() against sums written out by hand.
TEST(Exact, TwoKeysByHand) {
  Instance instance({.Lq = 1, .Lk = 2, .D = 1, .Dv = 1, .scale = 1});
  instance.q.set(0, 0, 0, 0, 2);
  instance.k.set(0, 0, 0, 0, 1), instance.k.set(0, 0, 1, 0, 3);
  instance.v.set(0, 0, 0, 0, 10), instance.v.set(0, 0, 1, 0, 20);
  const reference::Exact e = reference::exact(instance.problem());
  EXPECT_NEAR(e.out[0], (10 * std::exp(2.0) + 20 * std::exp(6.0)) / (std::exp(2.0) + std::exp(6.0)), kOracle_by_hand);
  EXPECT_NEAR(e.lse[0], std::log(std::exp(2.0) + std::exp(6.0)), kOracle_by_hand);
}

// Which keys a query sees, as a picture: rows are queries, x = visible.
std::string picture(const Case& c) {
  Instance instance(c);
  const Problem p = instance.problem();
  std::string s;
  for (const reference::Sequence& sequence : reference::sequences(p))
    for (int64_t i = 0; i < sequence.rows; i++, s += "/")
      for (int64_t j = 0; j < c.Lk; j++) s += reference::visible(p, sequence, 0, i, j) ? 'x' : '.';
  return s;
}

TEST(Visible, Pictures) {
  Case c{.Lq = 2, .Lk = 4};
  EXPECT_EQ(picture(c), "xxxx/xxxx/");
  c.causal = CLARY_CAUSAL_UPPER_LEFT;
  EXPECT_EQ(picture(c), "x.../xx../");
  c.causal = CLARY_CAUSAL_LOWER_RIGHT;
  EXPECT_EQ(picture(c), "xxx./xxxx/");
  c.kv_lens = {3};
  EXPECT_EQ(picture(c), "xx../xxx./");
  c.kv_lens = {1};
  EXPECT_EQ(picture(c), "..../x.../");
  c = {.Lq = 4, .Lk = 4, .window = true, .window_left = 1, .window_right = 0};
  EXPECT_EQ(picture(c), "x.../xx../.xx./..xx/");
  c.window_right = -1;
  EXPECT_EQ(picture(c), "xxxx/xxxx/.xxx/..xx/");
  c = {.Lq = 2, .Lk = 5, .causal = CLARY_CAUSAL_LOWER_RIGHT, .window = true, .window_left = 1, .window_right = 0};
  EXPECT_EQ(picture(c), "..xx./...xx/");
  c = {.Lq = 4, .Lk = 2, .causal = CLARY_CAUSAL_LOWER_RIGHT};
  EXPECT_EQ(picture(c), "../../x./xx/");
}

// The quantised level is the exact one with a small error, whatever the shape.
TEST(Quantised, StaysCloseToExact) {
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_HIGH})
    for (const int64_t D : {1, 3, 16, 64, 80, 128, 256}) {
      const Case c{.seed = static_cast<uint64_t>(D),
                   .Hq = 2,
                   .Hkv = 1,
                   .Lq = 40,
                   .Lk = 300,
                   .D = D,
                   .Dv = 48,
                   .accuracy = accuracy};
      Instance instance(c);
      const Problem p = instance.problem();
      const reference::Exact e = reference::exact(p);
      const auto q = reference::quantised(p, accuracy == CLARY_HIGH ? Arithmetic::kInt16 : Arithmetic::kInt8, e);
      EXPECT_LE(relative_l2(q.out, e.out), bound(accuracy, "short")) << text(c);
    }
}

TEST(Quantised, IntegersStayInRange) {
  for (const Arithmetic a : {Arithmetic::kInt8, Arithmetic::kInt16}) {
    const int code = a == Arithmetic::kInt8 ? kQ8Max : kQ12Max, most = a == Arithmetic::kInt8 ? kP8Max : kP12Max;
    Instance instance({.Lq = 9, .Lk = 200, .D = 72, .Dv = 40, .data = Data::kOutlier});
    const Problem p = instance.problem();
    const auto q = reference::quantised(p, a, reference::exact(p), true);
    ASSERT_EQ(q.heads.size(), 1u);
    ASSERT_EQ(q.heads[0].tiles.size(), 2u);
    for (const auto* codes : {&q.heads[0].q, &q.heads[0].k, &q.heads[0].v})
      for (int16_t x : *codes) ASSERT_LE(std::abs(x), code);
    for (const reference::Tile& tile : q.heads[0].tiles)
      for (int64_t i = 0; i < 9; i++) {
        int32_t top = 0;
        for (int32_t j = 0; j < tile.keys; j++) {
          ASSERT_GE(tile.p[i * tile.keys + j], 0);
          top = std::max(top, tile.p[i * tile.keys + j]);
        }
        EXPECT_EQ(top, most);  // the tile's own maximum
      }
  }
}

// Splitting the keys changes rounding only.
TEST(Quantised, SplitsCombine) {
  Instance instance({.Lq = 3, .Lk = 700, .D = 32, .Dv = 16, .data = Data::kSink});
  const Problem p = instance.problem();
  const reference::Exact e = reference::exact(p);
  const auto whole = reference::quantised(p, Arithmetic::kInt8, e),
             split = reference::quantised(p, Arithmetic::kInt8, e, false, {256});
  for (size_t i = 0; i < whole.out.size(); i++) EXPECT_NEAR(whole.out[i], split.out[i], kOracle_split);
  for (size_t i = 0; i < whole.lse.size(); i++) EXPECT_NEAR(whole.lse[i], split.lse[i], kOracle_split_lse);
}

TEST(Quantised, ANegativeScaleTurnsScoresRound) {
  Instance instance({.Lq = 4, .Lk = 150, .D = 32, .Dv = 8, .scale = -0.2f});
  const Problem p = instance.problem();
  const reference::Exact e = reference::exact(p);
  EXPECT_LE(relative_l2(reference::quantised(p, Arithmetic::kInt8, e).out, e.out), bound(CLARY_STANDARD, "short"));
}

}  // namespace
}  // namespace clary::test
