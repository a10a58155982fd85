// SPDX-License-Identifier: MIT
// Tokens of integers.
// EXPECT: tokennorm: tokens of integers cannot be normalized
// EXPECT: x.cast<float>()
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXi x = Eigen::MatrixXi::Ones(4, 8);
#ifdef FIXED
  return norm(x.cast<float>()).rows() == 4 ? 0 : 1;
#else
  return norm(x).rows() == 4 ? 0 : 1;
#endif
}
