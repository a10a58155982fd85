// SPDX-License-Identifier: MIT
// Tokens of integers, given to a block.
// EXPECT: tokennorm: tokens of integers cannot be normalized
#include <tokennorm/tokennorm.hpp>

int main() {
  const auto same = [](const auto& x) { return x; };
  const tokennorm::PreLNResidual block(tokennorm::LayerNorm<float>(8), same);
  const Eigen::MatrixXi x = Eigen::MatrixXi::Ones(4, 8);
#ifdef FIXED
  return block(x.cast<float>()).rows() == 4 ? 0 : 1;
#else
  const Eigen::MatrixXi y = block(x);
  return y.rows() == 4 ? 0 : 1;
#endif
}
