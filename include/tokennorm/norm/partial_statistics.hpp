// SPDX-License-Identifier: MIT
/// Norms of tokens whose channels are divided, over machines say, with statistics as data:
///
///     left.partial_statistics(x.leftCols(384), statistics);   // left, right: of 384 channels each
///     right.partial_statistics(x.rightCols(384), other);
///     merge(statistics, other);                               // of all 768
///     left.apply(x.leftCols(384), statistics, y.leftCols(384));
///     right.apply(x.rightCols(384), statistics, y.rightCols(384));
///
///     left.partial_statistics_sum(residual, update, sum, statistics);   // of residual + update
///
///     left.partial_gradient_sums(x.leftCols(384), statistics, dy.leftCols(384), sums);
///     right.partial_gradient_sums(x.rightCols(384), statistics, dy.rightCols(384), other_sums);
///     merge(sums, other_sums);
///     left.backpropagate(x.leftCols(384), statistics, dy.leftCols(384), sums, dx.leftCols(384),
///                        gradients_of_left);          // backpropagate_sum(…, sums, dsum, dx, …)
///
///     of a part    n,  μ = Σx/n,  M₂ = Σ(x − μ)²                 (RMSNorm: M₂ = Σx²)
///     of two       δ = μb − μa,  n = na + nb,  μ = μa + δ·nb/n,  M₂ = M₂a + M₂b + δ²·na·nb/n
///     results      y = (x − μ)/√(M₂/n + ε)·(o + γ) + β
///     backward     Σ g and Σ g·x̂, g = (o + γ)·dy, which merge by addition
///
/// Shapes     x, y (T, C) of any strides, C the channels of the part · statistics, sums (T) · γ, β
///            (C)
/// Error      that of the norm (LayerNorm), whatever the division of the channels; `merge` adds a
///            few roundings of the type of the moments. tests/norm/partial_statistics.cpp
/// Results    the same bits for a token in any batch and under any executor, for the same division
///            merged in the same order
/// Memory     allocates statistics that have another size, and what it needs for a backward or for
///            operands whose channels are not contiguous
/// Aliasing   y may be x, dx may be x, dy or dsum; any other overlap is refused
/// Throws     std::invalid_argument, before anything is written, on a shape mismatch, a refused
///            overlap, and statistics of other tokens or of the other kind of norm
/// Source     Chan, Golub, LeVeque 1983, "Algorithms for Computing the Sample Variance", eq. 2.1
#pragma once

#include "tokennorm/kernels/backward/divided.hpp"
#include "tokennorm/kernels/forward/moments.hpp"
#include "tokennorm/norm/norm_calls.hpp"

#include <Eigen/Core>

#include <cstddef>
#include <type_traits>
#include <vector>

namespace tokennorm {

/// What is known of some channels of each token, merged or not: how many there are, and their mean
/// and M₂, both (T). Scalar is that of the arithmetic, float or double. An RMSNorm's leave mean
/// empty, and its M₂ is Σx².
template <class Scalar>
struct PartialStatistics {
  using Number = kernels::Moment<Scalar>;  ///< double; for double two of them with an exponent

  Index count = 0;                                ///< of channels
  Eigen::Matrix<Number, Eigen::Dynamic, 1> mean;  ///< μ of these channels
  Eigen::Matrix<Number, Eigen::Dynamic, 1> m2;    ///< Σ(x − μ)² over them
};

/// Of some channels of each token, merged or not: Σ g and Σ g·x̂, both (T), g = (o + γ)·dy. Each
/// merges as a number; what x̂ is there is told in kernels/backward/divided.hpp.
template <class Scalar>
struct PartialGradientSums {
  using Number = kernels::PreciseSum<Scalar>;  ///< double; for double two of them

