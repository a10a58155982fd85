// SPDX-License-Identifier: MIT
// The sum of normalize_sum is const.
// EXPECT: tokennorm: an output cannot be written to
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8), update = x;
  Eigen::MatrixXf y;
#ifdef FIXED
  Eigen::MatrixXf sum;
#else
  const Eigen::MatrixXf sum(4, 8);
#endif
  norm.normalize_sum(x, update, sum, y);
}
