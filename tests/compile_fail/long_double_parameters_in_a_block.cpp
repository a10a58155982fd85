// SPDX-License-Identifier: MIT
// A connection of float tokens, parameters of long double.
// EXPECT: tokennorm: the parameters of a norm of any scalar other than float, double, half and
// EXPECT: LayerNorm<long double>
// LINES: 40
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::TokenMatrix<float> x = tokennorm::TokenMatrix<float>::Ones(4, 8);
#ifdef FIXED
  using Param = float;
#else
  using Param = long double;
#endif
  const tokennorm::LayerNorm<Param> norm(8);
  const auto same = [](const tokennorm::TokenMatrix<float>& n) { return n; };
  return tokennorm::PreLNResidual(norm, same)(x).rows() == 4 ? 0 : 1;
}
