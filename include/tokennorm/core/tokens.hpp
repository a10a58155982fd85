// SPDX-License-Identifier: MIT
/// Views of memory that Eigen does not own: T tokens of C channels each, channels contiguous.
///
/// Shapes   the result is T x C, row-major, and can be given wherever a call takes tokens
/// Aliasing the result is a view: it copies nothing and must not outlive the memory
/// Throws   std::invalid_argument on a negative count, fewer than one channel, a null pointer to
///          tokens, rows that overlap, or a range whose size is not a multiple of the channels
#pragma once

#include "tokennorm/core/checks.hpp"
#include "tokennorm/core/concepts.hpp"

#include <Eigen/Core>

#include <span>
#include <type_traits>

namespace tokennorm {

namespace detail {

/// A contiguous range whose memory outlives the call. By std::span: <ranges> costs more to compile.
template <class Range>
concept LastingRange =
    (std::is_lvalue_reference_v<Range> ||
     std::ranges::enable_borrowed_range<std::remove_cvref_t<Range>>)&&requires(Range& range) {
  std::span(range);
};

}  // namespace detail

/// The view type of tokens(...): an Eigen::Map with an outer stride. Element may be const.
template <class Element>
using TokenMap = Eigen::Map<
    std::conditional_t<std::is_const_v<Element>, const TokenMatrix<std::remove_const_t<Element>>,
                       TokenMatrix<Element>>,
    Eigen::Unaligned, Eigen::OuterStride<>>;

namespace detail {

/// Fails where tokens(...) was given what it cannot take; of a pointer it says that it is null.
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_tokens(Index token_count, Index channels,
                                                               Index row_stride) {
  if (token_count < 0) {
    fail({"tokens"}, {"token_count is ", token_count, "; expected 0 or more"});
  }
  if (channels < 1) {
    fail({"tokens"}, {"channels is ", channels, "; expected 1 or more"});
  }
  if (token_count > 1 && row_stride < channels) {
    fail({"tokens"}, {"row_stride is ", row_stride, "; expected at least the ", channels,
                      " channels of a row"});
  }
  fail({"tokens"},
       {"the pointer is null; expected the address of ", token_count, " x ", channels, " values"});
}

}  // namespace detail

/// Token t starts at `pointer + t·row_stride`.
template <class Element>
TokenMap<Element> tokens(Element* pointer, Index token_count, Index channels, Index row_stride) {
  if (token_count < 0 || channels < 1 || (token_count > 1 && row_stride < channels) ||
      (pointer == nullptr && token_count > 0)) [[unlikely]] {
    detail::fail_tokens(token_count, channels, row_stride);
  }
  return {pointer, token_count, channels, Eigen::OuterStride<>(row_stride)};
}

/// Tokens one behind the other.
template <class Element>
TokenMap<Element> tokens(Element* pointer, Index token_count, Index channels) {
  return tokens(pointer, token_count, channels, channels);
}

/// The tokens of a contiguous range: std::vector, std::array, std::span, a C array.
template <detail::LastingRange Range>
auto tokens(Range&& range, Index channels) {
  const std::span values(range);
  const Index size = static_cast<Index>(values.size());
  if (channels < 1 || size % channels != 0) {
    detail::fail({"tokens"}, {"a range of ", size, " values does not divide into tokens of ",
                              channels, " channels"});
  }
  return tokens(values.data(), size / channels, channels);
}

}  // namespace tokennorm
