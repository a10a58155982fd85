// SPDX-License-Identifier: MIT
/// The one class behind LayerNorm and RMSNorm, which differ in whether the mean is subtracted; its
/// construction, its checks and what the kernels see of it. Its calls are in norm_calls.hpp.
#pragma once

#include "tokennorm/core/executor.hpp"
#include "tokennorm/core/internals.hpp"
#include "tokennorm/core/operands.hpp"
#include "tokennorm/core/saved_for_backward.hpp"
#include "tokennorm/kernels/backward/call.hpp"
#include "tokennorm/kernels/generic/norms.hpp"
#include "tokennorm/kernels/operands.hpp"
#include "tokennorm/kernels/stages/statistics.hpp"
#include "tokennorm/norm/own_memory.hpp"
#include "tokennorm/norm/parameters.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

namespace tokennorm {
template <class Scalar>
struct PartialStatistics;
template <class Scalar>
struct PartialGradientSums;
}  // namespace tokennorm

namespace tokennorm::detail {

template <class Tokens>
struct Heads;

/// The public members of LayerNorm and RMSNorm; documented at LayerNorm.
template <class Kind, class Param, int Channels>
class Norm {
  static_assert(RealScalar<Param>,
                "tokennorm: a norm's parameters must be real and not integers. Name float, double, "
                "Eigen::half, Eigen::bfloat16 or another real Eigen scalar.");

 public:
  /// The scalars, and what the parameters and their gradients are kept in.
  using Options = typename Kind::Options;
  using ParamScalar = Param;
  using Vector = Eigen::Matrix<Param, Eigen::Dynamic, 1>;
  using GradientScalar = Accumulator<Param>;
  using GradientVector = Eigen::Matrix<GradientScalar, Eigen::Dynamic, 1>;
  static constexpr bool centred = Kind::centred;

  /// γ = 1 − scale_offset, β = 0.
  explicit Norm(Index channels, Options options);

  /// C
  Index channels() const { return Channels == Eigen::Dynamic ? channels_ : Index{Channels}; }
  /// Those in force.
  const Options& options() const { return options_; }
  /// LayerNorm or RMSNorm.
  static constexpr NormKind kind() { return Kind::kind; }
  /// γ (C); empty when switched off.
  Vector& scale() { return scale_; }
  const Vector& scale() const { return scale_; }
  /// β (C); empty when switched off.
  Vector& shift() { return shift_; }
  const Vector& shift() const { return shift_; }

  /// Inference: y = N(x), returned as what x is, or into y, which may be x; const, thread-safe, and
  /// without an allocation.
  template <class X>
  auto operator()(const X& x) const {
    return (*this)(x, serial);
  }
  template <class X, Executor E>
  auto operator()(const X& x, E&& executor) const;
  template <class X, class Y>
  requires(!Executor<Y>) void operator()(const X& x, Y&& y) const {
    (*this)(x, std::forward<Y>(y), serial);
  }
  template <class X, class Y, Executor E>
  void operator()(const X& x, Y&& y, E&& executor) const {
    if constexpr (check_operands<Channels, Read<X>, Written<Y>>())
      forward_call<Accumulator<ScalarOf<X>, ScalarOf<Y>>>(x, y, nullptr, executor);
  }
  template <class X, class Y, Number T>
  void operator()(const X&, Y&&, T) const {
    static_assert(is_never<T>,
                  "tokennorm: the last argument of a call is an executor, with a parallel_for, and "
                  "not a number: norm(x, y), norm(x, y, executor).");
  }

