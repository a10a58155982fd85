// SPDX-License-Identifier: MIT
// LayerNorm and RMSNorm as one parameter of a typed test.
#pragma once

#include "../support/oracle.hpp"
#include "../support/random_tokens.hpp"
#include "../support/scalars.hpp"
#include <tokennorm/core/tokens.hpp>
#include <tokennorm/norm/layer_norm.hpp>
#include <tokennorm/norm/rms_norm.hpp>

#include <gtest/gtest.h>

#include <concepts>
#include <string>
#include <type_traits>

namespace tokennorm::test {

struct LayerKind {
  template <class Param, int Channels = Eigen::Dynamic>
  using Norm = LayerNorm<Param, Channels>;
  using Options = LayerNormOptions;
  static constexpr bool centred = true;
  static constexpr const char* name = "LayerNorm";
};

struct RMSKind {
  template <class Param, int Channels = Eigen::Dynamic>
  using Norm = RMSNorm<Param, Channels>;
  using Options = RMSNormOptions;
  static constexpr bool centred = false;
  static constexpr const char* name = "RMSNorm";
};

template <class Kind_, class Scalar_>
struct Case {
  using Kind = Kind_;
  using Scalar = Scalar_;
  using Accum = AccumOf<Scalar>;
  using Norm = typename Kind::template Norm<Scalar>;
  using Options = typename Kind::Options;
  using RowMajor = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using ColMajor = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;
  using Statistics = TokenStatistics<Accum>;
  using Gradients = NormGradients<Accum>;
};

struct CaseName {
  template <class TypedCase>
  static std::string GetName(int) {
    return TypedCase::Kind::name + std::string("_") + scalar_name<typename TypedCase::Scalar>();
  }
};

// What the oracle judges.
using AllScalars =
    std::conditional_t<judges_double, ::testing::Types<float, double, Eigen::half, Eigen::bfloat16>,
                       ::testing::Types<float, Eigen::half, Eigen::bfloat16>>;
using CasesOfFloat = ::testing::Types<Case<LayerKind, float>, Case<LayerKind, Eigen::half>,
                                      Case<LayerKind, Eigen::bfloat16>, Case<RMSKind, float>,
                                      Case<RMSKind, Eigen::half>, Case<RMSKind, Eigen::bfloat16>>;
using AllCases = std::conditional_t<
    judges_double,
    ::testing::Types<Case<LayerKind, float>, Case<LayerKind, double>, Case<LayerKind, Eigen::half>,
                     Case<LayerKind, Eigen::bfloat16>, Case<RMSKind, float>, Case<RMSKind, double>,
                     Case<RMSKind, Eigen::half>, Case<RMSKind, Eigen::bfloat16>>,
    CasesOfFloat>;

/// For what does not depend on the scalar: one of each kind, one of each width.
using TwoCases = ::testing::Types<Case<LayerKind, float>, Case<RMSKind, Eigen::bfloat16>>;

/// Each kind and each scalar, not each with each.
using FusedCases = ::testing::Types<Case<LayerKind, float>, Case<RMSKind, double>,
                                    Case<RMSKind, Eigen::half>, Case<LayerKind, Eigen::bfloat16>>;

/// What the oracle must know of a norm.
template <class Options>
NormSpec spec_of(const Options& options) {
  NormSpec spec{std::same_as<Options, LayerNormOptions>, options.epsilon, options.scale_offset, 0};
  if constexpr (std::same_as<Options, RMSNormOptions>)
    spec.statistics_channels = options.statistics_channels;
  return spec;
}

/// Neither scale nor shift: the result is x̂ itself.
template <class Kind>
typename Kind::Options plain_options(double epsilon) {
  typename Kind::Options options;
  options.epsilon = epsilon;
  options.scale = false;
  options.shift = false;
  return options;
}

/// Scale and shift on, whatever the kind's default.
template <class Kind>
typename Kind::Options affine_options(double epsilon = 1e-5) {
  typename Kind::Options options;
  options.epsilon = epsilon;
  options.scale = true;
  options.shift = true;
  return options;
}

/// The library's norm, with scale and shift drawn at random.
template <class TypedCase>
[[gnu::noinline]] typename TypedCase::Norm random_norm(Index channels, Seed seed,
                                                       typename TypedCase::Options options) {
  typename TypedCase::Norm norm(channels, options);
  Random random(seed);
  if (options.scale)
    norm.scale() = random_normal<typename TypedCase::Vector>({channels, 1}, random, 0.25, 1);
  if (options.shift)
    norm.shift() = random_normal<typename TypedCase::Vector>({channels, 1}, random, -0.5, 1);
  return norm;
}

template <class TypedCase>
[[gnu::noinline]] typename TypedCase::Norm random_norm(Index channels, Seed seed = {7}) {
  return random_norm<TypedCase>(channels, seed, affine_options<typename TypedCase::Kind>());
}

/// The exact result of a norm of the library on exact tokens, from its options and parameters.
template <class Norm>
ForwardOracle forward_oracle_of(const Norm& norm, const ExactMatrix& x) {
  NormSpec spec = spec_of(norm.options());
  spec.centre = norm.kind() == NormKind::layer_norm;  // of an AnyNorm as well
  return forward_oracle(spec, x, exact_vector(norm.scale()), exact_vector(norm.shift()));
}

template <class Norm>
BackwardOracle backward_oracle_of(const Norm& norm, const ExactMatrix& x, const ExactMatrix& dy) {
  return backward_oracle(spec_of(norm.options()), x, dy, exact_vector(norm.scale()));
}

}  // namespace tokennorm::test
