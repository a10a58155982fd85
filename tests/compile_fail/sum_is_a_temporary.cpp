// SPDX-License-Identifier: MIT
// The sum is gone when the call returns.
// EXPECT: tokennorm: an output is a temporary matrix, array or vector
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

#include <utility>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  Eigen::MatrixXf y, sum;
#ifdef FIXED
  norm.normalize_sum(x, x, sum, y);
#else
  norm.normalize_sum(x, x, Eigen::MatrixXf(), y);
#endif
}