  /// Training, nothing hidden: y = N(x), and the statistics of each token; dx is overwritten, dγ
  /// and dβ are added to.
  template <class X, class Y, class S, Executor E = const Serial&>
  void normalize(const X& x, Y&& y, TokenStatistics<S>& stats, E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<X>, Written<Y>>())
      forward_call<S>(x, y, &stats, executor);
  }
  template <class X, class S, class DY, class DX, class G, Executor E = const Serial&>
  void backpropagate(const X& x, const TokenStatistics<S>& stats, const DY& dy, DX&& dx,
                     NormGradients<G>& gradients, E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<X>, Read<DY>, Written<DX>>())
      backward_call("x", x, stats, dy, Absent{}, dx, gradients, executor);
  }

  /// The same of heads(x, channels), which are taken by value, so that these are the better
  /// overloads for them; see heads.hpp.
  template <class X, class Y, Executor E = const Serial&>
  void operator()(Heads<X> x, Heads<Y> y, E&& executor = serial) const;
  template <class X, class Y, class S, Executor E = const Serial&>
  void normalize(Heads<X> x, Heads<Y> y, TokenStatistics<S>& stats, E&& executor = serial) const;
  template <class X, class S, class DY, class DX, class G, Executor E = const Serial&>
  void backpropagate(Heads<X> x, const TokenStatistics<S>& stats, Heads<DY> dy, Heads<DX> dx,
                     NormGradients<G>& gradients, E&& executor = serial) const;

  /// Statistics as data; see partial_statistics.hpp.
  template <class X, class S, Executor E = const Serial&>
  void partial_statistics(const X& x, PartialStatistics<S>& partial, E&& executor = serial) const;
  template <class R, class U, class Sum, class S, Executor E = const Serial&>
  void partial_statistics_sum(const R& residual, const U& update, Sum&& sum,
                              PartialStatistics<S>& partial, E&& executor = serial) const;
  template <class X, class S, class Y, Executor E = const Serial&>
  void apply(const X& x, const PartialStatistics<S>& partial, Y&& y, E&& executor = serial) const;
  template <class X, class S, class DY, Executor E = const Serial&>
  void partial_gradient_sums(const X& x, const PartialStatistics<S>& partial, const DY& dy,
                             PartialGradientSums<S>& sums, E&& executor = serial) const;
  template <class X, class S, class DY, class DX, class G, Executor E = const Serial&>
  void backpropagate(const X& x, const PartialStatistics<S>& partial, const DY& dy,
                     const PartialGradientSums<S>& sums, DX&& dx, NormGradients<G>& gradients,
                     E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<X>, Read<DY>, Written<DX>>())
      divided_call("x", x, partial, dy, sums, Absent{}, dx, gradients, executor);
  }
  template <class Sum, class S, class DY, class DSum, class DX, class G, Executor E = const Serial&>
  void backpropagate_sum(const Sum& sum, const PartialStatistics<S>& partial, const DY& dy,
                         const PartialGradientSums<S>& sums, const DSum& dsum, DX&& dx,
                         NormGradients<G>& gradients, E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<Sum>, Read<DY>, Read<DSum>, Written<DX>>())
      divided_call("sum", sum, partial, dy, sums, dsum, dx, gradients, executor);
  }

  /// Fused residual: sum = residual + update, y = N(sum), of the sum as it is stored, or would be;
  /// back, dx = dsum + the gradient through the norm.
  template <class R, class U, class Sum, class Y, class S, Executor E = const Serial&>
  void normalize_sum(const R& residual, const U& update, Sum&& sum, Y&& y,
                     TokenStatistics<S>& stats, E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<R>, Read<U>, Written<Sum>, Written<Y>>())
      sum_call<S>(residual, update, sum, y, &stats, executor);
  }
  template <class R, class U, class Sum, class Y, Executor E = const Serial&>
  requires(is_dense<Sum>&& is_dense<Y>) void normalize_sum(const R& residual, const U& update,
                                                           Sum&& sum, Y&& y,
                                                           E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<R>, Read<U>, Written<Sum>, Written<Y>>())
      sum_call<Accumulator<ScalarOf<R>, ScalarOf<U>, ScalarOf<Sum>, ScalarOf<Y>>>(
          residual, update, sum, y, nullptr, executor);
  }
  template <class R, class U, class Y, class S, Executor E = const Serial&>
  void normalize_sum(const R& residual, const U& update, Y&& y, TokenStatistics<S>& stats,
                     E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<R>, Read<U>, Written<Y>>())
      sum_call<S>(residual, update, Absent{}, y, &stats, executor);
  }
  template <class R, class U, class Y, Executor E = const Serial&>
  requires(is_dense<Y>) void normalize_sum(const R& residual, const U& update, Y&& y,
                                           E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<R>, Read<U>, Written<Y>>())
      sum_call<Accumulator<ScalarOf<R>, ScalarOf<U>, ScalarOf<Y>>>(residual, update, Absent{}, y,
                                                                   nullptr, executor);
  }
  template <class Sum, class S, class DY, class DSum, class DX, class G, Executor E = const Serial&>
  void backpropagate_sum(const Sum& sum, const TokenStatistics<S>& stats, const DY& dy,
                         const DSum& dsum, DX&& dx, NormGradients<G>& gradients,
                         E&& executor = serial) const {
    if constexpr (check_operands<Channels, Read<Sum>, Read<DY>, Read<DSum>, Written<DX>>())
      backward_call("sum", sum, stats, dy, dsum, dx, gradients, executor);
  }

  /// Training, as a module, in Param: the norm remembers x and its statistics, and adds to its
  /// gradients.
  template <class X, Executor E = const Serial&>
  auto forward(const X& x, E&& executor = serial);
  template <class DY, Executor E = const Serial&>
  auto backward(const DY& dy, E&& executor = serial);
  /// dγ and dβ, of all backwards since they were zeroed.
  NormGradients<GradientScalar>& gradients() {
    check_gradients(gradients_);
    size_gradients(gradients_);
    return gradients_;
  }
  /// dγ = dβ = 0.
  void zero_gradients() {
    gradients().scale.setZero();
    gradients().shift.setZero();
  }
  /// visitor(name, value, gradient), all lvalues, for "scale" and "shift" where they are on.
  template <class Visitor>
  void visit_parameters(Visitor&& visitor);

 private:
  friend struct Internals;

  /// "LayerNorm(768)"
  Who who() const { return {Kind::name, channels()}; }

  /// Fails unless x has this norm's channels and the parameters still have their size.
  template <class Scalar>
  void check_input(const char* name, const TokenView<Scalar>& view) const {
    check_channels(who(), name, view);
    check_parameters();
  }
  void check_parameters() const {
    if (scale_.size() != parameter_size(options_.scale) ||
        shift_.size() != parameter_size(options_.shift)) [[unlikely]] {
      fail_parameters();
    }
  }

  /// Fails where the output of a block stands in the memory of the parameters.
  template <class T>
  void check_output(const TokenView<T>& y) const {
    OwnMemory<GradientScalar, GradientScalar>(*this, nullptr, nullptr).check_apart("y", y, true);
  }

  /// The norm for the kernels; the statistics of each token go to `stats`, if there are any.
  template <class A, class S>
  auto arguments(TokenStatistics<S>* stats) const {
    return arguments_at<A>(stats != nullptr && centred ? stats->mean.data() : nullptr,
                           stats != nullptr ? stats->rstd.data() : nullptr);
  }

  /// The same without any.
  template <class A>
  auto arguments() const {
    return arguments_at<A, A>(nullptr, nullptr);
  }

  /// What a backward kernel is given.
  template <class A, class X, class DY, class DX, class S, class DSum = DX>
  using BackwardCall = kernels::Backward<centred, A, X, DY, DX, Param, S, DSum>;

  /// The same for a backward, which reads the statistics.
  template <class A, class S>
  auto saved_arguments(const TokenStatistics<S>& stats) const {
    return arguments_at<A>(centred ? stats.mean.data() : nullptr, stats.rstd.data());
  }

  /// Makes room for the statistics of so many tokens.
  template <class S>
  static void size_statistics(TokenStatistics<S>& stats, Index tokens) {
    stats.rstd.resize(tokens);
    stats.mean.resize(centred ? tokens : 0);
  }

  struct Memory {
    TokenMatrix<Param> x;
    TokenStatistics<GradientScalar> stats;
    bool valid = false;
  };

  template <class A, class S>
  auto arguments_at(S* mean, S* rstd) const;

  template <class S, class X, class Y, class E>
  void forward_call(const X& x, Y& y, TokenStatistics<S>* stats, E& executor) const;
  template <class S, class X, class Y, class E>
  void heads_call(const Heads<X>& x, Heads<Y>& y, TokenStatistics<S>* stats, E& executor) const;
  template <class X>
  void check_heads(const char* name, const Heads<X>& x) const;
  template <class S, class R, class U, class Sum, class Y, class E>
  void sum_call(const R& residual, const U& update, Sum&& sum, Y& y, TokenStatistics<S>* stats,
                E& executor) const;
  template <class X, class S, class DY, class DSum, class DX, class G, class E>
  void backward_call(const char* x_name, const X& x, const TokenStatistics<S>& stats, const DY& dy,
                     const DSum& dsum, DX& dx, NormGradients<G>& gradients, E& executor,
                     const kernels::DividedTokens<S>* divided = nullptr) const;
  template <class X, class S, class DY, class DSum, class DX, class G, class E>
  void divided_call(const char* x_name, const X& x, const PartialStatistics<S>& partial,
                    const DY& dy, const PartialGradientSums<S>& sums, const DSum& dsum, DX& dx,
                    NormGradients<G>& gradients, E& executor) const;

  Index parameter_size(bool is_on) const { return is_on ? channels() : 0; }
  [[noreturn, gnu::cold, gnu::noinline]] void fail_parameters() const {
    if (const Index size = parameter_size(options_.scale); scale_.size() != size) {
      fail_size(who(), "scale", scale_.size(), size);
    }
    fail_size(who(), "shift", shift_.size(), parameter_size(options_.shift));
  }
  template <class G>
  void check_gradients(const NormGradients<G>& gradients) const;
  template <class G>
  void size_gradients(NormGradients<G>& gradients) const;

  template <class S, class G>
  using OwnMemory = detail::OwnMemory<Norm, S, G>;

  Index statistics_channels() const {
    if constexpr (centred) {
      return 0;
    } else {
      return options_.statistics_channels;
    }
  }

  /// Those that the statistics are taken of.
  Index counted_channels() const {
    return statistics_channels() == 0 ? channels() : statistics_channels();
  }

  Index channels_;
  Options options_;
  Vector scale_, shift_;
  NormGradients<GradientScalar> gradients_;
  SavedForBackward<Memory> memory_;
};

