// SPDX-License-Identifier: MIT
// Tokens of complex numbers.
// EXPECT: tokennorm: tokens of complex numbers cannot be normalized
// EXPECT: x.real()
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXcf x = Eigen::MatrixXcf::Ones(4, 8);
#ifdef FIXED
  return norm(x.real()).rows() == 4 ? 0 : 1;
#else
  return norm(x).rows() == 4 ? 0 : 1;
#endif
}
