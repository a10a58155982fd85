// SPDX-License-Identifier: MIT
// A training step of a norm in long double, to be judged without a template per scalar.
#pragma once

#include "norm_kinds.hpp"

#include <string>
#include <vector>

namespace tokennorm::test {

/// All that a training step gives.
struct ExactStep {
  std::string order;
  ExactMatrix y, dx;
  ExactVector mean, rstd, scale, shift;  ///< of the tokens; the gradients of the channels
};

template <class Y, class DX, class Statistics, class Gradients>
ExactStep exact_results(const Y& y, const DX& dx, const Statistics& stats, const Gradients& g,
                        const std::string& order = "") {
  return {order,
          exact(y),
          exact(dx),
          exact_vector(stats.mean),
          exact_vector(stats.rstd),
          exact_vector(g.scale),
          exact_vector(g.shift)};
}

struct AsEver {};

/// An Environment, made of the arguments, lives during the calls and not in what follows: by it the
/// processor works in another way, which the oracle must not see.
template <class Matrix, class Environment = AsEver, class Norm, class... Arguments>
[[gnu::noinline]] ExactStep exact_step(const Norm& norm, const Matrix& x, const Matrix& dy,
                                       Arguments... arguments) {
  using Accum = AccumOf<typename Matrix::Scalar>;
  Matrix y, dx;
  TokenStatistics<Accum> stats;
  NormGradients<Accum> g;
  {
    [[maybe_unused]] const Environment environment{arguments...};
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, g);
  }
  return exact_results(y, dx, stats, g, Matrix::IsRowMajor ? "row-major" : "column-major");
}

template <class Norm, class Scalar>
[[gnu::noinline]] std::vector<ExactStep> exact_steps_in_both_orders(const Norm& norm,
                                                                    const TokenMatrix<Scalar>& x,
                                                                    const TokenMatrix<Scalar>& dy) {
  using Columns = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  return {exact_step<TokenMatrix<Scalar>>(norm, x, dy), exact_step<Columns>(norm, x, dy)};
}

}  // namespace tokennorm::test
