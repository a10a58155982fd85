// SPDX-License-Identifier: MIT
/// Sublayers whose update is multiplied on its way into the stream:
///
///     Scaled(f, s)                                            s·f(n)
///     LayerScale(f, channels, initial)                        γ∘f(n), γ learned
///     DropPath(f, probability, tokens_per_sequence, seed)     in training, a sequence loses its
///                                       update with that probability p, or gets 1/(1 − p) of it
///
/// They are sublayers for anybody, in inference and training. In a connection the factor becomes
/// part of its step, behind the norm on the update where there is one: s∘post(f(n)). They may be
/// nested: DropPath(LayerScale(f, channels), p, tokens_per_sequence, seed).
///
/// Shapes   γ (C); visited as <sublayer>.layer_scale
/// Error    each product is rounded once
/// Throws   std::invalid_argument for a factor that is not finite, a p outside [0, 1), and tokens
///          that are no whole number of sequences
/// Source   Touvron et al. 2021, arXiv:2103.17239, eq. 4 (LayerScale);
///          Huang et al. 2016, arXiv:1603.09382, section 3 (stochastic depth)
#pragma once

#include "tokennorm/block/sublayer.hpp"
#include "tokennorm/block/visiting.hpp"
#include "tokennorm/norm/backward_step.hpp"

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm {

namespace detail {

/// The context of a sublayer that is called by another: a BlockIndex at the end is its block's.
template <class... Args>
auto context_from(Args&... args) {
  return CallContext<const Serial, Args...>{serial, {args...}};
}
template <class F, class Tokens, class... Args>
TokenMatrix<typename Tokens::Scalar> result_of(Who who, const F& f, const Tokens& n,
                                               Args&... args) {
  Tokens y;
  call_sublayer(who, "sublayer", f, n, y, context_from(args...));
  return y;
}
template <class F, class Tokens, class... Args>
Tokens trained_result_of(Who who, F& f, const Tokens& n, Args&... args) {
  Tokens y;
  train_sublayer(who, "sublayer", f, n, y, context_from(args...));
  return y;
}
template <class F, class Tokens, class... Args>
Tokens gradient_of(Who who, F& f, const Tokens& dy, Args&... args) {
  Tokens dx;
  backpropagate_sublayer(who, "sublayer", f, dy, dx, context_from(args...));
  return dx;
}

/// The sublayer inside, for what visits parameters; once, where it is shared by std::ref.
template <class F, class Visitor>
void visit_inner(F& f, Visitor& visitor) {
  auto& inner = unwrap(f);
  if constexpr (requires { inner.visit_parameters(visitor); }) {
    if constexpr (std::is_base_of_v<WithVisited, Visitor>) {
      if (!visitor.visited.is_first_visit(inner)) return;
    }
    inner.visit_parameters(visitor);
  }
}

inline void check_finite(const char* who, const char* what, double value) {
  if (is_finite_magnitude(std::abs(value))) return;
  const std::string text = std::to_string(value);
  fail({who}, {what, " is ", text.c_str(), "; expected a finite number"});
}

}  // namespace detail

/// s·f(n)
template <class F>
class Scaled {
 public:
  /// Throws std::invalid_argument for a factor that is not finite.
  Scaled(F f, double factor) : f_(std::move(f)), factor_(factor) {
    detail::check_finite("Scaled", "factor", factor);
  }

  /// What it is made of.
  double factor() const { return factor_; }
  auto& sublayer() { return detail::unwrap(f_); }
  const auto& sublayer() const { return detail::unwrap(f_); }

  /// As a sublayer, with what belongs to the call.
  template <class S, class... Args>
  TokenMatrix<S> operator()(const TokenMatrix<S>& n, Args&&... args) const {
    return detail::result_of({"Scaled"}, f_, n, args...) * S(factor_);
  }
  template <class S, class... Args>
  TokenMatrix<S> forward(const TokenMatrix<S>& n, Args&&... args) {
    return detail::trained_result_of({"Scaled"}, f_, n, args...) * S(factor_);
  }
  template <class S, class... Args>
  TokenMatrix<S> backward(const TokenMatrix<S>& dy, Args&&... args) {
    return detail::gradient_of({"Scaled"}, f_, TokenMatrix<S>(dy * S(factor_)), args...);
  }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    detail::visit_inner(f_, visitor);
  }
  void zero_gradients() { detail::zero_gradients_of(sublayer()); }

 private:
  F f_;
  double factor_;
};

/// γ∘f(n), with a learned γ.
template <class F, class Param = float>
class LayerScale {
 public:
  /// γ and dγ are kept in these.
  using Vector = Eigen::Matrix<Param, Eigen::Dynamic, 1>;
  using GradientVector = Eigen::Matrix<Accumulator<Param>, Eigen::Dynamic, 1>;

