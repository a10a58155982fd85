// SPDX-License-Identifier: MIT
// A sublayer that writes into a copy of its output.
// EXPECT: tokennorm: a sublayer takes its second argument by value or const&
// EXPECT: let it take `Tokens& y`
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

int main() {
#ifdef FIXED
  const auto f = [](const auto& x, auto& y) { y = 2 * x; };
#else
  const auto f = [](const auto& x, Tokens y) { y = 2 * x; };
#endif
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), f);
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
