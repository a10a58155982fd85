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
///     connection.forward(x, y, record);   connection.backward(dy, dx, record);
///     connection.norm(), output_norm(), sublayer(), visit_parameters(visitor), zero_gradients()
#pragma once

#include "tokennorm/block/chain.hpp"
#include "tokennorm/norm/layer_norm.hpp"
#include "tokennorm/norm/rms_norm.hpp"

#include <cmath>
#include <functional>
#include <type_traits>
#include <utility>

namespace tokennorm {

namespace detail {

/// What may stand where a placement has a norm.
template <class T>
concept NormArgument = !is_norm<T> || requires(const T& norm) {
  typename T::ParamScalar;
  norm.channels();
  norm.options();
};
template <class T>
inline constexpr bool is_reference = false;
template <class T>
inline constexpr bool is_reference<std::reference_wrapper<T>> = true;

/// Whether each of a connection's norms is one.
template <class ConnectionType>
inline constexpr bool has_norms_in_place = has_norms_in_place<typename ConnectionType::Parts>;
template <class Out, class... Branches>
inline constexpr bool has_norms_in_place<Connection<Out, Branches...>> =
    NormArgument<Out> &&
    ((NormArgument<typename Branches::PreNorm> && NormArgument<typename Branches::PostNorm>)&&...);

/// Stands for a placement that was refused, so that there is one message and not twenty.
struct RefusedPlacement {
  using Base = RefusedPlacement;
  RefusedPlacement() = default;
  RefusedPlacement(const auto&, const auto&, const auto&...) {}
  Refused operator()(const auto&...) const { return {}; }
  Refused forward(const auto&...) const { return {}; }
  Refused backward(const auto&...) const { return {}; }
};

/// The first that stands where a norm should and is none, counted from 1; 0 if there is none.
template <class... Norms>
inline constexpr int first_wrong = [] {
  int at = 0, wrong = 0;
  ((++at, wrong = wrong == 0 && !NormArgument<Norms> ? at : wrong), ...);
  return wrong;
}();

template <class Param, class Out, class... Branches>
constexpr bool train_in(Connection<Out, Branches...>*) {
  return trains_in<Out, Param> && ((trains_in<typename Branches::PreNorm, Param> &&
                                    trains_in<typename Branches::PostNorm, Param>)&&...);
}

template <template <class...> class Placement, class... Connections>
struct AcceptedOf {
  static constexpr bool has_norms = (has_norms_in_place<Connections> && ...);
  static constexpr bool has_any =
      !std::is_same_v<typename FirstNorm<typename NormsOf<Connections>::type...>::type, NoNorm>;
  static_assert(!has_norms || has_any,
                "tokennorm: a placement has no norm but NoNorm, and nothing to place. Give it a "
                "LayerNorm or an RMSNorm.");
  static constexpr bool is_of_one_scalar = [] {
    if constexpr (has_norms && has_any) {
      using Param = typename FirstNorm<typename NormsOf<Connections>::type...>::type::ParamScalar;
      return (train_in<Param>(static_cast<Connections*>(nullptr)) && ...);
    } else {
      return true;
    }
  }();
  static_assert(is_of_one_scalar,
                "tokennorm: the norms of a block have parameters of different scalars. Training "
                "runs in that scalar: give them all the same.");
  using type = std::conditional_t<has_norms && has_any && is_of_one_scalar,
                                  Placement<Connections...>, RefusedPlacement>;
};
/// The placement, if its norms stand where they should.
template <template <class...> class Placement, class... Connections>
using Accepted = typename AcceptedOf<Placement, Connections...>::type;

}  // namespace detail

/// The connections of the placements.
template <class Norm, class F>
using PreLNConnection = ResidualConnection<Norm, F, NoNorm, NoNorm>;  // h + f(pre(h))
template <class F, class Norm>
using PostLNConnection = ResidualConnection<NoNorm, F, NoNorm, Norm>;  // out(alpha·h + f(h))
template <class Norm, class F, class OutputNorm>
using SandwichLNConnection =
    ResidualConnection<Norm, F, OutputNorm, NoNorm>;  // h + post(f(pre(h)))
template <class F, class Norm>
using ResPostLNConnection = ResidualConnection<NoNorm, F, Norm, NoNorm>;  // h + post(f(h))

/// What an argument that should be a norm and is none says, in the class of a placement: the one of
/// the norms `...` that is number `place` among them.
#define TOKENNORM_NORM_ARGUMENT(Norm, place, number, placement, order, ...)                 \
  static_assert(detail::first_wrong<__VA_ARGS__> != place || !detail::is_reference<Norm>,   \
                "tokennorm: " placement ": argument " number                                \
                " is a std::ref. A block owns its "                                         \
                "norms: give the norm itself, and reach it through the block afterwards."); \
  static_assert(detail::first_wrong<__VA_ARGS__> != place || detail::is_reference<Norm>,    \
                "tokennorm: " placement ": argument " number                                \
                " is not a norm; the order is " order)
/// The same of both norms of a placement that has two.
#define TOKENNORM_NORM_ARGUMENTS(placement, order, First, first_number, Second, second_number) \
  TOKENNORM_NORM_ARGUMENT(First, 1, first_number, placement, order, First, Second);            \
  TOKENNORM_NORM_ARGUMENT(Second, 2, second_number, placement, order, First, Second)

/// One connection, with the names of its parts; `name` is what errors call it.
template <class ConnectionType>
class Residual : public detail::Chain<ConnectionType> {
 public:
  /// For the constructors of placements.
  using Base = Residual;
  Residual(const char* name, ConnectionType connection)
      : Residual::Chain(name, std::move(connection)) {}

