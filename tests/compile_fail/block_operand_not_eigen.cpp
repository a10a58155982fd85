// SPDX-License-Identifier: MIT
// Tokens in a std::vector, given to a block.
// EXPECT: tokennorm: an operand is not an Eigen matrix
#include <tokennorm/tokennorm.hpp>

#include <vector>

int main() {
  const auto same = [](const auto& x) { return x; };
  const tokennorm::PreLNResidual block(tokennorm::LayerNorm<float>(8), same);
  std::vector<float> x(32), y(32);
#ifdef FIXED
  block(tokennorm::tokens(x, 8), tokennorm::tokens(y, 8));
#else
  block(x, y);
#endif
}
