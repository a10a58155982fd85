// SPDX-License-Identifier: MIT
// Heads are a view, and the matrix that they look at is gone.
// EXPECT: tokennorm: heads(x, channels) is a view, and x is a temporary matrix
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::RMSNorm<float> norm(8);
  Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 32);
#ifdef FIXED
  const auto q = tokennorm::heads(x.leftCols(16), 8);
#else
  const auto q = tokennorm::heads(Eigen::MatrixXf(x.leftCols(16)), 8);
#endif
  norm(q, q);
}
