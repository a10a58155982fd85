// SPDX-License-Identifier: MIT
/// Channels divided into heads, each a token of its own: QK norm, where it stands in memory.
///
///     norm(heads(q, 128), heads(q, 128));          // q = qkv.leftCols(32 * 128), in place
///     norm.normalize(heads(q, 128), heads(y, 128), stats);
///     norm.backpropagate(heads(q, 128), stats, heads(dy, 128), heads(dq, 128), gradients);
///
///     y(t, h·C + c) = norm(x(t, h·C + 0 … h·C + C−1))(c)       of LayerNorm, RMSNorm and AnyNorm
///
/// Shapes     x, y (T, H·C) of any strides, what is a vector at compile time is one row · γ, β (C)
///            · statistics (T·H): the heads of the first row, then those of the next
/// Results    the bits that heads one behind the other have, in a (T·H, C) matrix of x's storage
///            order, for every executor; gradients too
/// Memory     inference and statistics allocate nothing, but for the statistics where they have
///            another size. A backward works on copies of those of x, dy and dx that have gaps
///            between their rows, or are in columns
/// Aliasing   as LayerNorm: y may be x, dx may be x or dy
/// Throws     std::invalid_argument, before anything is written, as LayerNorm; where heads are not
///            the norm's channels, or do not divide those of x. A result has its shape: one that
///            could be resized is not
#pragma once

#include "tokennorm/norm/norm_calls.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace tokennorm {

namespace detail {

/// An operand of this layout with any strides: one type, whatever it is part of.
template <class Element, Layout layout>
using Strided = Eigen::Map<
    std::conditional_t<
        std::is_const_v<Element>,
        const Eigen::Matrix<std::remove_const_t<Element>, Eigen::Dynamic, Eigen::Dynamic,
                            layout == Layout::columns ? Eigen::ColMajor : Eigen::RowMajor>,
        Eigen::Matrix<Element, Eigen::Dynamic, Eigen::Dynamic,
                      layout == Layout::columns ? Eigen::ColMajor : Eigen::RowMajor>>,
    Eigen::Unaligned,
    std::conditional_t<layout == Layout::rows, Eigen::OuterStride<>,
                       Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>>;

template <class Element, Layout layout>
Strided<Element, layout> strided(const TokenView<Element>& view) {
  if constexpr (layout == Layout::rows) {
    return {view.data, view.tokens, view.channels, Eigen::OuterStride<>(view.token_stride)};
  } else if constexpr (layout == Layout::columns) {
    return {view.data, view.tokens, view.channels, {view.channel_stride, view.token_stride}};
  } else {
    return {view.data, view.tokens, view.channels, {view.token_stride, view.channel_stride}};
  }
}

/// The rows of an operand, and the channels of each of their heads.
template <class Rows>
struct Heads {
  Rows rows;
  Index channels;

  Index count() const { return rows.cols() / channels; }  // in a row
};

/// The heads of one row as tokens.
template <class T>
TokenView<T> heads_of_row(const TokenView<T>& rows, Index row, Index channels) {
  return {rows.row(row), rows.channels / channels, channels, channels * rows.channel_stride,
          rows.channel_stride};
}

/// The same head of some rows as tokens.
template <class T>
TokenView<T> head_of_rows(const TokenView<T>& rows, Index head, Index channels, Index first,
                          Index count) {
  return {rows.row(first) + std::ptrdiff_t{head} * channels * rows.channel_stride, count, channels,
          rows.token_stride, rows.channel_stride};
}

/// Whether one stride leads from each head to the next, also from row to row.
template <class T>
bool is_one_view(const TokenView<T>& rows, Index channels) {
  return rows.tokens <= 1 || rows.channels == channels ||
         rows.token_stride == std::ptrdiff_t{rows.channels} * rows.channel_stride;
}

/// All heads as tokens (T·H, C), where they are one view.
template <class T>
TokenView<T> all_heads(const TokenView<T>& rows, Index channels) {
  TokenView<T> tokens = heads_of_row(rows, 0, channels);
  if (tokens.tokens == 1) tokens.token_stride = rows.token_stride;
  tokens.tokens *= rows.tokens;
  return tokens;
}

/// All heads as tokens; where they are not one view, in memory to be copied into, of the storage
/// order that their kernel is for.
template <class Rows>
class TokensOfHeads {
 public:
  explicit TokensOfHeads(const Heads<Rows>& heads)
      : heads_(heads),
        tokens_(all_heads(view_of(heads_.rows), heads.channels)),
        is_packed_(!is_one_view(view_of(heads_.rows), heads.channels)) {
    if (!is_packed_) return;
    memory_.resize(tokens_.tokens * tokens_.channels);
    const bool in_columns = layout == Layout::columns || tokens_.channel_stride != 1;
    tokens_.data = memory_.data();
    tokens_.token_stride = in_columns ? 1 : tokens_.channels;
    tokens_.channel_stride = in_columns ? tokens_.tokens : 1;
  }
  void copy_in(auto& executor) {
    copy(executor, [](const Scalar* row, Scalar* packed, Index n) { std::copy_n(row, n, packed); });
  }
  void copy_out(auto& executor) {
    copy(executor, [](Scalar* row, const Scalar* packed, Index n) { std::copy_n(packed, n, row); });
  }
  auto operator()() { return strided<Element, layout>(tokens_); }

