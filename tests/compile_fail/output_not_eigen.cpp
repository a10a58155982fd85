// SPDX-License-Identifier: MIT
// Tokens written to a std::vector.
// EXPECT: tokennorm: an operand is not an Eigen matrix
// EXPECT: tokens(range, channels)
#include <tokennorm/tokennorm.hpp>

#include <vector>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  std::vector<float> y(32);
#ifdef FIXED
  norm(x, tokennorm::tokens(y, 8));
#else
  norm(x, y);
#endif
}
