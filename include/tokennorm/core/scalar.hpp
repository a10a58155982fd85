// SPDX-License-Identifier: MIT
/// Scalar types: which ones the vectorized kernels know, and the type the arithmetic runs in.
///
///     activations                      arithmetic
///     half, bfloat16, float            float
///     double, or any of them double    double
///     any other real Eigen scalar      that scalar (plain loops, no vectorization)
///
/// Parameters are converted to it. Statistics and gradients that a module keeps have the type that
/// its parameters would be worked on in.
#pragma once

#include <Eigen/Core>

#include <concepts>
#include <type_traits>

namespace tokennorm {

/// Numbers of tokens and channels.
using Index = Eigen::Index;

/// The scalars with vectorized kernels.
template <class Scalar>
concept NativeScalar = std::same_as<Scalar, float> || std::same_as<Scalar, double> ||
    std::same_as<Scalar, Eigen::half> || std::same_as<Scalar, Eigen::bfloat16>;

/// A scalar that can be normalized: real and not an integer.
template <class Scalar>
concept RealScalar = !Eigen::NumTraits<Scalar>::IsInteger && !Eigen::NumTraits<Scalar>::IsComplex;

namespace detail {

template <class First, class... Others>
struct AccumulatorOf {
  static constexpr bool are_native = (NativeScalar<First> && ... && NativeScalar<Others>);
  static_assert(are_native || (std::same_as<First, Others> && ...),
                "tokennorm: a scalar other than float, double, half and bfloat16 does not mix with "
                "another one. Give x, y and the parameters the same scalar, for instance "
                "LayerNorm<long double> on Matrix<long double, …>.");
  using Native =
      std::conditional_t<(std::same_as<double, First> || ... || std::same_as<double, Others>),
                         double, float>;
  using type = std::conditional_t<are_native, Native, First>;
};

}  // namespace detail

/// The type in which operands of these scalars are summed, normalized and differentiated.
template <class... Scalars>
using Accumulator = typename detail::AccumulatorOf<Scalars...>::type;

}  // namespace tokennorm
