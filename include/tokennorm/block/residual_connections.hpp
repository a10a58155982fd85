// SPDX-License-Identifier: MIT
/// One sublayer with its residual connection.
///
///     PreLNResidual(norm, f)              y = x + f(norm(x))
///     PostLNResidual(f, norm)             y = norm(x + f(x))
///     SandwichLNResidual(norm, f, norm)   y = x + norm(f(norm(x)))
///     ResPostLNResidual(f, norm)          y = x + norm(f(x))
///     DeepNormResidual(f, norm, alpha)    y = norm(alpha·x + f(x))
///
/// f is any callable that maps tokens to tokens of the same shape: see sublayer.hpp. The norms are
/// LayerNorm or RMSNorm, mixed freely.
///
/// Shapes     x, y (T, C); scalars and kinds of x and y as for the norms
/// Error      that of the norms; the sum is rounded once, to the scalar of x
/// Aliasing   y may be x
/// Throws     std::invalid_argument on a wrong shape, of x or of what f returns, where y overlaps x
///            or either the workspace, and where the norms have different channels, which is asked
///            at every call: they may have been replaced; where alpha is not above 0 and finite;
///            std::logic_error on backward without a forward before it: each backward uses one up,
///            and a forward that throws leaves none
/// Source     Xiong et al. 2020, arXiv:2002.04745 (Pre-LN, Post-LN);
///            Ding et al. 2021, arXiv:2105.13290, section 3.4 (Sandwich-LN);
///            Liu et al. 2022, arXiv:2111.09883, section 3.2 (residual-post-norm: Swin v2, OLMo 2);
///            Wang et al. 2022, arXiv:2203.00555, section 3.2 and figure 2 (DeepNorm)
///
///     auto y = connection(x);   connection(x, y);   connection(x, y, workspace);
///     auto y = connection.forward(x);   auto dx = connection.backward(dy);
///     connection.norm(), output_norm(), sublayer(), visit_parameters(visitor), zero_gradients()
#pragma once

#include "tokennorm/block/chain.hpp"

#include <cmath>
#include <utility>

namespace tokennorm {

namespace detail {

template <class Norm, class F>
using PreLNConnection = ResidualConnection<Norm, F, NoNorm, NoNorm>;  // h + f(pre(h))

template <class F, class Norm>
using PostLNConnection = ResidualConnection<NoNorm, F, NoNorm, Norm>;  // out(alpha·h + f(h))

template <class Norm, class F, class OutputNorm>
using SandwichLNConnection =
    ResidualConnection<Norm, F, OutputNorm, NoNorm>;  // h + post(f(pre(h)))

template <class F, class Norm>
using ResPostLNConnection = ResidualConnection<NoNorm, F, Norm, NoNorm>;  // h + post(f(h))

template <class Norm, class F>
PreLNConnection<Norm, F> pre_ln(Norm&& norm, F&& f) {
  return {std::move(norm), std::move(f), NoNorm{}, NoNorm{}};
}
template <class F, class Norm>
PostLNConnection<F, Norm> post_ln(F&& f, Norm&& norm, double alpha = 1) {
  return {NoNorm{}, std::move(f), NoNorm{}, std::move(norm), alpha};
}
template <class Norm, class F, class OutputNorm>
SandwichLNConnection<Norm, F, OutputNorm> sandwich_ln(Norm&& norm, F&& f,
                                                      OutputNorm&& output_norm) {
  return {std::move(norm), std::move(f), std::move(output_norm), NoNorm{}};
}
template <class F, class Norm>
ResPostLNConnection<F, Norm> res_post_ln(F&& f, Norm&& norm) {
  return {NoNorm{}, std::move(f), std::move(norm), NoNorm{}};
}

/// A chain of one connection, with the names of its parts.
template <class Kind, class Connection>
class Residual : public Chain<Kind, Connection> {
 public:
  using Chain<Kind, Connection>::Chain;

