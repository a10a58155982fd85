// SPDX-License-Identifier: MIT
// Tokens written to a matrix of integers.
// EXPECT: tokennorm: tokens of integers cannot be normalized
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
#ifdef FIXED
  Eigen::MatrixXf y;
#else
  Eigen::MatrixXi y;
#endif
  norm(x, y);
}