/// Whether a number is 0 or more, and finite. In terms of bits, whose order is that of the numbers,
/// with NaN above and the negative ones below: a NaN must not pass in a build that thinks there is
/// none.
inline bool is_finite_magnitude(double value) {
  const auto bits = kernels::hidden_bits(value);
  return bits >= 0 && bits <= std::bit_cast<std::int64_t>(std::numeric_limits<double>::max());
}

// ---- construction -------------------------------------------------------------------------------

template <class Kind, class Param, int Channels>
Norm<Kind, Param, Channels>::Norm(Index channels, Options options)
    : channels_(channels), options_(options) {
  if (channels < 1) {
    fail({Kind::name}, {"channels is ", channels, "; expected 1 or more"});
  }
  if (Channels != Eigen::Dynamic && channels != Channels) {
    fail({Kind::name},
         {"channels is ", channels, "; expected ", Index{Channels}, ", the channels of the type"});
  }
  if (!is_finite_magnitude(options.epsilon + 0.0)) {  // −0 is 0
    const std::string epsilon = std::to_string(options.epsilon);
    fail(who(), {"epsilon is ", epsilon.c_str(), "; expected a finite number, 0 or more"});
  }
  if (!is_finite_magnitude(std::abs(options.scale_offset))) {
    const std::string offset = std::to_string(options.scale_offset);
    fail(who(), {"scale_offset is ", offset.c_str(), "; expected a finite number"});
  }
  if (statistics_channels() < 0 || statistics_channels() > channels) {
    fail(who(),
         {"statistics_channels is ", statistics_channels(), "; expected 0 (all) to ", channels});
  }
  if (options.scale) scale_ = Vector::Constant(channels, Param(1 - options.scale_offset));
  if (options.shift) shift_ = Vector::Constant(channels, Param(0));
}