  Eigen::Matrix<Number, Eigen::Dynamic, 1> g;   ///< Σ g
  Eigen::Matrix<Number, Eigen::Dynamic, 1> gx;  ///< Σ g·x̂
};

namespace detail {

/// Moments of the token, wherever they are.
template <class S>
kernels::Moments<S> moments_of(const PartialStatistics<S>& partial, Index token) {
  if (partial.mean.size() == 0) return {0, partial.m2[token]};
  return {partial.mean[token], partial.m2[token]};
}
template <class S>
void set_moments(PartialStatistics<S>& partial, Index token, const kernels::Moments<S>& moments) {
  if (partial.mean.size() != 0) partial.mean[token] = moments.mean;
  partial.m2[token] = moments.m2;
}

/// Fails unless there are statistics of so many tokens, with means or without.
template <class S>
void check_partial(Who who, const char* name, const PartialStatistics<S>& partial, Index tokens,
                   bool has_means) {
  if (partial.m2.size() != tokens) {
    fail(who, {name, " is of ", partial.m2.size(), " tokens; expected ", tokens});
  }
  if (partial.mean.size() != (has_means ? tokens : 0)) {
    fail(who, {name, " has ", partial.mean.size(), " means; expected ", has_means ? tokens : 0,
               has_means ? ", as of a LayerNorm" : ", as of an RMSNorm"});
  }
  if (tokens > 0 && partial.count < 1) {
    fail(who, {name, " has a count of ", partial.count, "; expected 1 or more channels"});
  }
}

template <class S, class... Operands>
constexpr bool check_partial_scalar() {
  constexpr bool fits =
      (NativeScalar<Operands> && ...) && std::is_same_v<S, Accumulator<Operands...>>;
  static_assert(fits,
                "tokennorm: partial statistics are of the scalar of the arithmetic: "
                "PartialStatistics<double> where x or y is double, PartialStatistics<float> where "
                "they are float, half or bfloat16; of any other scalar there are none.");
  return fits;
}

/// A norm of rows, alone.
template <class Call, class X>
Call row_call(const TokenView<X>& view, const typename Call::Norm& norm,
              const kernels::Operand<X>& x, const kernels::Operand<typename Call::Output>& y) {
  return {view.tokens, view.channels, x, {}, 1, {}, norm, y};
}

template <class S>
void size_partial(PartialStatistics<S>& partial, Index tokens, Index count, bool has_means) {
  partial.count = count;
  partial.mean.resize(has_means ? tokens : 0);
  partial.m2.resize(tokens);
}

/// The moments of a row of a call, whose sum is stored on the way; and its results.
template <class Call, class S>
void take_moments(const Call& call, const kernels::Operand<typename Call::Normalized>& normalized,
                  Index token, PartialStatistics<S>& partial) {
  kernels::Moments<S> moments;
  kernels::dispatch(kernels::MomentsTask<Call>{call, normalized, token, moments});
  set_moments(partial, token, moments);
}
template <class Call, class S>
void apply_moments(const Call& call, const kernels::Operand<typename Call::Normalized>& normalized,
                   Index token, const PartialStatistics<S>& partial) {
  const auto statistics = kernels::statistics_of<Call::centred, S>(
      moments_of(partial, token), partial.count, call.norm.epsilon);
  kernels::dispatch(kernels::LoneRowsTask<Call>{call, normalized, token, token + 1, &statistics});
}

/// A call over tokens whose channels are divided; `merge_parts()` makes the statistics those of all
/// channels. A sum that is not wanted is made in memory of its own.
template <class Call, class S, class MergeParts>
void run_divided(const Call& call, PartialStatistics<S>& partial, const MergeParts& merge_parts) {
  using T = typename Call::Normalized;
  TokenMatrix<T> own;
  kernels::Operand<T> normalized = call.sum;
  if (!call.makes_sums()) {
    normalized = kernels::rows_of_x(call);
  } else if (normalized.data == nullptr) {
    own.resize(call.tokens, call.channels);
    normalized = view_of(own);
  }
  size_partial(partial, call.tokens, call.counted(), Call::centred);
  for (Index t = 0; t < call.tokens; ++t) take_moments(call, normalized, t, partial);
  merge_parts();
  for (Index t = 0; t < call.tokens; ++t) apply_moments(call, normalized, t, partial);
}

/// Tokens of which a kernel takes one row after the other: in place, or gathered from channels that
/// stand apart.
template <class T>
class RowByRow {
 public:
  explicit RowByRow(const TokenView<T>& view) : view_(view) {
    if (!is_in_place()) row_.resize(static_cast<std::size_t>(view.channels));
  }
  kernels::Operand<T> operand() {
    return is_in_place() ? kernels::Operand<T>(view_) : kernels::Operand<T>(row_.data(), 0, 1);
  }
  void read(Index token) {
    if (is_in_place()) return;
    for (Index c = 0; c < view_.channels; ++c) row_[static_cast<std::size_t>(c)] = at(token, c);
  }
  void write(Index token) const {
    if (is_in_place()) return;
    for (Index c = 0; c < view_.channels; ++c) at(token, c) = row_[static_cast<std::size_t>(c)];
  }

