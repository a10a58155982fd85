// SPDX-License-Identifier: MIT
/// A value rounded to another scalar once, to nearest even, as every value is that is read from a
/// checkpoint or folded into a weight.
///
///     rounded<Eigen::bfloat16>(1.00390625000001)    // 1.0078125; by way of float it is 1
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace tokennorm::detail {

/// `value` as a float whose last bit is odd where it is not exact: rounded further to fewer bits,
/// it goes where `value` would.
inline float rounded_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  if (back == value || value != value) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(back) > std::fabs(value)) --bits;  // the neighbour towards zero
  return std::bit_cast<float>(bits | 1U);
}

/// To nearest even, once. (Eigen goes from double to 16 bits through float, and rounds twice.)
template <class To, class From>
To rounded(From value) {
  if constexpr (std::is_same_v<From, double> && sizeof(To) == 2) {
    return static_cast<To>(rounded_to_odd(value));
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace tokennorm::detail
