// numerics.def as constants: kRounding_f16, kF32_score, kExp_u8, kGpu_scale, kOracle_code and so on. The tables of bounds are in compare.cc.
#pragma once

#define CLARY_BOUND(accuracy, data, bound)
#define CLARY_LSE_BOUND(accuracy, data, bound)
#define CLARY_ORACLE_BOUND(arithmetic, bound) [[maybe_unused]] constexpr double kOracleBound_##arithmetic = bound;
#define CLARY_ROUNDING(dtype, bound) [[maybe_unused]] constexpr double kRounding_##dtype = bound;
#define CLARY_FLOOR(dtype, bound) [[maybe_unused]] constexpr double kFloor_##dtype = bound;
#define CLARY_F32(what, factor) [[maybe_unused]] constexpr double kF32_##what = factor;
#define CLARY_BF16(what, bound) [[maybe_unused]] constexpr double kBf16_##what = bound;
#define CLARY_EXP(what, bound) [[maybe_unused]] constexpr double kExp_##what = bound;
#define CLARY_GPU_BOUND(accuracy, data, bound)
#define CLARY_GPU_LSE_BOUND(accuracy, data, bound)
#define CLARY_GPU(what, bound) [[maybe_unused]] constexpr double kGpu_##what = bound;
#define CLARY_MODEL(accuracy, bound)
#define CLARY_PSNR(accuracy, of, bound)
#define CLARY_ORACLE(what, bound) [[maybe_unused]] constexpr double kOracle_##what = bound;

namespace clary::test {
#include "tests/numerics.def"
}  // namespace clary::test

#undef CLARY_BOUND
#undef CLARY_LSE_BOUND
#undef CLARY_ORACLE_BOUND
#undef CLARY_ROUNDING
#undef CLARY_FLOOR
#undef CLARY_F32
#undef CLARY_BF16
#undef CLARY_EXP
#undef CLARY_GPU_BOUND
#undef CLARY_GPU_LSE_BOUND
#undef CLARY_GPU
#undef CLARY_MODEL
#undef CLARY_PSNR
#undef CLARY_ORACLE
