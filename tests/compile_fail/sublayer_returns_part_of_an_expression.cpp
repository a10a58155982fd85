// SPDX-License-Identifier: MIT
// A lambda that returns a block of an expression, which lasts no longer than the expression.
// EXPECT: tokennorm: a sublayer returns an expression
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

int main() {
#ifdef FIXED
  const auto f = [](const Tokens& x) -> Tokens { return (2 * x).topRows(x.rows()); };
#else
  const auto f = [](const Tokens& x) { return (2 * x).topRows(x.rows()); };
#endif
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), f);
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
