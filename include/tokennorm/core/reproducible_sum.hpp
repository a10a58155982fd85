// SPDX-License-Identifier: MIT
/// Sums of gradients whose bits depend on what is added, and on nothing else: not on the order, nor
/// on who adds what.
///
///     ReproducibleSum<float> sum;
///     for (…) {                          // each sequence, or any piece that is never divided
///       block.forward(…);  block.backward(…);
///       sum.add(block);                  // its gradients, which are zero then
///     }
///     sum.move_to(block);                // or all_reduce_gradients(block, communicator, sum)
///
/// Each number is cut at fixed places into digits of 32 bits, each of which is added up as a whole
/// number: that is exact, and so in any order the same. Digits far below the largest are dropped.
///
/// Error      of a sum: one rounding, and of each term what is below 2⁻⁶³ (in double 2⁻⁹⁵) of the
///            largest one
/// Memory     32 bytes for each gradient (40 in double), once
/// Cost       about ten nanoseconds for each gradient that is added
/// Source     the digits: Demmel, Nguyen 2015, "Parallel Reproducible Summation", IEEE Transactions
///            on Computers 64(7), section 3, with whole numbers in place of rounded ones
#pragma once

#include "tokennorm/core/checks.hpp"
#include "tokennorm/core/scalar.hpp"

#include <Eigen/Core>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace tokennorm {

namespace detail {

/// A sum as digits: digits[i] times 2^(32·(top − i)), less the lowest exponent there is.
template <class Scalar>
struct SumOfDigits {
  static constexpr int kept = std::is_same_v<Scalar, float> ? 3 : 4;
  std::array<std::int64_t, std::size_t{kept}> digits{};
  std::int32_t top = std::numeric_limits<std::int32_t>::min();  // no number yet
  float special = 0;                                            // the sum of what is not finite

  void add(Scalar value);
  static void merge(const SumOfDigits& left, SumOfDigits& right);
  Scalar rounded() const;

 private:
  using Limits = std::numeric_limits<Scalar>;
  static constexpr int bits = 32;
  static constexpr int lowest = Limits::min_exponent - Limits::digits;  // of a subnormal's last bit

  /// Makes room for a digit at such a place.
  void raise_to(std::int32_t place) {
    if (place <= top) return;
    const std::int64_t by = std::int64_t{place} - top;
    for (int i = kept - 1; i >= 0; --i)
      digits[std::size_t(i)] = i >= by ? digits[std::size_t(i - by)] : 0;
    top = place;
  }
};

template <class Scalar>
void SumOfDigits<Scalar>::add(Scalar value) {
  if (value == 0) return;
  if (!std::isfinite(value)) {
    special += static_cast<float>(value);
    return;
  }
  int exponent = 0;
  const Scalar fraction = std::frexp(value, &exponent);
  // value = whole·2^at, and of this the digits from the lowest on.
  const auto whole = static_cast<std::int64_t>(std::ldexp(std::fabs(fraction), Limits::digits));
  const int at =
      exponent - Limits::digits - lowest;  // below 0 of a subnormal number, which ends in zeros
  const int place = (at + Limits::digits) / bits;  // of the highest
  raise_to(place);
  for (int i = 0; i < kept; ++i) {
    const int shift = at - bits * (top - i);  // of `whole`, to stand at this digit
    std::int64_t digit = 0;
    if (shift >= bits || shift <= -63) continue;
    if (shift >= 0) {
      digit = static_cast<std::int64_t>((static_cast<std::uint64_t>(whole) << shift) & 0xffffffffu);
    } else {
      digit = (whole >> -shift) & 0xffffffff;
    }
    digits[std::size_t(i)] += value < 0 ? -digit : digit;
  }
}

template <class Scalar>
void SumOfDigits<Scalar>::merge(const SumOfDigits& left, SumOfDigits& right) {
  SumOfDigits other = left;
  other.raise_to(right.top);
  right.raise_to(other.top);
  for (std::size_t i = 0; i < other.digits.size(); ++i) right.digits[i] += other.digits[i];
  right.special += left.special;
}

template <class Scalar>
Scalar SumOfDigits<Scalar>::rounded() const {
  if (special != 0) return static_cast<Scalar>(special);
  if (top == std::numeric_limits<std::int32_t>::min()) return 0;
  // Carried, the digits are 0 to 2³² − 1 but for the first, and rounding is that of a few
  // additions.
  auto carried = digits;
  for (std::size_t i = carried.size() - 1; i > 0; --i) {
    carried[i - 1] += carried[i] >> bits;
    carried[i] &= 0xffffffff;
  }
  long double sum = 0;
  for (int i = kept - 1; i >= 0; --i) {
    sum += std::ldexp(static_cast<long double>(carried[std::size_t(i)]), bits * (top - i) + lowest);
  }
  return static_cast<Scalar>(sum);
}

}  // namespace detail

/// See the top of this file. Scalar is that of the gradients: float or double.
template <class Scalar>
class ReproducibleSum {
  static_assert(std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>,
                "tokennorm: a ReproducibleSum is of gradients of float or double.");

 public:
  /// Adds all gradients that the module's visit_parameters visits, and makes them zero.
  ///
  /// Throws   std::invalid_argument where there are not as many as before
  template <class Module>
  void add(Module& module) {
    const std::size_t number = visit(module, [](Index, const auto&) {});
    if (sums_.empty()) sums_.resize(number);
    check(number);
    visit(module, [&](Index first, auto& gradient) {
      for (Index i = 0; i < gradient.size(); ++i)
        sums_[std::size_t(first + i)].add(gradient.data()[i]);
      gradient.setZero();
    });
  }

  /// The module's gradients become the sums, and these none.
  ///
  /// Throws   std::invalid_argument where there are not as many
  template <class Module>
  void move_to(Module& module) {
    check(visit(module, [](Index, const auto&) {}));
    visit(module, [&](Index first, auto& gradient) {
      for (Index i = 0; i < gradient.size(); ++i)
        gradient.data()[i] = sums_[std::size_t(first + i)].rounded();
    });
    sums_.clear();
  }

  /// For those who merge them.
  std::vector<detail::SumOfDigits<Scalar>>& sums() { return sums_; }

 private:
  /// f(number of those before, gradient) for each; returns how many numbers there are.
  template <class Module>
  static std::size_t visit(Module& module, const auto& f) {
    Index first = 0;
    module.visit_parameters([&](const std::string&, auto&, auto& gradient) {
      using Gradient = std::remove_reference_t<decltype(gradient)>;
      static_assert(std::is_same_v<typename Gradient::Scalar, Scalar>,
                    "tokennorm: a gradient is of another scalar than the ReproducibleSum.");
      f(first, gradient);
      first += gradient.size();
    });
    return static_cast<std::size_t>(first);
  }
  void check(std::size_t number) const {
    if (number == sums_.size()) return;
    detail::fail({"ReproducibleSum"}, {"there are ", static_cast<Index>(number),
                                       " gradients; expected ", static_cast<Index>(sums_.size())});
  }

  std::vector<detail::SumOfDigits<Scalar>> sums_;
};

}  // namespace tokennorm