 private:
  using Element = std::remove_pointer_t<decltype(std::declval<Rows&>().data())>;
  using Scalar = std::remove_const_t<Element>;
  static constexpr Layout layout = layout_of<Rows>;

  /// f(row, packed, n) of all channels that are packed, n of which stand together.
  void copy(auto& executor, const auto& f) {
    if (!is_packed_) return;
    const auto rows = view_of(heads_.rows);
    const Index count = heads_.count(), channels = heads_.channels;
    executor.parallel_for(rows.tokens, token_grain(rows.channels), [&](Index begin, Index end) {
      if (tokens_.channel_stride == 1) {
        for (Index t = begin; t < end; ++t)
          f(rows.row(t), memory_.data() + std::ptrdiff_t{t} * rows.channels, rows.channels);
        return;
      }
      for (Index c = 0; c < rows.channels; ++c) {
        Scalar* const packed =
            memory_.data() + c / channels + std::ptrdiff_t{c % channels} * tokens_.channel_stride;
        for (Index t = begin; t < end; ++t)
          f(rows.row(t) + std::ptrdiff_t{c} * rows.channel_stride,
            packed + std::ptrdiff_t{t} * count, 1);
      }
    });
  }

  Heads<Rows> heads_;
  TokenView<Element> tokens_;
  bool is_packed_;
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> memory_;
};

}  // namespace detail

/// x as heads of so many channels, for the calls of a norm. A view: it copies nothing and must not
/// outlive the memory. Of a matrix, array or vector, a Map, a Block or a Ref; writable where it is.
template <class X>
auto heads(X&& x, Index channels) {
  static_assert(detail::has_direct_access<X>,
                "tokennorm: heads(x, channels) is a view, and x has no memory to look at. Give a "
                "matrix, array or vector, or a Map, Block or Ref; an expression is evaluated into "
                "a variable first.");
  static_assert(std::is_lvalue_reference_v<X> || !detail::is_plain<X>,
                "tokennorm: heads(x, channels) is a view, and x is a temporary matrix, array or "
                "vector, which is gone with its values. Give a variable.");
  if constexpr (detail::has_direct_access<X>) {
    const auto view = detail::view_of(x);
    using Element = std::remove_pointer_t<decltype(view.data)>;
    using Rows = detail::Strided<Element, detail::layout_of<X>>;
    return detail::Heads<Rows>{detail::strided<Element, detail::layout_of<X>>(view), channels};
  } else {
    using Rows = detail::Strided<float, detail::Layout::rows>;
    return detail::Heads<Rows>{Rows(nullptr, 0, 0, Eigen::OuterStride<>(0)), channels};
  }
}

// ---- the calls of a norm ------------------------------------------------------------------------

