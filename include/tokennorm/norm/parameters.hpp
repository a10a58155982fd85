// SPDX-License-Identifier: MIT
/// What stands beside a norm: its kind, its options, the statistics of its tokens, its gradients.
#pragma once

#include "tokennorm/core/scalar.hpp"

#include <Eigen/Core>

namespace tokennorm {

/// LayerNorm or RMSNorm, where that is known at run time.
enum class NormKind { layer_norm, rms_norm };

/// y = (x − μ)·rstd·(scale_offset + γ) + β; without scale the factor is 1, without shift β is 0.
struct LayerNormOptions {
  double epsilon = 1e-5;    ///< ε; finite and not negative
  bool scale = true;        ///< whether there is a γ
  bool shift = true;        ///< whether there is a β
  double scale_offset = 0;  ///< 1 for "layernorm_1p"
};

/// y = x·rstd·(scale_offset + γ) [+ β].
struct RMSNormOptions {
  double epsilon = 1e-6;          ///< ε; finite and not negative
  bool scale = true;              ///< whether there is a γ
  bool shift = false;             ///< whether there is a β
  double scale_offset = 0;        ///< 1 for Gemma
  Index statistics_channels = 0;  ///< 0: all; else the first so many (partial RMSNorm)
};

/// μ and rstd = 1/√(σ² + ε) of each token, both (T); RMSNorm leaves mean empty.
template <class Scalar>
struct TokenStatistics {
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> mean;  ///< μ
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> rstd;  ///< 1/√(σ² + ε)
};

/// Σ dγ and Σ dβ, both (C). A backward pass adds to them; empty ones are sized and zeroed first,
/// and those of a parameter that is switched off stay empty.
template <class Scalar>
struct NormGradients {
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> scale;  ///< Σ dγ
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> shift;  ///< Σ dβ
};

namespace detail {

struct LayerNormKind {
  using Options = LayerNormOptions;
  static constexpr NormKind kind = NormKind::layer_norm;
  static constexpr bool centred = true;
  static constexpr const char* name = "LayerNorm";
};

struct RMSNormKind {
  using Options = RMSNormOptions;
  static constexpr NormKind kind = NormKind::rms_norm;
  static constexpr bool centred = false;
  static constexpr const char* name = "RMSNorm";
};

}  // namespace detail

}  // namespace tokennorm
