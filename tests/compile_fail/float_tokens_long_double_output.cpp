// SPDX-License-Identifier: MIT
// Tokens of float, written to long double.
// EXPECT: does not mix with
// EXPECT: LayerNorm<long double>
#include <tokennorm/tokennorm.hpp>

int main() {
  using Matrix = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
#ifdef FIXED
  Eigen::MatrixXd y;
#else
  Matrix y;
#endif
  norm(x, y);
}
