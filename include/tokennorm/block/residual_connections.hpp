// SPDX-License-Identifier: MIT
/// One sublayer with its residual connection.
///
///     PreLNResidual(norm, f)              y = x + f(norm(x))
///     PostLNResidual(f, norm)             y = norm(x + f(x))
///     SandwichLNResidual(norm, f, norm)   y = x + norm(f(norm(x)))
///
/// f is any callable that maps tokens to tokens of the same shape: see sublayer.hpp. The norms are
/// LayerNorm or RMSNorm, mixed freely.
///
/// Shapes     x, y (T, C); scalars and kinds of x and y as for the norms
/// Error      that of the norms; the sum is rounded once, to the scalar of x
/// Aliasing   y may be x
/// Throws     std::invalid_argument on a wrong shape, of x or of what f returns, where y overlaps x
///            or either the workspace, and where the norms have different channels, which is asked
///            at every call: they may have been replaced;
///            std::logic_error on backward without a forward before it: each backward uses one up,
///            and a forward that throws leaves none
/// Source     Xiong et al. 2020, arXiv:2002.04745 (Pre-LN, Post-LN);
///            Ding et al. 2021, arXiv:2105.13290, section 3.4 (Sandwich-LN)
///
///     auto y = connection(x);   connection(x, y);   connection(x, y, workspace);
///     auto y = connection.forward(x);   auto dx = connection.backward(dy);
///     connection.norm(), output_norm(), sublayer(), visit_parameters(visitor), zero_gradients()
#pragma once

#include "tokennorm/block/chain.hpp"

#include <utility>

namespace tokennorm {

namespace detail {

template <class Norm, class F>
using PreLNConnection = ResidualConnection<Norm, F, NoNorm, NoNorm>;  // h + f(pre(h))

template <class F, class Norm>
using PostLNConnection = ResidualConnection<NoNorm, F, NoNorm, Norm>;  // out(h + f(h))

template <class Norm, class F, class OutputNorm>
using SandwichLNConnection =
    ResidualConnection<Norm, F, OutputNorm, NoNorm>;  // h + post(f(pre(h)))

template <class Norm, class F>
PreLNConnection<Norm, F> pre_ln(Norm&& norm, F&& f) {
  return {std::move(norm), std::move(f), NoNorm{}, NoNorm{}};
}
template <class F, class Norm>
PostLNConnection<F, Norm> post_ln(F&& f, Norm&& norm) {
  return {NoNorm{}, std::move(f), NoNorm{}, std::move(norm)};
}
template <class Norm, class F, class OutputNorm>
SandwichLNConnection<Norm, F, OutputNorm> sandwich_ln(Norm&& norm, F&& f,
                                                      OutputNorm&& output_norm) {
  return {std::move(norm), std::move(f), std::move(output_norm), NoNorm{}};
}

/// A chain of one connection, with the names of its parts.
template <class Kind, class Connection>
class Residual : public Chain<Kind, Connection> {
 public:
  using Chain<Kind, Connection>::Chain;

  auto& norm() { return this->template connection<0>().norm(); }
  const auto& norm() const { return this->template connection<0>().norm(); }
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

}  // namespace tokennorm
