// SPDX-License-Identifier: MIT
// What the tests know about each scalar type, from its definition and not from the library.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

namespace tokennorm::test {

using Index = Eigen::Index;

/// Precision and range of a binary floating-point format, and the type its arithmetic runs in.
template <class Scalar>
struct ScalarFacts {
  using Accum = Scalar;
  static constexpr int significant_bits = std::numeric_limits<Scalar>::digits;
  static constexpr int smallest_exponent = std::numeric_limits<Scalar>::min_exponent - 1;
  static constexpr int largest_exponent = std::numeric_limits<Scalar>::max_exponent - 1;
};

template <>
struct ScalarFacts<Eigen::half> {
  using Accum = float;
  static constexpr int significant_bits = 11;
  static constexpr int smallest_exponent = -14;
  static constexpr int largest_exponent = 15;
};

template <>
struct ScalarFacts<Eigen::bfloat16> {
  using Accum = float;
  static constexpr int significant_bits = 8;
  static constexpr int smallest_exponent = -126;
  static constexpr int largest_exponent = 127;
};

/// Statistics and arithmetic run in this type: double for double, float for float, half, bfloat16.
template <class Scalar>
using AccumOf = typename ScalarFacts<Scalar>::Accum;

template <class Scalar>
inline std::string scalar_name() {
  if constexpr (std::is_same_v<Scalar, float>) return "float";
  if constexpr (std::is_same_v<Scalar, double>) return "double";
  if constexpr (std::is_same_v<Scalar, long double>) return "long_double";
  if constexpr (std::is_same_v<Scalar, Eigen::half>) return "half";
  if constexpr (std::is_same_v<Scalar, Eigen::bfloat16>) return "bfloat16";
}

/// 2⁻²⁴ where arithmetic runs in float, 2⁻⁵³ where it runs in double: the unit of every bound.
template <class Scalar>
long double unit() {
  return std::ldexp(1.0L, -ScalarFacts<AccumOf<Scalar>>::significant_bits);
}

template <class Scalar>
long double largest() {
  using Facts = ScalarFacts<Scalar>;
  return std::ldexp(2.0L - std::ldexp(1.0L, 1 - Facts::significant_bits), Facts::largest_exponent);
}

template <class Scalar>
long double smallest_normal() {
  return std::ldexp(1.0L, ScalarFacts<Scalar>::smallest_exponent);
}

template <class Scalar>
long double smallest_subnormal() {
  using Facts = ScalarFacts<Scalar>;
  return std::ldexp(1.0L, Facts::smallest_exponent - Facts::significant_bits + 1);
}

template <class Scalar>
long double to_exact(const Scalar& value) {
  if constexpr (std::is_same_v<Scalar, Eigen::half> || std::is_same_v<Scalar, Eigen::bfloat16>)
    return static_cast<long double>(static_cast<float>(value));
  else
    return static_cast<long double>(value);
}

/// A binary floating-point format as data, for what need not be compiled for each.
struct Format {
  int significant_bits;
  int smallest_exponent;
  int largest_exponent;
  long double largest;
  long double smallest_normal;
  long double smallest_subnormal;
};

template <class Scalar>
Format format_of() {
  using Facts = ScalarFacts<Scalar>;
  return {Facts::significant_bits, Facts::smallest_exponent,  Facts::largest_exponent,
          largest<Scalar>(),       smallest_normal<Scalar>(), smallest_subnormal<Scalar>()};
}

/// The value of the format nearest to `value`, ties to even, beyond the range infinite: rounded
/// once, without a detour through float.
inline long double rounded_to(const Format& format, long double value) {
  if (!std::isfinite(value) || value == 0) return value;
  const int exponent = std::max(std::ilogb(value), format.smallest_exponent);
  const int last_bit = exponent - format.significant_bits + 1;
  const long double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -last_bit)), last_bit);
  if (std::fabs(rounded) > format.largest)
    return std::copysign(std::numeric_limits<long double>::infinity(), value);
  return rounded;
}

template <class Scalar>
long double rounded_to(long double value) {
  return rounded_to(format_of<Scalar>(), value);
}

/// `value` as a Scalar, kept inside the finite range.
template <class Scalar>
Scalar finite(long double value) {
  const long double clamped = std::clamp(value, -largest<Scalar>(), largest<Scalar>());
  if constexpr (std::is_same_v<Scalar, Eigen::half> || std::is_same_v<Scalar, Eigen::bfloat16>)
    return Scalar(static_cast<float>(clamped));
  else
    return static_cast<Scalar>(clamped);
}

}  // namespace tokennorm::test
