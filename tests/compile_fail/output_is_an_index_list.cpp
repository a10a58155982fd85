// SPDX-License-Identifier: MIT
// Every other row, which has no memory that a pointer and two strides can reach.
// EXPECT: an index list such as y(rows, Eigen::all) is none
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
  Eigen::MatrixXf y(8, 8);
#ifdef FIXED
  y(Eigen::seq(0, 7, 2), Eigen::all) = norm(x);
#else
  norm(x, y(Eigen::seq(0, 7, 2), Eigen::all));
#endif
}
