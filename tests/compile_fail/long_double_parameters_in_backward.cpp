// SPDX-License-Identifier: MIT
// The gradient of float tokens, parameters of long double.
// EXPECT: tokennorm: the parameters of a norm of any scalar other than float, double, half and
// EXPECT: LayerNorm<long double>
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::TokenMatrix<float> x = tokennorm::TokenMatrix<float>::Ones(4, 8);
#ifdef FIXED
  using Param = float;
#else
  using Param = long double;
#endif
  const tokennorm::LayerNorm<Param> norm(8);
  const tokennorm::TokenStatistics<float> stats{Eigen::VectorXf::Zero(4), Eigen::VectorXf::Ones(4)};
  tokennorm::NormGradients<float> gradients;
  tokennorm::TokenMatrix<float> dx;
  norm.backpropagate(x, stats, x, dx, gradients);
  return dx.rows() == 4 ? 0 : 1;
}