 private:
  bool is_in_place() const { return view_.channel_stride == 1; }
  T& at(Index token, Index c) const {
    return view_.row(token)[std::ptrdiff_t{c} * view_.channel_stride];
  }

  TokenView<T> view_;
  std::vector<std::remove_const_t<T>> row_;
};

template <class Kind, class Param, int Channels>
template <class X, class S, Executor E>
void Norm<Kind, Param, Channels>::partial_statistics(const X& x, PartialStatistics<S>& partial,
                                                     E&& executor) const {
  if constexpr (check_operands<Channels, Read<X>>() && check_partial_scalar<S, ScalarOf<X>>()) {
    using X0 = ScalarOf<X>;
    using Call = kernels::Forward<centred, S, X0, X0, X0, X0, Param, S>;
    const auto& operand = addressable(x);
    const auto in = as_const(view_of(operand));
    check_input("x", in);
    size_partial(partial, in.tokens, counted_channels(), centred);
    executor.parallel_for(in.tokens, token_grain(channels()), [&](Index begin, Index end) {
      RowByRow rows(in);
      const auto call = row_call<Call>(in, arguments<S>(), rows.operand(), {});
      const auto normalized = kernels::rows_of_x(call);
      for (Index t = begin; t < end; ++t) {
        rows.read(t);
        take_moments(call, normalized, t, partial);
      }
    });
  }
}

template <class Kind, class Param, int Channels>
template <class R, class U, class Sum, class S, Executor E>
void Norm<Kind, Param, Channels>::partial_statistics_sum(const R& residual, const U& update,
                                                         Sum&& sum, PartialStatistics<S>& partial,
                                                         E&& executor) const {
  if constexpr (check_operands<Channels, Read<R>, Read<U>, Written<Sum>>() &&
                check_partial_scalar<S, ScalarOf<R>, ScalarOf<U>, ScalarOf<Sum>>()) {
    using Stored = ScalarOf<Sum>;
    using Call = kernels::Forward<centred, S, ScalarOf<U>, ScalarOf<R>, Stored, Stored, Param, S>;
    const auto& residual_operand = addressable(residual);
    const auto& update_operand = addressable(update);
    const auto h = as_const(view_of(residual_operand));
    const auto u = as_const(view_of(update_operand));
    check_input("residual", h);
    check_shape(who(), "update", u, h.tokens, h.channels);
    const Output output(who(), "sum", sum, h.tokens, channels());
    output.check_apart("residual", h);
    output.check_apart("update", u);
    check_output(output.view());
    const auto out = output.take();
    size_partial(partial, h.tokens, counted_channels(), centred);
    executor.parallel_for(h.tokens, token_grain(channels()), [&](Index begin, Index end) {
      RowByRow residuals(h);
      RowByRow updates(u);
      RowByRow sums(out);
      const Call call{h.tokens, channels(),     updates.operand(), residuals.operand(),
                      1,        sums.operand(), arguments<S>(),    {}};
      for (Index t = begin; t < end; ++t) {
        residuals.read(t);
        updates.read(t);
        take_moments(call, call.sum, t, partial);
        sums.write(t);
      }
    });
  }
}

template <class Kind, class Param, int Channels>
template <class X, class S, class Y, Executor E>
void Norm<Kind, Param, Channels>::apply(const X& x, const PartialStatistics<S>& partial, Y&& y,
                                        E&& executor) const {
  if constexpr (check_operands<Channels, Read<X>, Written<Y>>() &&
                check_partial_scalar<S, ScalarOf<X>, ScalarOf<Y>>()) {
    using X0 = ScalarOf<X>;
    using Call = kernels::Forward<centred, S, X0, X0, X0, ScalarOf<Y>, Param, S>;
    const auto& operand = addressable(x);
    const auto in = as_const(view_of(operand));
    check_input("x", in);
    check_partial(who(), "partial", partial, in.tokens, centred);
    const Output output(who(), "y", y, in.tokens, channels());
    output.check_apart("x", in);
    output.check_apart("partial.mean", view_of(partial.mean), false);
    output.check_apart("partial.m2", view_of(partial.m2), false);
    check_output(output.view());
    const auto out = output.take();
    executor.parallel_for(in.tokens, token_grain(channels()), [&](Index begin, Index end) {
      RowByRow from(in);
      RowByRow to(out);
      const auto call = row_call<Call>(in, arguments<S>(), from.operand(), to.operand());
      const auto normalized = kernels::rows_of_x(call);
      for (Index t = begin; t < end; ++t) {
        const auto statistics = kernels::statistics_of<centred, S>(moments_of(partial, t),
                                                                   partial.count, options_.epsilon);
        from.read(t);
        kernels::dispatch(kernels::LoneRowsTask<Call>{call, normalized, t, t + 1, &statistics});
        to.write(t);
      }
    });
  }
}

/// Of each token: what the kernels are to know of all its channels.
template <bool Centred, class S>
class DividedStatistics {
 public:
  DividedStatistics(const PartialStatistics<S>& partial, double epsilon)
      : channels_(partial.count) {
    const Index tokens = partial.m2.size();
    rounded_.rstd.resize(tokens);
    rounded_.mean.resize(Centred ? tokens : 0);
    tokens_.reserve(static_cast<std::size_t>(tokens));
    for (Index t = 0; t < tokens; ++t) {
      const auto& token = tokens_.emplace_back(
          kernels::statistics_of<Centred, S>(moments_of(partial, t), partial.count, epsilon));
      rounded_.rstd[t] = token.rstd[0];
      if (Centred) rounded_.mean[t] = token.center[0];
    }
  }