// ---- checks -------------------------------------------------------------------------------------

template <class Kind, class Param, int Channels>
template <class G>
void Norm<Kind, Param, Channels>::check_gradients(const NormGradients<G>& gradients) const {
  const auto check = [this](const char* name, bool on, const auto& gradient) {
    if (!on || gradient.size() == channels() || gradient.size() == 0) return;
    fail_size(who(), name, gradient.size(), channels(), ", or none yet");
  };
  check("the gradient of scale", options_.scale, gradients.scale);
  check("the gradient of shift", options_.shift, gradients.shift);
}

template <class Kind, class Param, int Channels>
template <class G>
void Norm<Kind, Param, Channels>::size_gradients(NormGradients<G>& gradients) const {
  const auto size = [this](bool on, auto& gradient) {
    if (on && gradient.size() != channels()) gradient.setZero(channels());
  };
  size(options_.scale, gradients.scale);
  size(options_.shift, gradients.shift);
}

// ---- the kernels' view --------------------------------------------------------------------------

template <class Kind, class Param, int Channels>
template <class A, class S>
auto Norm<Kind, Param, Channels>::arguments_at(S* mean, S* rstd) const {
  static_assert(
      NativeScalar<A> == NativeScalar<Param>,
      "tokennorm: the parameters of a norm of any scalar other than float, double, half and "
      "bfloat16 have that scalar, for instance LayerNorm<long double>.");
  const Param* scale = options_.scale ? scale_.data() : nullptr;
  const Param* shift = options_.shift ? shift_.data() : nullptr;
  if constexpr (NativeScalar<A>) {
    return kernels::NormArguments<centred, Param, S>{
        scale, shift, options_.scale_offset, options_.epsilon, statistics_channels(), mean, rstd};
  } else {
    return kernels::generic::NormArguments<centred, A, S>{
        scale, shift, A(options_.scale_offset), A(options_.epsilon), statistics_channels(),
        mean,  rstd};
  }
}

}  // namespace tokennorm::detail
