// SPDX-License-Identifier: MIT
// Tokens of integers, with an output.
// EXPECT: tokennorm: tokens of integers cannot be normalized
// EXPECT: x.cast<float>()
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXi x = Eigen::MatrixXi::Ones(4, 8);
  Eigen::MatrixXf y;
#ifdef FIXED
  norm(x.cast<float>(), y);
#else
  norm(x, y);
#endif
}
