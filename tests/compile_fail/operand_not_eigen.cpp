// SPDX-License-Identifier: MIT
// Tokens in a std::vector.
// EXPECT: tokennorm: an operand is not an Eigen matrix
// EXPECT: tokens(range, channels)
#include <tokennorm/tokennorm.hpp>

#include <vector>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const std::vector<float> x(32);
#ifdef FIXED
  return norm(tokennorm::tokens(x, 8)).rows() == 4 ? 0 : 1;
#else
  norm(x);
#endif
}
