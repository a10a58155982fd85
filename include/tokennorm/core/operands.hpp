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

/// What can be known of an operand from its type. Says what is wrong in one sentence, after which
/// the call that asked compiles nothing more.
template <class X, int Channels>
constexpr bool check_operand_type() {
  static_assert(
      is_dense<X>,
      "tokennorm: an operand is not an Eigen matrix, array, vector, map or expression. Wrap "
      "other memory with tokens(pointer, token_count, channels) or tokens(range, channels). The "
      "result of heads(x, channels) are heads: norm(heads(x, channels), heads(y, channels)).");
  if constexpr (is_dense<X>) {
    constexpr bool is_integer = Eigen::NumTraits<ScalarOf<X>>::IsInteger;
    constexpr bool is_complex = Eigen::NumTraits<ScalarOf<X>>::IsComplex;
    constexpr bool fits = Channels == Eigen::Dynamic || channels_of<X> == Eigen::Dynamic ||
                          channels_of<X> == Channels;
    static_assert(!is_integer,
                  "tokennorm: tokens of integers cannot be normalized. Cast them first, for "
                  "instance x.cast<float>().");
    static_assert(!is_complex,
                  "tokennorm: tokens of complex numbers cannot be normalized. Normalize x.real() "
                  "and x.imag(), or x.cwiseAbs(), as your model means it.");
    static_assert(is_integer || is_complex || fits,
                  "tokennorm: an operand's number of columns, known at compile time, differs from "
                  "the norm's Channels. A token is a row: its channels are the columns.");
    return !is_integer && !is_complex && fits;
  } else {
    return false;
  }
}

/// What else can be known of one that is written, of the type by which it was forwarded.
template <class Y>
constexpr bool check_output_type() {
  constexpr bool is_kept = std::is_lvalue_reference_v<Y> || !is_plain<Y>;
  static_assert(
      is_writable<Y&>,
      "tokennorm: an output cannot be written to. Give a matrix, array or vector, or a Map, Block "
      "or Ref of non-const memory, neither of them const itself (`auto rows = tokens(...)`, not "
      "`const auto`); an index list such as y(rows, Eigen::all) is none.");
  static_assert(!is_writable<Y&> || is_kept,
                "tokennorm: an output is a temporary matrix, array or vector, which is gone with "
                "its values when the call returns. Give a variable.");
  return is_writable<Y&> && is_kept;
}

template <class X>
struct Read {
  template <int Channels>
  static constexpr bool check() {
    return check_operand_type<X, Channels>();
  }
};
template <class Y>
struct Written {
  template <int Channels>
  static constexpr bool check() {
    if constexpr (check_operand_type<Y, Channels>()) {
      return check_output_type<Y>();
    } else {
      return false;
    }
  }
};
/// Those of a call, each Read<X> or Written<Y>, up to the first that is wrong.
template <int Channels>
constexpr bool check_operands() {
  return true;
}
template <int Channels, class First, class... Rest>
constexpr bool check_operands() {
  if constexpr (First::template check<Channels>()) {
    return check_operands<Channels, Rest...>();
  } else {
    return false;
  }
}

/// What a call returns that was refused, so that nothing more is said of it.
struct Refused {
  Refused() = default;
  explicit Refused(const auto&, const auto&...) {}
  template <class T>
  operator T() const;
};

/// Numbers at the end of a call are none of its arguments: the overload that says so takes these.
template <class T>
concept Number = std::is_arithmetic_v<std::remove_cvref_t<T>>;
template <class T>
inline constexpr bool is_never = false;

/// The operand itself where its elements can be addressed, else its value.
template <class X>
decltype(auto) addressable(const X& x) {
  if constexpr (has_direct_access<X>) {
    return (x);
  } else {
    return x.eval();
  }
}

/// x as tokens in rows, in another scalar.
template <class X, class Scalar>
void copy_tokens(const X& x, TokenMatrix<Scalar>& to) {
  if constexpr (!is_vector<X>) {
    to = x.matrix().template cast<Scalar>();
  } else if constexpr (int(Bare<X>::RowsAtCompileTime) == 1) {
    to = x.matrix().template cast<Scalar>();
  } else {
    to = x.matrix().transpose().template cast<Scalar>();
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
  } else {
    constexpr auto fits = [](int size, int most, Index wanted) {
      return (size == Eigen::Dynamic || size == wanted) &&
             (most == Eigen::Dynamic || most >= wanted);
    };
    if constexpr (is_vector<Y>) {
      return tokens == 1 &&
             fits(int(Bare<Y>::SizeAtCompileTime), int(Bare<Y>::MaxSizeAtCompileTime), channels);
    } else {
      return fits(int(Bare<Y>::RowsAtCompileTime), int(Bare<Y>::MaxRowsAtCompileTime), tokens) &&
             fits(int(Bare<Y>::ColsAtCompileTime), int(Bare<Y>::MaxColsAtCompileTime), channels);
    }
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

/// The closer look, at views that are_apart cannot tell apart.
[[gnu::noinline]] inline void check_shared_elements(Who who, const char* out_name, AnyView out,
                                                    const char* in_name, AnyView in,
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

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_self_overlap(Who who, const char* name,
                                                                     Index token_stride,
                                                                     Index channel_stride) {
  fail(who,
       {name, " has elements that share memory with one another: its strides are ", token_stride,
        " (tokens) and ", channel_stride, " (channels); expected a place of its own for each"});
}

/// An output, from its checks until it has its shape. It is resized by `take`, when nothing can
/// fail any more.
template <class Y>
class Output {
 public:
  /// Fails unless y has the shape or can be given it, and has a place for each element.
  TOKENNORM_INLINE Output(Who who, const char* name, Y& y, Index tokens, Index channels)
      : who_(who), name_(name), y_(y), tokens_(tokens), channels_(channels) {
    const auto view = view_of(y);
    has_shape_ = view.tokens == tokens && view.channels == channels;
    if (!has_shape_ && !can_resize<Y>(tokens, channels)) [[unlikely]]
      check_shape(who, name, view, tokens, channels);
    if constexpr (!is_plain<Y>) {
      if (overlaps_itself(view)) [[unlikely]]
        fail_self_overlap(who, name, view.token_stride, view.channel_stride);
    }
  }

  /// Fails where y overlaps another operand. The same view is allowed, unless it has to be resized.
  template <class Other>
  TOKENNORM_INLINE void check_apart(const char* other_name, const TokenView<Other>& other,
                                    bool same_allowed = true) const {
    check_overlap(who_, name_, view_of(y_), other_name, other, same_allowed && has_shape_);
  }

  TOKENNORM_INLINE auto view() const { return view_of(y_); }

  /// The view of y in its shape.
  TOKENNORM_INLINE auto take() const {
    if constexpr (is_plain<Y>) {
      if (!has_shape_) {
        if constexpr (is_vector<Y>) {
          y_.resize(channels_);
        } else {
          y_.resize(tokens_, channels_);
        }
      }
    }
    return view_of(y_);
  }

 private:
  Who who_;
  const char* name_;
  Y& y_;
  Index tokens_, channels_;
  bool has_shape_;
};

}  // namespace tokennorm::detail
