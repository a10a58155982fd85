// SPDX-License-Identifier: MIT
// The norm of a sum of float tokens, parameters of long double.
// EXPECT: tokennorm: the parameters of a norm of any scalar other than float, double, half and
// EXPECT: LayerNorm<long double>
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::TokenMatrix<float> x = tokennorm::TokenMatrix<float>::Ones(4, 8);
#ifdef FIXED
  using Param = float;
#else
  using Param = long double;
#endif
  const tokennorm::LayerNorm<Param> norm(8);
  tokennorm::TokenMatrix<float> sum, y;
  norm.normalize_sum(x, x, sum, y);
  return y.rows() == 4 ? 0 : 1;
}