  const TokenStatistics<S>& rounded() const { return rounded_; }
  const kernels::Statistics<S, 1>& operator[](Index token) const {
    return tokens_[static_cast<std::size_t>(token)];
  }

  /// With the sums of all channels, which live here.
  kernels::DividedTokens<S> with(const PartialGradientSums<S>& sums) {
    constexpr Index room = 16;  // for lanes after the last
    const Index tokens = sums.g.size();
    const auto copy = [&](auto& to, const auto& from) {
      to.resize(tokens + room);
      for (Index t = 0; t < tokens + room; ++t) to[t] = t < tokens ? from(t) : Sum{};
      return to.data();
    };
    const auto sum_of_normalized = [&](Index t) {
      const auto& token = (*this)[t];
      Sum sum{};
      if (Centred && token.fallbacks == 0)
        set(sum, -static_cast<double>(token.correction[0]) * static_cast<double>(channels_));
      return sum;
    };
    return {channels_, tokens_.data(), copy(x_, sum_of_normalized),
            copy(g_, [&](Index t) { return sums.g[t]; }),
            copy(gx_, [&](Index t) { return sums.gx[t]; })};
  }

 private:
  using Sum = kernels::PreciseSum<S>;
  static void set(double& sum, double value) { sum = value; }
  static void set(kernels::DoubleDouble& sum, double value) { sum = {value, 0}; }

