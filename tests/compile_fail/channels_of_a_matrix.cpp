// SPDX-License-Identifier: MIT
// Eight channels known at compile time, given to a norm of sixteen.
// EXPECT: tokennorm: an operand's number of columns, known at compile time, differs
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float, 16> norm;
#ifdef FIXED
  const Eigen::Matrix<float, 4, 16> x = Eigen::Matrix<float, 4, 16>::Ones();
#else
  const Eigen::Matrix<float, 4, 8> x = Eigen::Matrix<float, 4, 8>::Ones();
#endif
  return norm(x).rows() == 4 ? 0 : 1;
}
