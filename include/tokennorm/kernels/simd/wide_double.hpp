// SPDX-License-Identifier: MIT
/// What long double is to double, where long double is no wider: a number of two doubles with an
/// exponent of its own, so that nothing overflows or underflows. One at a time, for rare rows.
///
/// Error    of an operation: some units of 2⁻¹⁰² of the larger operand or of the result
#pragma once

#include "tokennorm/kernels/simd/double_double.hpp"

#include <bit>
#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

class WideDouble {
 public:
  WideDouble() = default;
  template <class Number>
  requires std::is_arithmetic_v<Number> WideDouble(Number number)
      : WideDouble(scaled({static_cast<double>(number), 0}, 0)) {}
  explicit WideDouble(const DoubleDouble& number) : WideDouble(scaled(number, 0)) {}
  template <class Number>
  requires std::is_arithmetic_v<Number>
  explicit operator Number() const {  // with the digits and the range that a long double has
    using Long = long double;
    const Long digits = static_cast<Long>(digits_.high) + static_cast<Long>(digits_.low);
    return static_cast<Number>(std::ldexp(digits, exponent_));
  }

  [[gnu::noinline]] friend WideDouble operator+(const WideDouble& a, const WideDouble& b) {
    const WideDouble &higher = a.exponent_ < b.exponent_ ? b : a,
                     &lower = a.exponent_ < b.exponent_ ? a : b;
    return scaled(higher.digits_ + lower.shifted(lower.exponent_ - higher.exponent_),
                  higher.exponent_);
  }
  friend WideDouble operator-(const WideDouble& a) {
    return {{-a.digits_.high, -a.digits_.low}, a.exponent_};
  }
  friend WideDouble operator-(const WideDouble& a, const WideDouble& b) { return a + -b; }
  [[gnu::noinline]] friend WideDouble operator*(const WideDouble& a, const WideDouble& b) {
    return scaled(product_of(a.digits_, b.digits_), a.exponent_ + b.exponent_);
  }
  [[gnu::noinline]] friend WideDouble operator/(const WideDouble& a, const WideDouble& b) {
    const double quotient = a.digits_.high / b.digits_.high;
    if (is_special(quotient)) return quotient;
    const DoubleDouble back = product_of(b.digits_, {-quotient, 0});
    const double rest = rounded(a.digits_ + back) / b.digits_.high;
    return scaled({quotient, rest}, a.exponent_ - b.exponent_);
  }
  WideDouble& operator+=(const WideDouble& b) { return *this = *this + b; }
  WideDouble& operator/=(const WideDouble& b) { return *this = *this / b; }

  [[gnu::noinline]] friend WideDouble sqrt(const WideDouble& a) {
    const int odd = a.exponent_ & 1;
    const DoubleDouble square = a.shifted(odd);
    const double root = std::sqrt(square.high);
    if (is_special(root)) return root;
    const DoubleDouble back = product_of({root, 0}, {-root, 0});
    const double rest = rounded(square + back) / (2 * root);
    return scaled({root, rest}, (a.exponent_ - odd) / 2);
  }
  friend WideDouble fabs(const WideDouble& a) { return a.digits_.high < 0 ? -a : a; }

  friend bool is_zero(const WideDouble& a) { return a.exponent_ == lowest; }
  friend bool operator==(const WideDouble& a, const WideDouble& b) {
    return (a - b).digits_.high == 0;
  }
  friend std::partial_ordering operator<=>(const WideDouble& a, const WideDouble& b) {
    return (a - b).digits_.high <=> 0.0;
  }

 private:
  // Zero and what is not finite have exponents that no number has: in a sum the other operand is
  // shifted as it should be.
  static constexpr int lowest = -(1 << 20), highest = 1 << 20;

  WideDouble(const DoubleDouble& digits, int exponent) : digits_(digits), exponent_(exponent) {}

  /// In terms of bits: also where the compiler was told that all numbers are finite.
  static bool is_finite(double a) { return (hidden_bits(a) >> 52 & 0x7ff) != 0x7ff; }
  static bool is_special(double a) { return a == 0 || !is_finite(a); }

  static double rounded(const DoubleDouble& a) { return a.high + a.low; }

  /// digits·2^exponent, the digits put between ½ and 1.
  static WideDouble scaled(const DoubleDouble& digits, int exponent) {
    if (!is_finite(digits.high)) return {{digits.high, 0}, highest};
    const double high = opaque(rounded(digits));
    if (high == 0) return {{high, 0}, lowest};
    const double low = rounding_error(digits.high, digits.low, high);
    int shift = 0;
    const double fraction = std::frexp(high, &shift);
    return {{fraction, std::ldexp(low, -shift)}, exponent + shift};
  }
  DoubleDouble shifted(int shift) const {
    return {std::ldexp(digits_.high, shift), std::ldexp(digits_.low, shift)};
  }
  static DoubleDouble product_of(const DoubleDouble& a, const DoubleDouble& b) {
    const auto lanes = [](const DoubleDouble& v) {
      return DoubleDoubles<2>{Lanes<double, 2>(v.high), Lanes<double, 2>(v.low)};
    };
    return product<Baseline>(lanes(a), lanes(b))[0];
  }

  DoubleDouble digits_;
  int exponent_;
};

TOKENNORM_END_KERNELS

template <>
struct std::numeric_limits<tokennorm::kernels::WideDouble> : std::numeric_limits<double> {
  static tokennorm::kernels::WideDouble epsilon() { return 0x1p-102; }
};
