// SPDX-License-Identifier: MIT
// Tokens of long double, written to float.
// EXPECT: does not mix with
// EXPECT: LayerNorm<long double>
#include <tokennorm/tokennorm.hpp>

int main() {
  using Matrix = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
  const tokennorm::LayerNorm<long double> norm(8);
  const Matrix x = Matrix::Ones(4, 8);
#ifdef FIXED
  Matrix y;
#else
  Eigen::MatrixXf y;
#endif
  norm(x, y);
}