  /// γ = initial
  LayerScale(F f, Index channels, double initial = 1e-5) : f_(std::move(f)) {
    if (channels < 1) {
      detail::fail({"LayerScale"}, {"channels is ", channels, "; expected 1 or more"});
    }
    detail::check_finite("LayerScale", "the initial value", initial);
    layer_scale_ = Vector::Constant(channels, Param(initial));
    gradient_ = GradientVector::Zero(channels);
  }

  /// γ, dγ, f.
  Vector& layer_scale() { return layer_scale_; }
  const Vector& layer_scale() const { return layer_scale_; }
  GradientVector& gradient() { return gradient_; }
  auto& sublayer() { return detail::unwrap(f_); }
  const auto& sublayer() const { return detail::unwrap(f_); }

  /// As a sublayer, with what belongs to the call; γ is visited as layer_scale.
  template <class S, class... Args>
  TokenMatrix<S> operator()(const TokenMatrix<S>& n, Args&&... args) const {
    return scaled(detail::result_of(who(), f_, n, args...));
  }
  template <class S, class... Args>
  TokenMatrix<S> forward(const TokenMatrix<S>& n, Args&&... args) {
    const TokenMatrix<S> u = detail::trained_result_of(who(), f_, n, args...);
    update_ = u.template cast<Accumulator<Param>>();
    return scaled(u);
  }
  template <class S, class... Args>
  TokenMatrix<S> backward(const TokenMatrix<S>& dy, Args&&... args) {
    gradient_ +=
        dy.template cast<Accumulator<Param>>().cwiseProduct(update_).colwise().sum().transpose();
    return detail::gradient_of(who(), f_, scaled(dy), args...);
  }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    const std::string name = "layer_scale";
    Eigen::Map<Vector> value(layer_scale_.data(), layer_scale_.size());
    Eigen::Map<GradientVector> gradient(gradient_.data(), gradient_.size());
    visitor(name, value, gradient);
    detail::visit_inner(f_, visitor);
  }
  void zero_gradients() {
    gradient_.setZero();
    detail::zero_gradients_of(sublayer());
  }

 private:
  detail::Who who() const { return {"LayerScale", layer_scale_.size()}; }
  template <class S>
  TokenMatrix<S> scaled(const TokenMatrix<S>& u) const {
    return u * layer_scale_.template cast<S>().asDiagonal();
  }

  F f_;
  Vector layer_scale_;
  GradientVector gradient_;
  TokenMatrix<Accumulator<Param>> update_;
};
/// With a γ of float.
template <class F>
LayerScale(F, Index, double) -> LayerScale<F>;
template <class F>
LayerScale(F, Index) -> LayerScale<F>;

/// f(n); in training 0, with probability p for each sequence, else f(n)/(1 − p).
template <class F>
class DropPath {
 public:
  /// Two of the same seed drop the same sequences.
  DropPath(F f, double probability, Index tokens_per_sequence, std::uint64_t seed)
      : f_(std::move(f)),
        probability_(probability),
        tokens_per_sequence_(tokens_per_sequence),
        generator_(seed) {
    if (!(probability >= 0 && probability < 1)) {
      const std::string text = std::to_string(probability);
      detail::fail({"DropPath"},
                   {"probability is ", text.c_str(), "; expected 0 or more, below 1"});
    }
    if (tokens_per_sequence < 1) {
      detail::fail({"DropPath"},
                   {"tokens_per_sequence is ", tokens_per_sequence, "; expected 1 or more"});
    }
  }

  /// What it is made of.
  double probability() const { return probability_; }
  auto& sublayer() { return detail::unwrap(f_); }
  const auto& sublayer() const { return detail::unwrap(f_); }

  /// Throws where so many tokens are no whole number of sequences, as training does.
  void check_tokens(Index tokens) const {
    if (tokens % tokens_per_sequence_ != 0) {
      detail::fail({"DropPath"}, {"there are ", tokens, " tokens; expected a multiple of ",
                                  tokens_per_sequence_, ", the tokens of a sequence"});
    }
  }
  /// The factors of so many tokens, drawn anew: 0, or 1/(1 − p).
  template <class A>
  void draw(Index tokens, Eigen::Matrix<A, Eigen::Dynamic, 1>& factors) {
    check_tokens(tokens);
    factors.resize(tokens);
    for (Index t = 0; t < tokens; t += tokens_per_sequence_) {
      // 53 bits, as the same number on every platform.
      const double drawn = static_cast<double>(generator_() >> 11) * 0x1p-53;
      factors.segment(t, tokens_per_sequence_)
          .setConstant(drawn < probability_ ? A(0) : A(1 / (1 - probability_)));
    }
  }