namespace detail {

template <class Kind, class Param, int Channels>
template <class Rows>
void Norm<Kind, Param, Channels>::check_heads(const char* name, const Heads<Rows>& x) const {
  const Index tokens = x.rows.rows(), width = x.rows.cols();
  const auto fail_because = [&](const char* expected) {
    fail(who(), {name, " is ", tokens, " x ", width, " (tokens x channels) in heads of ",
                 x.channels, "; expected ", expected, channels(), " channels"});
  };
  if (x.channels != channels()) [[unlikely]]
    fail_because("heads of ");
  if (width == 0 || width % channels() != 0) [[unlikely]]
    fail_because("a multiple of ");
}

template <class Kind, class Param, int Channels>
template <class X, class Y, Executor E>
void Norm<Kind, Param, Channels>::operator()(Heads<X> x, Heads<Y> y, E&& executor) const {
  if constexpr (check_operands<Channels, Read<X>, Written<Y&>>())
    heads_call<Accumulator<ScalarOf<X>, ScalarOf<Y>>>(x, y, nullptr, executor);
}

template <class Kind, class Param, int Channels>
template <class X, class Y, class S, Executor E>
void Norm<Kind, Param, Channels>::normalize(Heads<X> x, Heads<Y> y, TokenStatistics<S>& stats,
                                            E&& executor) const {
  if constexpr (check_operands<Channels, Read<X>, Written<Y&>>())
    heads_call<S>(x, y, &stats, executor);
}

/// Kernels take tokens with one stride. Heads that have more are done a row at a time; in columns,
/// where the tokens of a head stand side by side, a head at a time, if they are enough.
template <class Kind, class Param, int Channels>
template <class S, class X, class Y, class E>
void Norm<Kind, Param, Channels>::heads_call(const Heads<X>& x, Heads<Y>& y,
                                             TokenStatistics<S>* stats, E& executor) const {
  check_heads("x", x);
  check_heads("y", y);
  const auto in = as_const(view_of(x.rows));
  const Output output(who(), "y", y.rows, in.tokens, in.channels);
  const auto out = output.view();
  const Index width = channels(), count = x.count();
  check_parameters();
  output.check_apart("x", in);
  const OwnMemory<S, GradientScalar> own(*this, stats, nullptr);
  own.check_apart("y", out, true);
  if (stats != nullptr) {
    own.check_apart("x", in, false);
    size_statistics(*stats, in.tokens * count);
  }

  using A = Accumulator<ScalarOf<X>, ScalarOf<Y>>;
  const auto run = [&](const auto& from, const auto& to, S* means, S* rstds, Index begin,
                       Index end) {
    const auto norm = arguments_at<A>(means, rstds);
    if constexpr (NativeScalar<A>) {
      using X0 = ScalarOf<X>;
      const auto none = kernels::Operand<X0>::none_beside(from);
      const kernels::Forward<centred, A, X0, X0, X0, ScalarOf<Y>, Param, S> call{
          from.tokens, width, from, kernels::as_const(none), A(1), none, norm, to};
      forward_kernel<X, Y>(call, all_contiguous(from, to))(call, begin, end);
    } else {
      kernels::generic::normalize(from, to, norm, begin, end);
    }
  };
  S* const mean = stats != nullptr && centred ? stats->mean.data() : nullptr;
  S* const rstd = stats != nullptr ? stats->rstd.data() : nullptr;
  const auto at = [](S* statistics, Index i) {
    return statistics == nullptr ? nullptr : statistics + i;
  };
  constexpr Index together = 64;  // tokens of a head, whose statistics are then put in their places
  const bool are_rows = in.token_stride >= in.channel_stride || in.tokens < together / 4;

  if (is_one_view(in, width) && is_one_view(out, width)) {
    const auto from = all_heads(in, width);
    const auto to = all_heads(out, width);
    executor.parallel_for(from.tokens, token_grain(width),
                          [&](Index begin, Index end) { run(from, to, mean, rstd, begin, end); });
  } else if (are_rows) {
    executor.parallel_for(in.tokens, token_grain(in.channels), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        run(heads_of_row(in, t, width), heads_of_row(out, t, width), at(mean, t * count),
            at(rstd, t * count), 0, count);
      }
    });
  } else {
    executor.parallel_for(count, token_grain(in.tokens * width), [&](Index begin, Index end) {
      for (Index h = begin; h < end; ++h) {
        for (Index t = 0; t < in.tokens; t += together) {
          const Index tokens = std::min(together, in.tokens - t);
          S means[together], rstds[together];
          run(head_of_rows(in, h, width, t, tokens), head_of_rows(out, h, width, t, tokens),
              mean == nullptr ? nullptr : means, rstd == nullptr ? nullptr : rstds, 0, tokens);
          for (Index i = 0; i < tokens; ++i) {
            if (mean != nullptr) mean[(t + i) * count + h] = means[i];
            if (rstd != nullptr) rstd[(t + i) * count + h] = rstds[i];
          }
        }
      }
    });
  }
}

/// How tokens are summed up for the gradients depends on their number: heads that are not one view
/// are copied into one, the results back.
template <class Kind, class Param, int Channels>
template <class X, class S, class DY, class DX, class G, Executor E>
void Norm<Kind, Param, Channels>::backpropagate(Heads<X> x, const TokenStatistics<S>& stats,
                                                Heads<DY> dy, Heads<DX> dx,
                                                NormGradients<G>& gradients, E&& executor) const {
  check_operand_type<X, Channels>();
  check_operand_type<DY, Channels>();
  check_operands<Channels, Written<DX&>>();
  check_heads("x", x);
  check_heads("dy", dy);
  check_heads("dx", dx);
  const auto in = as_const(view_of(x.rows));
  const auto out_gradient = as_const(view_of(dy.rows));
  check_shape(who(), "dy", out_gradient, in.tokens, in.channels);
  const Output output(who(), "dx", dx.rows, in.tokens, in.channels);
  const OwnMemory<S, G> own(*this, &stats, &gradients);
  const auto check_read = [&](const char* name, const auto& view) {
    output.check_apart(name, view);
    own.check_apart(name, view, false);
  };
  check_read("x", in);
  check_read("dy", out_gradient);
  own.check_apart("dx", output.view(), true);

  TokensOfHeads x_tokens(x);
  TokensOfHeads dy_tokens(dy);
  TokensOfHeads dx_tokens(dx);
  x_tokens.copy_in(executor);
  dy_tokens.copy_in(executor);
  auto result = dx_tokens();
  backward_call("x", x_tokens(), stats, dy_tokens(), Absent{}, result, gradients, executor);
  dx_tokens.copy_out(executor);
}

}  // namespace detail
}  // namespace tokennorm