  /// The parts: the norm on the stream, the norm on the update, the sublayer.
  auto& norm() requires(ConnectionType::has_norm) { return this->template connection<0>().norm(); }
  const auto& norm() const requires(ConnectionType::has_norm) {
    return this->template connection<0>().norm();
  }
  auto& output_norm() requires(ConnectionType::has_output_norm) {
    return this->template connection<0>().output_norm();
  }
  const auto& output_norm() const requires(ConnectionType::has_output_norm) {
    return this->template connection<0>().output_norm();
  }
  auto& sublayer() { return this->template connection<0>().sublayer(); }
  const auto& sublayer() const { return this->template connection<0>().sublayer(); }
};

/// y = x + f(norm(x))
template <class Norm, class F>
class PreLNResidual : public detail::Accepted<Residual, PreLNConnection<Norm, F>> {
  TOKENNORM_NORM_ARGUMENT(Norm, 1, "1", "PreLNResidual", "norm, sublayer", Norm);

 public:
  /// The parts, in data order.
  PreLNResidual(Norm norm, F f)
      : PreLNResidual::Base("PreLNResidual", PreLNConnection<Norm, F>(std::move(norm), std::move(f),
                                                                      NoNorm{}, NoNorm{})) {}
};

/// y = norm(x + f(x))
template <class F, class Norm>
class PostLNResidual : public detail::Accepted<Residual, PostLNConnection<F, Norm>> {
  TOKENNORM_NORM_ARGUMENT(Norm, 1, "2", "PostLNResidual", "sublayer, norm", Norm);

 public:
  /// The parts, in data order.
  PostLNResidual(F f, Norm norm)
      : PostLNResidual::Base(
            "PostLNResidual",
            PostLNConnection<F, Norm>(NoNorm{}, std::move(f), NoNorm{}, std::move(norm))) {}
};

/// y = x + output_norm(f(norm(x)))
template <class Norm, class F, class OutputNorm>
class SandwichLNResidual
    : public detail::Accepted<Residual, SandwichLNConnection<Norm, F, OutputNorm>> {
  TOKENNORM_NORM_ARGUMENTS("SandwichLNResidual", "norm, sublayer, output_norm", Norm, "1",
                           OutputNorm, "3");

 public:
  /// The parts, in data order.
  SandwichLNResidual(Norm norm, F f, OutputNorm output_norm)
      : SandwichLNResidual::Base("SandwichLNResidual", SandwichLNConnection<Norm, F, OutputNorm>(
                                                           std::move(norm), std::move(f),
                                                           std::move(output_norm), NoNorm{})) {}
};

/// y = x + output_norm(f(x))
template <class F, class Norm>
class ResPostLNResidual : public detail::Accepted<Residual, ResPostLNConnection<F, Norm>> {
  TOKENNORM_NORM_ARGUMENT(Norm, 1, "2", "ResPostLNResidual", "sublayer, norm", Norm);

 public:
  /// The parts, in data order.
  ResPostLNResidual(F f, Norm output_norm)
      : ResPostLNResidual::Base("ResPostLNResidual",
                                ResPostLNConnection<F, Norm>(NoNorm{}, std::move(f),
                                                             std::move(output_norm), NoNorm{})) {}
};

/// y = norm(alpha·x + f(x))
template <class F, class Norm>
class DeepNormResidual : public detail::Accepted<Residual, PostLNConnection<F, Norm>> {
  TOKENNORM_NORM_ARGUMENT(Norm, 1, "2", "DeepNormResidual", "sublayer, norm, alpha", Norm);

 public:
  /// The parts, in data order, and α.
  DeepNormResidual(F f, Norm norm, double alpha)
      : DeepNormResidual::Base(
            "DeepNormResidual",
            PostLNConnection<F, Norm>(NoNorm{}, std::move(f), NoNorm{}, std::move(norm), alpha)) {}
};

/// alpha is what DeepNorm multiplies the stream with. beta is what the initial weights of a model
/// are to be multiplied with: those of the feed-forward, of the values and of the output projection
/// of attention.
struct DeepNormScales {
  /// Of one side.
  struct Scales {
    double alpha = 1;  ///< α, of the stream
    double beta = 1;   ///< β, of the initial weights
  };
  Scales encoder;  ///< of the encoder's layers
  Scales decoder;  ///< of the decoder's layers
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
