// SPDX-License-Identifier: MIT
// Tokens in a std::vector, in and out.
// EXPECT: tokennorm: an operand is not an Eigen matrix
// EXPECT: tokens(range, channels)
#include <tokennorm/tokennorm.hpp>

#include <vector>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  std::vector<float> x(32), y(32);
#ifdef FIXED
  norm(tokennorm::tokens(x, 8), tokennorm::tokens(y, 8));
#else
  norm(x, y);
#endif
}
