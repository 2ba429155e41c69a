// Judging a result: bit for bit against the quantised oracle where the arithmetic is integer, within f32's rounding of f64
// attention elsewhere, and the rules about values that are not finite everywhere. Tolerances come from numerics.def.
#pragma once
#include <map>
#include <string>

#include "engine/quant/reference.h"
#include "tests/support.h"

namespace clary::test {

class Judge {
 public:
  explicit Judge(const Instance& instance);
  // "" if the result is right, else the first fault with the numbers.
  std::string operator()(const Result& result);

  const reference::Exact& exact() const { return exact_; }
  // As `plan` splits the keys.
  const reference::Quantised& quantised(const Plan& plan, Arithmetic arithmetic);

 private:
  std::string row_fault(const Result& result, size_t row, Arithmetic a, const reference::Quantised* q) const;
  std::string f32_fault(const Result& result, size_t row, double p_error) const;
  std::string lse_fault(double got, double want, double tolerance) const;
  const Case& c_;
  const Problem problem_;
  const reference::Exact exact_;
  std::map<Arithmetic, reference::Quantised> quantised_;
  const std::vector<reference::Sequence> sequences_;
};

// Builds, runs on every usable target, in the arithmetic of the plan or in `arithmetic` ("int8"), and judges. "" or the first
// fault, with the target and the case's line.
std::string check(const Case& c, const char* arithmetic = nullptr);

double relative_l2(const std::vector<float>& x, const std::vector<double>& truth);
double largest_difference(const std::vector<float>& x, const std::vector<double>& truth);
// numerics.def
double bound(int32_t accuracy, const char* data);
double gpu_bound(int32_t accuracy, const char* data);  // the same on a GPU
double lse_bound(int32_t accuracy, const char* data);
double rounding(int32_t dtype);

}  // namespace clary::test
