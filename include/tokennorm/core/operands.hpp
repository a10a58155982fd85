// SPDX-License-Identifier: MIT
/// Checks of a call's operands, made once and before anything is written: scalars and channels at
/// compile time, shapes and overlap at run time. Resizes what may be resized, as assignment does.
#pragma once

#include "tokennorm/core/checks.hpp"
#include "tokennorm/core/concepts.hpp"
#include "tokennorm/core/macros.hpp"
#include "tokennorm/core/token_view.hpp"

#include <type_traits>
#include <utility>

namespace tokennorm::detail {

template <class X>
inline constexpr bool is_dense = decltype(dense_test(static_cast<Bare<X>*>(nullptr)))::value;

/// What can be known of an operand from its type.
template <class X, int Channels>
constexpr void check_operand_type() {
  static_assert(
      is_dense<X>,
      "tokennorm: an operand is not an Eigen matrix, array, vector, map or expression. Wrap "
      "other memory with tokens(pointer, token_count, channels) or tokens(range, channels).");
  if constexpr (is_dense<X>) {
    static_assert(
        !Eigen::NumTraits<ScalarOf<X>>::IsInteger,
        "tokennorm: tokens of integers cannot be normalized. Cast them first, for instance "
        "x.cast<float>().");
    static_assert(
        !Eigen::NumTraits<ScalarOf<X>>::IsComplex,
        "tokennorm: tokens of complex numbers cannot be normalized. Normalize x.real() and "
        "x.imag(), or x.cwiseAbs(), as your model means it.");
    static_assert(
        Channels == Eigen::Dynamic || channels_of<X> == Eigen::Dynamic ||
            channels_of<X> == Channels,
        "tokennorm: an operand's number of columns, known at compile time, differs from the "
        "norm's Channels. A token is a row: its channels are the columns.");
  }
}

/// The same for an operand that is written.
template <class Y, int Channels>
constexpr void check_output_type() {
  check_operand_type<Y, Channels>();
  static_assert(
      is_writable<Y>,
      "tokennorm: an output cannot be written to. Give a matrix, array or vector, or a Map, "
      "Block or Ref of non-const memory.");
}

/// The operand itself where its elements can be addressed, else its value.
template <class X>
decltype(auto) addressable(const X& x) {
  if constexpr (has_direct_access<X>) {
    return (x);
  } else {
    return x.eval();
  }
}

template <class Scalar>
void check_shape(Who who, const char* name, const TokenView<Scalar>& view, Index tokens,
                 Index channels) {
  if (view.tokens != tokens || view.channels != channels) [[unlikely]] {
    fail_shape(who, name, view.tokens, view.channels, tokens, channels);
  }
}

template <class Scalar>
void check_channels(Who who, const char* name, const TokenView<Scalar>& view) {
  if (view.channels != who.channels) [[unlikely]] {
    fail_channels(who, name, view.tokens, view.channels, who.channels);
  }
}

/// A Matrix or Array that can be resized to this shape.
template <class Y>
bool can_resize(Index tokens, Index channels) {
  if constexpr (!is_plain<Y>) {
    return false;
  } else if constexpr (is_vector<Y>) {
    return tokens == 1 && int(Bare<Y>::SizeAtCompileTime) == Eigen::Dynamic;
  } else {
    constexpr int rows = int(Bare<Y>::RowsAtCompileTime), cols = int(Bare<Y>::ColsAtCompileTime);
    return (rows == Eigen::Dynamic || rows == tokens) &&
           (cols == Eigen::Dynamic || cols == channels);
  }
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_overlap(Who who, const char* a,
                                                                const char* b, bool same_allowed) {
  if (same_allowed) {
    fail(who, {a, " shares memory with ", b, " without being the same view; expected ", b,
               " itself or memory of its own"});
  }
  fail(who, {a, " shares memory with ", b, "; expected memory of its own"});
}

/// The closer look, at views that are_apart cannot tell apart. They come by value, so that the
/// caller's stay in registers.
template <class Out, class In>
[[gnu::noinline]] void check_shared_elements(Who who, const char* out_name, TokenView<Out> out,
                                             const char* in_name, TokenView<In> in,
                                             bool same_allowed) {
  if (share_memory(Footprint(out), Footprint(in)))
    fail_overlap(who, out_name, in_name, same_allowed);
}

/// What is written may be the same view as what is read, but may not overlap it otherwise.
template <class Out, class In>
TOKENNORM_INLINE void check_overlap(Who who, const char* out_name, const TokenView<Out>& out,
                                    const char* in_name, const TokenView<In>& in,
                                    bool same_allowed = true) {
  if (are_apart(out, in) || (same_allowed && same_view(out, in))) [[likely]]
    return;
  check_shared_elements(who, out_name, out, in_name, in, same_allowed);
}

/// Gives y the shape, or fails. `check_free(view)` fails if y's present memory is also an
/// operand's, which resizing would destroy.
template <class Y>
void shape_output(Who who, const char* name, Y& y, Index tokens, Index channels,
                  const auto& check_free) {
  const auto view = view_of(y);
  if (view.tokens == tokens && view.channels == channels) [[likely]]
    return;
  if (!can_resize<Y>(tokens, channels)) check_shape(who, name, view, tokens, channels);
  if constexpr (is_plain<Y>) {
    check_free(view);
    if constexpr (is_vector<Y>) {
      y.resize(channels);
    } else {
      y.resize(tokens, channels);
    }
  }
}

}  // namespace tokennorm::detail
