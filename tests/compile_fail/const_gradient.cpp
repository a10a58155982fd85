// SPDX-License-Identifier: MIT
// The input gradient of backpropagate is const.
// EXPECT: tokennorm: an output cannot be written to
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  Eigen::MatrixXf y;
  tokennorm::TokenStatistics<float> stats;
  tokennorm::NormGradients<float> gradients;
  norm.normalize(x, y, stats);
#ifdef FIXED
  Eigen::MatrixXf dx;
#else
  const Eigen::MatrixXf dx(4, 8);
#endif
  norm.backpropagate(x, stats, y, dx, gradients);
}
