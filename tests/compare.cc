// The rules of compare.h.
#include "tests/compare.h"

#include <cmath>
#include <cstring>

#include "tests/bounds.h"

namespace clary::test {
namespace {

struct Bound {
  const char *accuracy, *data;
  double bound;
};
#define CLARY_ORACLE_BOUND(arithmetic, bound)
#define CLARY_ROUNDING(dtype, bound)
#define CLARY_FLOOR(dtype, bound)
#define CLARY_F32(what, factor)
#define CLARY_BF16(what, bound)
#define CLARY_EXP(what, bound)
#define CLARY_GPU_BOUND(accuracy, data, bound)
#define CLARY_GPU_LSE_BOUND(accuracy, data, bound)
#define CLARY_GPU(what, bound)
#define CLARY_MODEL(accuracy, bound)
#define CLARY_PSNR(accuracy, of, bound)
#define CLARY_ORACLE(what, bound)
#define CLARY_LSE_BOUND(accuracy, data, bound)
#define CLARY_BOUND(accuracy, data, bound) {#accuracy, #data, bound},
constexpr Bound kBounds[] = {
#include "tests/numerics.def"
};
#undef CLARY_BOUND
#undef CLARY_LSE_BOUND
#define CLARY_BOUND(accuracy, data, bound)
#define CLARY_LSE_BOUND(accuracy, data, bound) {#accuracy, #data, bound},
constexpr Bound kLseBounds[] = {
#include "tests/numerics.def"
};
#undef CLARY_LSE_BOUND
#undef CLARY_GPU_BOUND
#define CLARY_LSE_BOUND(accuracy, data, bound)
#define CLARY_GPU_BOUND(accuracy, data, bound) {#accuracy, #data, bound},
constexpr Bound kGpuBounds[] = {
#include "tests/numerics.def"
};

static_assert(kOracleBound_int8 == 0 && kOracleBound_int16 == 0, "integer arithmetics are compared bit for bit below");
constexpr double kUnit = 0x1p-24;

double find(const Bound* first, size_t count, int32_t accuracy, const char* data) {
  for (size_t i = 0; i < count; i++)
    if (std::strcmp(first[i].accuracy, accuracy_name(accuracy)) == 0 && std::strcmp(first[i].data, data) == 0)
      return first[i].bound;
  return 0;
}

std::string format(const char* pattern, double a, double b, double c) {
  char line[160];
  std::snprintf(line, sizeof line, pattern, a, b, c);
  return line;
}

float rounded(float x, int32_t dtype) {
  char bytes[4];
  reference::narrow(x, dtype, bytes);
  return reference::widen(bytes, dtype);
}

double floor_of(int32_t dtype) {
  return dtype == CLARY_F16 ? kFloor_f16 : dtype == CLARY_BF16 ? kFloor_bf16 : kFloor_f32;
}

bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

}  // namespace

double bound(int32_t accuracy, const char* data) { return find(kBounds, std::size(kBounds), accuracy, data); }
double gpu_bound(int32_t accuracy, const char* data) { return find(kGpuBounds, std::size(kGpuBounds), accuracy, data); }
double lse_bound(int32_t accuracy, const char* data) { return find(kLseBounds, std::size(kLseBounds), accuracy, data); }
double rounding(int32_t dtype) {
  return dtype == CLARY_F16 ? kRounding_f16 : dtype == CLARY_BF16 ? kRounding_bf16 : kRounding_f32;
}

double relative_l2(const std::vector<float>& x, const std::vector<double>& truth) {
  double error = 0, size = 0;
  for (size_t i = 0; i < truth.size(); i++) {
    error += std::pow(x[i] - truth[i], 2);
    size += std::pow(truth[i], 2);
  }
  return size == 0 ? std::sqrt(error) : std::sqrt(error / size);
}
double largest_difference(const std::vector<float>& x, const std::vector<double>& truth) {
  double largest = 0;
  for (size_t i = 0; i < truth.size(); i++) {
    const double difference = std::fabs(x[i] - truth[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

Judge::Judge(const Instance& instance)
    : c_(instance.c),
      problem_(instance.problem()),
      exact_(reference::exact(problem_)),
      sequences_(reference::sequences(problem_)) {}

const reference::Quantised& Judge::quantised(const Plan& plan, Arithmetic a) {
  const auto found = quantised_.find(a);
  if (found != quantised_.end()) return found->second;
  std::vector<int64_t> split_keys;
  for (const reference::Sequence& s : sequences_) {
    const SequencePlan sp = plan_sequence(problem_, plan, s.rows, s.keys);
    split_keys.push_back(sp.splits > 1 ? sp.split_keys : 0);
  }
  return quantised_.emplace(a, reference::quantised(problem_, a, exact_, false, split_keys)).first->second;
}

std::string Judge::lse_fault(double got, double want, double tolerance) const {
  if (std::isnan(want) || want == INFINITY)
    return std::isfinite(got) ? format("lse is %g, should be %g", got, want, 0) : "";
  if (std::fabs(want) > 3.4e38 && std::isfinite(want)) {  // finite inputs stay finite: the largest float stands for it
    if (std::fabs(got) > 3.4e38 && std::isfinite(got) && (got > 0) == (want > 0)) return "";
  } else if (got == want || std::fabs(got - want) <= tolerance) {
    return "";
  }
  return format("lse is %.9g, should be %.9g +- %.2g", got, want, tolerance);
}

// Rounding of f32 arithmetic against f64, with the size of the row's summands known. `p_error`: P's own rounding.
std::string Judge::f32_fault(const Result& r, size_t row, double p_error) const {
  const double score = kF32_score * kUnit * (c_.D + 8) * exact_.reach[row];
  const bool decided = score < 0.25;  // else rounding alone may move the maximum: only the size is known
  const double weights = std::expm1(2 * score) + kF32_weight * kUnit + p_error;
  for (int64_t d = 0; d < c_.Dv; d++) {
    const double got = r.out[row * c_.Dv + d], want = exact_.out[row * c_.Dv + d], size = exact_.v_size[row];
    const double smallest = floor_of(c_.out_dtype);
    const double error = weights * size,
                 tolerance = error + rounding(c_.out_dtype) * (std::fabs(want) + error) + smallest;
    const double limit = size * (1 + kF32_weight * kUnit + p_error) * (1 + rounding(c_.out_dtype)) + smallest;
    const double most = c_.out_dtype == CLARY_F16 ? 65504 : 3.4e38;
    if (!std::isfinite(got) && std::fabs(want) > 0.999 * most) continue;
    if (decided ? !(std::fabs(got - want) <= tolerance) : !(std::fabs(got) <= limit))
      return "out[" + std::to_string(d) + "]" +
             format(" is %.9g, f64 is %.9g, tolerance %.2g", got, want, decided ? tolerance : limit);
  }
  // Summands near f32's largest: a partial sum may leave its range, so only that the result is finite is promised.
  if (exact_.reach[row] / std::fmin(1, std::fabs(problem_.scale)) > kF32_range) {
    const bool finite = r.lse.empty() || std::isfinite(r.lse[row]) || !std::isfinite(exact_.lse[row]);
    return finite ? "" : format("lse is %g, f64 is %g", r.lse[row], exact_.lse[row], 0);
  }
  if (!r.lse.empty())
    return lse_fault(r.lse[row], exact_.lse[row],
                     score + p_error + kF32_lse * kUnit * (1 + std::fabs(exact_.lse[row]) + exact_.reach[row]));
  return "";
}

std::string Judge::row_fault(const Result& r, size_t row, Arithmetic a, const reference::Quantised* q) const {
  if (!exact_.finite[row]) {  // what is seen is not hidden
    for (int64_t d = 0; d < c_.Dv; d++)
      if (!std::isfinite(exact_.out[row * c_.Dv + d]) && std::isfinite(r.out[row * c_.Dv + d]))
        return "out[" + std::to_string(d) + "]" +
               format(" is %g, hides a visible value that is not finite", r.out[row * c_.Dv + d], 0, 0);
    return "";
  }
  if (!q || q->recomputed[row]) return f32_fault(r, row, a == Arithmetic::kBf16 ? kBf16_weight : 0);
  // Rows that the engine may have recomputed in f64: codes that are not finite spoil rows that do not see them, and an lse
  // beyond f32 or an out beyond its dtype spoils its own.
  bool perhaps = c_.poison != Poison::kNone || q->lse_reach[row] > 1e37;
  for (int64_t d = 0; d < c_.Dv; d++) perhaps = perhaps || !std::isfinite(r.out[row * c_.Dv + d]);
  for (int64_t d = 0; d < c_.Dv; d++) {
    const float got = r.out[row * c_.Dv + d], want = rounded(q->out[row * c_.Dv + d], c_.out_dtype);
    if (!same(got, want)) {
      if (perhaps && f32_fault(r, row, 0).empty()) return "";
      return "out[" + std::to_string(d) + "]" +
             format(" is %.9g, the quantised oracle %.9g, f64 %.9g", got, want, exact_.out[row * c_.Dv + d]);
    }
  }
  if (r.lse.empty() || (perhaps && f32_fault(r, row, 0).empty())) return "";
  return lse_fault(r.lse[row], q->lse[row], kF32_lse * kUnit * (1 + c_.D / 16) * (1 + q->lse_reach[row]));
}

std::string Judge::operator()(const Result& r) {
  if (r.status != CLARY_OK) return "failed: " + r.error;
  if (!r.damage.empty()) return r.damage;
  for (const reference::Sequence& s : sequences_) {
    const Arithmetic a = plan_sequence(problem_, r.plan, s.rows, s.keys).arithmetic;
    const bool integer = a == Arithmetic::kInt8 || a == Arithmetic::kInt16;
    for (int64_t h = 0; h < c_.Hq; h++)
      for (int64_t i = 0; i < s.rows; i++) {
        const int64_t token = s.q_begin + i;
        const size_t row = static_cast<size_t>((s.b * c_.Hq + h) * c_.Lq + token);
        const std::string fault = row_fault(r, row, a, integer ? &quantised(r.plan, a) : nullptr);
        if (!fault.empty())
          return "[" + std::to_string(s.b) + ", " + std::to_string(h) + ", " + std::to_string(token) + "] " + fault +
                 " (" + arithmetic_name(a) + ")";
      }
  }
  return "";
}

std::string check(const Case& c, const char* arithmetic) {
  Instance instance(c);
  Judge judge(instance);
  for (const cpu::Target* target : usable_targets()) {
    std::string name = target->name;
    if (arithmetic) name += std::string(":") + arithmetic;
    const std::string fault = judge(instance.run(name.c_str()));
    if (!fault.empty()) return name + ": " + fault + "\n  " + text(c);
  }
  return "";
}

}  // namespace clary::test
