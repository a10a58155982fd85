// SPDX-License-Identifier: MIT
/// A value rounded to another scalar once, to nearest even, as every value is that is read from a
/// checkpoint or folded into a weight.
///
///     rounded<Eigen::bfloat16>(1.00390625000001)    // 1.0078125; by way of float it is 1
///
/// A finite value that would become infinite is an error of the caller's; infinity and NaN that are
/// there already are kept.
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/core/scalar.hpp"
#include "tokennorm/kernels/simd/lanes.hpp"

#include <Eigen/Core>

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
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

/// By the bits where they are known: -ffast-math takes every comparison for one of finite values.
template <class Scalar>
bool is_finite(const Scalar& value) {
  if constexpr (NativeScalar<Scalar>) {
    constexpr auto infinity = std::int64_t{0x7ff} << 52;
    return (kernels::hidden_bits(static_cast<double>(value)) & infinity) != infinity;
  } else {
    const Scalar zero = value - value;  // NaN of infinity
    return zero == zero;
  }
}

/// The value rounded; fail() where it is finite and the result is not.
template <class To, class From, class Fail>
To rounded_or(const From& value, const Fail& fail) {
  const To result = rounded<To>(value);
  if (!is_finite(result) && is_finite(value)) fail();
  return result;
}

/// "1e+06; the largest half is 65504"
template <class To, class From>
[[gnu::cold]] std::string beyond_largest(const From& value) {
  if constexpr (NativeScalar<To>) {
    const char* const name = std::is_same_v<To, double>        ? "double"
                             : std::is_same_v<To, float>       ? "float"
                             : std::is_same_v<To, Eigen::half> ? "half"
                                                               : "bfloat16";
    const auto largest = static_cast<double>(Eigen::NumTraits<To>::highest());
    const auto number = static_cast<double>(value);
    return number_text(number, largest) + "; the largest " + name + " is " +
           number_text(largest, number);
  } else {
    return "beyond the largest number of its scalar";
  }
}

}  // namespace tokennorm::detail
