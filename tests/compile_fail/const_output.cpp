// SPDX-License-Identifier: MIT
// The output is const.
// EXPECT: tokennorm: an output cannot be written to
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
#ifdef FIXED
  Eigen::MatrixXf y(4, 8);
#else
  const Eigen::MatrixXf y(4, 8);
#endif
  norm(x, y);
}