  auto& norm() requires(Connection::has_norm) { return this->template connection<0>().norm(); }
  const auto& norm() const requires(Connection::has_norm) {
    return this->template connection<0>().norm();
  }
  auto& output_norm() requires(is_norm<typename Connection::PostNorm>) {
    return this->template connection<0>().post.norm;
  }
  const auto& output_norm() const requires(is_norm<typename Connection::PostNorm>) {
    return this->template connection<0>().post.norm;
  }
  auto& sublayer() { return unwrap(this->template connection<0>().sublayer); }
  const auto& sublayer() const { return unwrap(this->template connection<0>().sublayer); }
};

struct PreLNResidualKind {
  static constexpr const char* name = "PreLNResidual";
  static constexpr auto& names = residual_names;
};
struct PostLNResidualKind {
  static constexpr const char* name = "PostLNResidual";
  static constexpr auto& names = residual_names;
};
struct SandwichLNResidualKind {
  static constexpr const char* name = "SandwichLNResidual";
  static constexpr auto& names = residual_names;
};
struct ResPostLNResidualKind {
  static constexpr const char* name = "ResPostLNResidual";
  static constexpr auto& names = residual_names;
};
struct DeepNormResidualKind {
  static constexpr const char* name = "DeepNormResidual";
  static constexpr auto& names = residual_names;
};

}  // namespace detail

/// y = x + f(norm(x))
template <class Norm, class F>
class PreLNResidual
    : public detail::Residual<detail::PreLNResidualKind, detail::PreLNConnection<Norm, F>> {
 public:
  PreLNResidual(Norm norm, F f)
      : PreLNResidual::Residual(detail::pre_ln(std::move(norm), std::move(f))) {}
};

/// y = norm(x + f(x))
template <class F, class Norm>
class PostLNResidual
    : public detail::Residual<detail::PostLNResidualKind, detail::PostLNConnection<F, Norm>> {
 public:
  PostLNResidual(F f, Norm norm)
      : PostLNResidual::Residual(detail::post_ln(std::move(f), std::move(norm))) {}
};

/// y = x + output_norm(f(norm(x)))
template <class Norm, class F, class OutputNorm>
class SandwichLNResidual
    : public detail::Residual<detail::SandwichLNResidualKind,
                              detail::SandwichLNConnection<Norm, F, OutputNorm>> {
 public:
  SandwichLNResidual(Norm norm, F f, OutputNorm output_norm)
      : SandwichLNResidual::Residual(
            detail::sandwich_ln(std::move(norm), std::move(f), std::move(output_norm))) {}
};

/// y = x + output_norm(f(x))
template <class F, class Norm>
class ResPostLNResidual
    : public detail::Residual<detail::ResPostLNResidualKind, detail::ResPostLNConnection<F, Norm>> {
 public:
  ResPostLNResidual(F f, Norm output_norm)
      : ResPostLNResidual::Residual(detail::res_post_ln(std::move(f), std::move(output_norm))) {}
};

/// y = norm(alpha·x + f(x))
template <class F, class Norm>
class DeepNormResidual
    : public detail::Residual<detail::DeepNormResidualKind, detail::PostLNConnection<F, Norm>> {
 public:
  DeepNormResidual(F f, Norm norm, double alpha)
      : DeepNormResidual::Residual(detail::post_ln(std::move(f), std::move(norm), alpha)) {}
};

/// alpha is what DeepNorm multiplies the stream with. beta is what the initial weights of a model
/// are to be multiplied with: those of the feed-forward, of the values and of the output projection
/// of attention.
struct DeepNormScales {
  struct Scales {
    double alpha = 1, beta = 1;
  };
  Scales encoder, decoder;
};

/// Those of a model with N encoder and M decoder layers, either of which may be 0; what has no
/// layers keeps alpha = beta = 1.
///
///                        encoder                                      decoder
///     encoder alone      alpha = (2N)^¼,         beta = (8N)^−¼
///     decoder alone                                                   (2M)^¼,  (8M)^−¼
///     both               0.81·(N⁴M)^(1/16),      0.87·(N⁴M)^(−1/16)   (3M)^¼, (12M)^−¼
///
/// Throws     std::invalid_argument where a number of layers is negative
/// Source     Wang et al. 2022, arXiv:2203.00555, figure 2
inline DeepNormScales deep_norm_scales(Index encoder_layers, Index decoder_layers) {
  if (encoder_layers < 0 || decoder_layers < 0) {
    detail::fail({"deep_norm_scales"},
                 {"the numbers of layers are ", encoder_layers, " (encoder) and ", decoder_layers,
                  " (decoder); expected 0 or more"});
  }
  const auto n = static_cast<double>(encoder_layers), m = static_cast<double>(decoder_layers);
  const auto alone = [](double layers) {
    return DeepNormScales::Scales{std::pow(2 * layers, 0.25), std::pow(8 * layers, -0.25)};
  };
  if (encoder_layers == 0 && decoder_layers == 0) return {};
  if (decoder_layers == 0) return {alone(n), {}};
  if (encoder_layers == 0) return {{}, alone(m)};
  const double both = std::pow(n, 0.25) * std::pow(m, 0.0625);
  return {{0.81 * both, 0.87 / both}, {std::pow(3 * m, 0.25), std::pow(12 * m, -0.25)}};
}

}  // namespace tokennorm
