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

/// Whether `actual`, a value of Scalar, is the rounding of something within `bound` of `expected`.
/// A subnormal bfloat16 may have become zero.
template <class Scalar>
bool rounds_from(long double actual, long double expected, long double bound) {
  const long double low = rounded_to<Scalar>(expected - bound);
  const long double high = rounded_to<Scalar>(expected + bound);
  if (low <= actual && actual <= high) return true;
  if constexpr (std::is_same_v<Scalar, Eigen::bfloat16>)
    return actual == 0 && std::fmin(std::fabs(low), std::fabs(high)) < smallest_normal<Scalar>();
  return false;
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
