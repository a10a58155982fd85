// SPDX-License-Identifier: MIT
// Errors in units of a bound's own scale, and the worst of them with where it was met.
#pragma once

#include "scalars.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <iomanip>
#include <iostream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>

namespace tokennorm::test {

/// By how many times `size` a result is wrong. A NaN counts as infinitely wrong.
inline long double units_of_error(long double actual, long double expected, long double size) {
  if (actual == expected) return 0;
  const long double units = std::fabs(actual - expected) / size;
  return std::isnan(units) ? std::numeric_limits<long double>::infinity() : units;
}

/// How far from `expected` the accumulator's result must at least have been, to become `actual`:
/// for half and bfloat16 what their one rounding does not explain, else the whole error. A
/// subnormal bfloat16 may have become zero. A NaN is infinitely wrong.
template <class Scalar>
long double error_before_rounding(const Scalar& actual, long double expected) {
  const long double value = to_exact(actual);
  if (value == expected) return 0;
  if constexpr (!std::is_same_v<Scalar, AccumOf<Scalar>>) {
    if (rounded_to<Scalar>(expected) == value) return 0;
    if (std::is_same_v<Scalar, Eigen::bfloat16> && value == 0 &&
        std::fabs(expected) < smallest_normal<Scalar>())
      return 0;
    if (std::isfinite(value)) {
      const int exponent = value == 0 ? std::numeric_limits<int>::min() : std::ilogb(value);
      const int last_bit = std::max(exponent, ScalarFacts<Scalar>::smallest_exponent) -
                           ScalarFacts<Scalar>::significant_bits + 1;
      return std::fmax(0.0L, std::fabs(value - expected) - std::ldexp(0.5L, last_bit));
    }
  }
  const long double error = std::fabs(value - expected);
  return std::isnan(error) ? std::numeric_limits<long double>::infinity() : error;
}

/// Whether `actual` is the rounding of something within `bound` of `expected`.
template <class Scalar>
bool rounds_from(const Scalar& actual, long double expected, long double bound) {
  const long double value = to_exact(actual);
  if (rounded_to<Scalar>(expected - bound) <= value &&
      value <= rounded_to<Scalar>(expected + bound))
    return true;
  return std::is_same_v<Scalar, Eigen::bfloat16> && value == 0 &&
         std::fabs(expected) - bound < smallest_normal<Scalar>();
}

/// Expectations by the thousand: only the first few failures are printed, then their number.
class ManyExpectations {
 public:
  ManyExpectations() = default;
  ManyExpectations(const ManyExpectations&) = delete;
  ManyExpectations& operator=(const ManyExpectations&) = delete;
  ~ManyExpectations() {
    if (failures_ > printed) ADD_FAILURE() << failures_ - printed << " more failures like these";
  }

  /// `describe()` gives the text of a failure.
  template <class Describe>
  void expect(bool condition, const Describe& describe) {
    if (!condition && ++failures_ <= printed) ADD_FAILURE() << describe();
  }

 private:
  static constexpr int printed = 5;
  int failures_ = 0;
};

class WorstCase {
 public:
  void see(long double units, Index channels, double epsilon, std::string_view row) {
    if (!(units > units_)) return;
    units_ = units;
    std::ostringstream where;
    where << "C = " << channels << ", epsilon = " << epsilon << ", row \"" << row << '"';
    where_ = where.str();
  }
  long double units() const { return units_; }

  /// One line for the accuracy table.
  void report(const std::string& what) const {
    std::ostringstream line;
    line << std::fixed << std::setprecision(3) << units_ << " units at " << where_;
    std::cout << "[ accuracy ] " << what << ": " << line.str() << std::endl;
    ::testing::Test::RecordProperty("worst", line.str());
  }
  friend std::ostream& operator<<(std::ostream& out, const WorstCase& worst) {
    return out << "worst at " << worst.where_;
  }

 private:
  long double units_ = -1;
  std::string where_;
};

}  // namespace tokennorm::test
