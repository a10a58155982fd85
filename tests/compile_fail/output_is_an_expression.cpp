// SPDX-License-Identifier: MIT
// The output is an expression, which has no memory.
// EXPECT: tokennorm: an output cannot be written to
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  Eigen::MatrixXf y(4, 8);
#ifdef FIXED
  norm(x, y);
#else
  norm(x, 2 * y);
#endif
}
