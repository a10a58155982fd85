// SPDX-License-Identifier: MIT
// Tokens of long double, parameters of float.
// EXPECT: tokennorm: the parameters of a norm of any scalar other than float, double, half and
// EXPECT: LayerNorm<long double>
// LINES: 30
#include <tokennorm/tokennorm.hpp>

int main() {
  using Matrix = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
  const Matrix x = Matrix::Ones(4, 8);
#ifdef FIXED
  const tokennorm::LayerNorm<long double> norm(8);
#else
  const tokennorm::LayerNorm<float> norm(8);
#endif
  return norm(x).rows() == 4 ? 0 : 1;
}
