// SPDX-License-Identifier: MIT
/// Tokens of Eigen's tensors: `tokens(tensor)` is a view of T x C, where C is the last dimension
/// and T the product of the others.
///
///     #include <tokennorm/adapters/eigen_tensor.hpp>
///
///     Eigen::Tensor<float, 3, Eigen::RowMajor> x(batch, length, channels), y(x.dimensions());
///     norm(tokens(x), tokens(y));
///
/// Shapes   a Tensor, TensorFixedSize or TensorMap of rank 2 or more, row-major
/// Aliasing the result is a view: it copies nothing and must not outlive the tensor's memory. Its
///          elements are const where tensor.data() points to const
/// Throws   std::invalid_argument if the last dimension is 0, or on a TensorMap of a null pointer
///          to tokens
/// Needs    Eigen's unsupported folder, nothing else
#pragma once

#include "tokennorm/core/tokens.hpp"

#if __has_include(<unsupported/Eigen/Tensor>)  // Eigen 5
#include <unsupported/Eigen/Tensor>
#else
#include <unsupported/Eigen/CXX11/Tensor>
#endif

#include <type_traits>

namespace tokennorm {

namespace detail {

template <class Derived, int Level>
std::true_type tensor_test(const Eigen::TensorBase<Derived, Level>*);
std::false_type tensor_test(...);

/// A tensor or an expression of tensors.
template <class T>
inline constexpr bool is_tensor_expression =
    decltype(tensor_test(static_cast<Bare<T>*>(nullptr)))::value;

/// 0: an expression. 1: a tensor that owns its memory. 2: a view.
template <class T>
inline constexpr int tensor_kind = 0;
template <class Scalar, int Rank, int Options, class IndexType>
inline constexpr int tensor_kind<Eigen::Tensor<Scalar, Rank, Options, IndexType>> = 1;
template <class Scalar, class Sizes, int Options, class IndexType>
inline constexpr int tensor_kind<Eigen::TensorFixedSize<Scalar, Sizes, Options, IndexType>> = 1;
template <class Plain, int Options, template <class> class MakePointer>
inline constexpr int tensor_kind<Eigen::TensorMap<Plain, Options, MakePointer>> = 2;

}  // namespace detail

/// The tensor as tokens: its last dimension is the channels.
template <class T>
requires(detail::is_tensor_expression<T>) auto tokens(T&& tensor) {
  using Tensor = detail::Bare<T>;
  constexpr int kind = detail::tensor_kind<Tensor>;
  static_assert(kind != 0,
                "tokennorm: tokens(tensor) is given an expression, which has no memory to view. "
                "Evaluate it first: `Eigen::Tensor<float, 3, Eigen::RowMajor> x = expression;`.");
  static_assert(kind != 1 || std::is_lvalue_reference_v<T>,
                "tokennorm: tokens(tensor) is given a temporary, whose memory is gone before the "
                "view can be used. Name the tensor first.");
  if constexpr (kind == 2 || (kind == 1 && std::is_lvalue_reference_v<T>)) {
    constexpr int rank = int(Tensor::NumIndices);
    static_assert(
        int(Tensor::Layout) == int(Eigen::RowMajor),
        "tokennorm: tokens(tensor) is given a column-major tensor, Eigen's default, whose "
        "last dimension, the channels, is not contiguous. Declare it "
        "Eigen::Tensor<Scalar, Rank, Eigen::RowMajor>; or, if the channels are its first "
        "dimension, call tokens(tensor.data(), tensor.size() / channels, channels).");
    static_assert(rank >= 2,
                  "tokennorm: tokens(tensor) is given a tensor of rank 0 or 1, which does not tell "
                  "tokens from channels. For one token, call "
                  "tokens(tensor.data(), 1, tensor.size()).");
    const Index size = static_cast<Index>(tensor.size());
    const Index channels = static_cast<Index>(tensor.dimension(rank - 1));
    return tokens(tensor.data(), channels > 0 ? size / channels : 0, channels);
  }
}

}  // namespace tokennorm