  Index channels_;
  TokenStatistics<S> rounded_;
  std::vector<kernels::Statistics<S, 1>> tokens_;
  Eigen::Matrix<Sum, Eigen::Dynamic, 1> x_, g_, gx_;
};

/// Σ g and Σ g·x̂ of the channels here.
template <class Norm, class Statistics, class X, class DY, class S, class E>
void take_gradient_sums(const Norm& norm, const Statistics& statistics, const TokenView<X>& x,
                        const TokenView<DY>& dy, PartialGradientSums<S>& sums, E& executor) {
  using Task = kernels::PartialSumsTask<Norm, S, std::remove_const_t<X>, std::remove_const_t<DY>>;
  sums.g.resize(x.tokens);
  sums.gx.resize(x.tokens);
  executor.parallel_for(x.tokens, token_grain(x.channels), [&](Index begin, Index end) {
    RowByRow x_rows(x);
    RowByRow dy_rows(dy);
    for (Index t = begin; t < end; ++t) {
      kernels::PartialSums<S> of_token;
      x_rows.read(t);
      dy_rows.read(t);
      kernels::dispatch(Task{norm, x.channels, kernels::row_of(x_rows.operand(), t),
                             kernels::row_of(dy_rows.operand(), t), statistics[t], of_token});
      sums.g[t] = of_token.g;
      sums.gx[t] = of_token.gx;
    }
  });
}

template <class Kind, class Param, int Channels>
template <class X, class S, class DY, Executor E>
void Norm<Kind, Param, Channels>::partial_gradient_sums(const X& x,
                                                        const PartialStatistics<S>& partial,
                                                        const DY& dy, PartialGradientSums<S>& sums,
                                                        E&& executor) const {
  if constexpr (check_operands<Channels, Read<X>, Read<DY>>() &&
                check_partial_scalar<S, ScalarOf<X>, ScalarOf<DY>>()) {
    const auto& x_operand = addressable(x);
    const auto& dy_operand = addressable(dy);
    const auto in = as_const(view_of(x_operand));
    const auto gradient = as_const(view_of(dy_operand));
    check_input("x", in);
    check_shape(who(), "dy", gradient, in.tokens, channels());
    check_partial(who(), "partial", partial, in.tokens, centred);
    const DividedStatistics<centred, S> statistics(partial, options_.epsilon);
    take_gradient_sums(saved_arguments<S>(statistics.rounded()), statistics, in, gradient, sums,
                       executor);
  }
}

template <class Kind, class Param, int Channels>
template <class X, class S, class DY, class DSum, class DX, class G, class E>
void Norm<Kind, Param, Channels>::divided_call(const char* x_name, const X& x,
                                               const PartialStatistics<S>& partial, const DY& dy,
                                               const PartialGradientSums<S>& sums, const DSum& dsum,
                                               DX& dx, NormGradients<G>& gradients,
                                               E& executor) const {
  if constexpr (check_partial_scalar<S, ScalarOf<X>, ScalarOf<DY>, ScalarOf<DX>>()) {
    check_input(x_name, view_of(addressable(x)));
    const Index tokens = view_of(addressable(x)).tokens;
    check_partial(who(), "partial", partial, tokens, centred);
    if (sums.g.size() != tokens || sums.gx.size() != tokens) {
      fail(who(), {"sums are of ", sums.g.size(), " tokens; expected ", tokens});
    }
    DividedStatistics<centred, S> statistics(partial, options_.epsilon);
    const kernels::DividedTokens<S> divided = statistics.with(sums);
    backward_call(x_name, x, statistics.rounded(), dy, dsum, dx, gradients, executor, &divided);
  }
}

}  // namespace detail

/// Statistics of some channels become those of these and of others of the same tokens. What has no
/// channels yet takes the others'.
///
/// Throws   std::invalid_argument on statistics of other tokens, or of the other kind of norm
template <class Scalar>
PartialStatistics<Scalar>& merge(PartialStatistics<Scalar>& statistics,
                                 const PartialStatistics<Scalar>& others) {
  if (others.count == 0) return statistics;
  if (statistics.count == 0) return statistics = others;
  detail::check_partial({"merge"}, "the second argument", others, statistics.m2.size(),
                        statistics.mean.size() != 0);
  for (Index t = 0; t < statistics.m2.size(); ++t) {
    auto moments = detail::moments_of(statistics, t);
    kernels::merge(moments, statistics.count, detail::moments_of(others, t), others.count);
    detail::set_moments(statistics, t, moments);
  }
  statistics.count += others.count;
  return statistics;
}

/// Sums of some channels become those of these and of others of the same tokens. Where there are
/// none yet, the others'.
///
/// Throws   std::invalid_argument on sums of other tokens
template <class Scalar>
PartialGradientSums<Scalar>& merge(PartialGradientSums<Scalar>& sums,
                                   const PartialGradientSums<Scalar>& others) {
  if (sums.g.size() == 0) return sums = others;
  if (others.g.size() != sums.g.size()) {
    detail::fail({"merge"}, {"the second argument is of ", others.g.size(), " tokens; expected ",
                             sums.g.size()});
  }
  for (Index t = 0; t < sums.g.size(); ++t) {
    sums.g[t] = sums.g[t] + others.g[t];
    sums.gx[t] = sums.gx[t] + others.gx[t];
  }
  return sums;
}

}  // namespace tokennorm
