// SPDX-License-Identifier: MIT
// The output of a block is const.
// EXPECT: tokennorm: an output cannot be written to
#include <tokennorm/tokennorm.hpp>

int main() {
  const auto same = [](const auto& x) { return x; };
  const tokennorm::PreLNResidual block(tokennorm::LayerNorm<float>(8), same);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
#ifdef FIXED
  Eigen::MatrixXf y(4, 8);
#else
  const Eigen::MatrixXf y(4, 8);
#endif
  block(x, y);
}
