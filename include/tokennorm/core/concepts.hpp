// SPDX-License-Identifier: MIT
/// Concepts and type functions for what users pass as tokens: Eigen dense expressions.
///
/// Tokens are the rows, channels the columns, whatever the storage order. What is a vector at
/// compile time, row or column, is one token.
#pragma once

#include "tokennorm/core/scalar.hpp"

#include <Eigen/Core>

#include <type_traits>
#include <utility>

namespace tokennorm {

/// Tokens in memory of their own, one per row.
template <class Scalar>
using TokenMatrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

template <class Derived>
std::true_type dense_test(const Eigen::DenseBase<Derived>*);
std::false_type dense_test(...);

template <class Derived>
std::true_type plain_test(const Eigen::PlainObjectBase<Derived>*);
std::false_type plain_test(...);

template <class X>
using Bare = std::remove_cvref_t<X>;

template <class X>
using ScalarOf = typename Bare<X>::Scalar;

template <class X>
inline constexpr bool is_vector = bool(Bare<X>::IsVectorAtCompileTime);

/// Elements can be reached by a pointer and two strides. (What Eigen's flag says is not enough: an
/// index list such as x(Eigen::seq(0, 4, 2), Eigen::all) has it, but no pointer.)
template <class X>
inline constexpr bool has_direct_access = requires(const Bare<X>& x) {
  requires(int(Bare<X>::Flags) & int(Eigen::DirectAccessBit)) != 0;
  x.data();
  x.innerStride();
  x.outerStride();
};

/// A Matrix or Array, which owns its memory.
template <class X>
inline constexpr bool is_plain = decltype(plain_test(static_cast<Bare<X>*>(nullptr)))::value;

/// Can be written to through the reference X, as the operands y, sum and dx are.
template <class X>
inline constexpr bool is_writable = false;

template <class X>
requires(has_direct_access<X> &&
         (int(Bare<X>::Flags) & int(Eigen::LvalueBit)) != 0) inline constexpr bool is_writable<X> =
    !std::is_const_v<std::remove_reference_t<decltype(*std::declval<X>().data())>>;

/// Channels known at compile time, or Eigen::Dynamic.
template <class X>
inline constexpr int channels_of = is_vector<X> ? int(Bare<X>::SizeAtCompileTime)
                                                : int(Bare<X>::ColsAtCompileTime);

template <class X>
constexpr Index token_count(const X& x) {
  return is_vector<X> ? 1 : x.rows();
}

template <class X>
constexpr Index channel_count(const X& x) {
  return is_vector<X> ? x.size() : x.cols();
}

/// X's plain object, a Matrix or Array of X's shape and storage order, with another scalar.
template <class X, class Scalar>
using PlainLike = typename Bare<
    decltype(std::declval<const Bare<X>&>().template cast<Scalar>().eval())>::PlainObject;

/// An operand or result that a call does not have.
struct Absent {};

template <class T>
inline constexpr bool is_present = !std::is_same_v<std::remove_cv_t<T>, Absent>;

}  // namespace detail
}  // namespace tokennorm