  /// As a sublayer, with what belongs to the call.
  template <class S, class... Args>
  TokenMatrix<S> operator()(const TokenMatrix<S>& n, Args&&... args) const {
    return detail::result_of({"DropPath"}, f_, n, args...);
  }
  template <class S, class... Args>
  TokenMatrix<S> forward(const TokenMatrix<S>& n, Args&&... args) {
    draw(n.rows(), factors_);
    return scaled(detail::trained_result_of({"DropPath"}, f_, n, args...));
  }
  template <class S, class... Args>
  TokenMatrix<S> backward(const TokenMatrix<S>& dy, Args&&... args) {
    return detail::gradient_of({"DropPath"}, f_, scaled(dy), args...);
  }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    detail::visit_inner(f_, visitor);
  }
  void zero_gradients() { detail::zero_gradients_of(sublayer()); }

 private:
  template <class S>
  TokenMatrix<S> scaled(const TokenMatrix<S>& u) const {
    return factors_.template cast<S>().asDiagonal() * u;
  }

  F f_;
  double probability_;
  Index tokens_per_sequence_;
  std::mt19937_64 generator_;
  Eigen::VectorXd factors_;
};

namespace detail {

template <class F>
inline constexpr bool is_scaled = false;
template <class F>
inline constexpr bool is_scaled<Scaled<F>> = true;
template <class F>
inline constexpr bool is_drop_path = false;
template <class F>
inline constexpr bool is_drop_path<DropPath<F>> = true;
template <class F>
inline constexpr bool is_layer_scale = false;
template <class F, class Param>
inline constexpr bool is_layer_scale<LayerScale<F, Param>> = true;
template <class F, class A>
inline constexpr bool is_layer_scale_of = false;
template <class F, class A>
inline constexpr bool is_layer_scale_of<LayerScale<F, A>, A> = true;

/// The sublayer that a step calls, after f(scaling) for each factor around it that the step takes
/// over: one learned vector, in the arithmetic type A, and one number for each token can be part of
/// it. What is within others of its kind is called as the sublayer that it is.
template <class A, bool has_learned = false, bool has_tokens = false, class Sublayer, class F>
decltype(auto) without_factors(Sublayer& sublayer, const F& f) {
  auto& scaling = unwrap(sublayer);
  using Scaling = std::remove_cvref_t<decltype(scaling)>;
  constexpr bool learns = is_layer_scale_of<Scaling, A> && !has_learned;
  constexpr bool drops = is_drop_path<Scaling> && !has_tokens;
  if constexpr (is_scaled<Scaling> || learns || drops) {
    f(scaling);
    return without_factors < A, has_learned || learns,
           has_tokens || drops > (scaling.sublayer(), f);
  } else {
    return (scaling);
  }
}

/// What a factor is in an update; that of each token is in `tokens`, if it is in training.
template <class A>
void read_factors(const auto& scaling, kernels::Factors<A>& factors,
                  const Eigen::Matrix<A, Eigen::Dynamic, 1>* tokens = nullptr) {
  using Scaling = std::remove_cvref_t<decltype(scaling)>;
  if constexpr (is_scaled<Scaling>) {
    factors.number *= A(scaling.factor());
  } else if constexpr (is_drop_path<Scaling>) {
    if (tokens != nullptr) factors.tokens = tokens->data();
  } else {
    factors.channels = scaling.layer_scale().data();
  }
}
template <class A>
void draw_factors(auto& scaling, Index count, Eigen::Matrix<A, Eigen::Dynamic, 1>& tokens) {
  if constexpr (is_drop_path<std::remove_cvref_t<decltype(scaling)>>) scaling.draw(count, tokens);
}
template <class A, class U>
void learn_factors(auto& scaling, LearnedFactors<A, U>& learned) {
  if constexpr (is_layer_scale_of<std::remove_cvref_t<decltype(scaling)>, A>) {
    learned = LearnedFactors<A, U>(scaling.layer_scale().data(), scaling.gradient().data());
  }
}

/// f(scaling) for each Scaled, LayerScale and DropPath around a sublayer.
void each_scaling(const auto& sublayer, const auto& f) {
  const auto& scaling = unwrap(sublayer);
  using Scaling = std::remove_cvref_t<decltype(scaling)>;
  if constexpr (is_layer_scale<Scaling> || is_scaled<Scaling> || is_drop_path<Scaling>) {
    f(scaling);
    each_scaling(scaling.sublayer(), f);
  }
}

}  // namespace detail
}  // namespace tokennorm
