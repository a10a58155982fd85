// SPDX-License-Identifier: MIT
// An output of eight channels for a norm of sixteen.
// EXPECT: tokennorm: an operand's number of columns, known at compile time, differs
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float, 16> norm;
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 16);
#ifdef FIXED
  Eigen::Matrix<float, 4, 16> y;
#else
  Eigen::Matrix<float, 4, 8> y;
#endif
  norm(x, y);
}
