// SPDX-License-Identifier: MIT
// Errors in units of a bound's own scale, and the worst of them with where it was met.
#pragma once

#include "scalars.hpp"

#include <gtest/gtest.h>

#include <algorithm>
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
inline long double error_before_rounding(const Format& format, long double actual,
                                         long double expected) {
  if (actual == expected) return 0;
  const bool was_rounded = format.significant_bits < 24;
  if (was_rounded && std::isinf(actual) && rounded_to(format, expected) == actual) return 0;
  if (was_rounded && std::isfinite(actual)) {
    const bool may_flush = format.significant_bits == 8;
    if (may_flush && actual == 0) {  // of anything below the smallest normal number
      return std::max(0.0L, std::fabs(expected) - format.smallest_normal);
    }
    const int exponent =
        actual == 0 ? format.smallest_exponent
                    : std::max(std::ilogb(static_cast<float>(actual)), format.smallest_exponent);
    const long double half_a_step = std::ldexp(0.5L, exponent - format.significant_bits + 1);
    return std::max(0.0L, std::fabs(actual - expected) - half_a_step);
  }
  const long double error = std::fabs(actual - expected);
  return std::isnan(error) ? std::numeric_limits<long double>::infinity() : error;
}

/// Whether `actual` is the rounding of something within `bound` of `expected`.
inline bool rounds_from(const Format& format, long double actual, long double expected,
                        long double bound) {
  if (std::isinf(actual))
    return actual == rounded_to(format, expected + std::copysign(bound, actual));
  return error_before_rounding(format, actual, expected) <= bound;
}

template <class Scalar>
bool rounds_from(const Scalar& actual, long double expected, long double bound) {
  return rounds_from(format_of<Scalar>(), to_exact(actual), expected, bound);
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
