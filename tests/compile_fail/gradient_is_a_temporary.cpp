// SPDX-License-Identifier: MIT
// dx is gone when the call returns.
// EXPECT: tokennorm: an output is a temporary matrix, array or vector
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

#include <utility>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  Eigen::MatrixXf y, sum;
  tokennorm::TokenStatistics<float> stats;
  tokennorm::NormGradients<float> gradients;
  norm.normalize(x, y, stats);
#ifdef FIXED
  norm.backpropagate(x, stats, x, y, gradients);
#else
  norm.backpropagate(x, stats, x, Eigen::MatrixXf(), gradients);
#endif
}
