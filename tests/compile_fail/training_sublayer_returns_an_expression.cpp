// SPDX-License-Identifier: MIT
// A sublayer whose backward returns an expression of a local.
// EXPECT: tokennorm: a sublayer returns an expression
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
  Tokens forward(const Tokens& x) { return 6 * x; }
#ifdef FIXED
  Tokens backward(const Tokens& dy){
#else
  auto backward(const Tokens& dy) {
#endif
      const Tokens twice = 2 * dy;
  return 3 * twice;
}
}
;

int main() {
  auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  block.forward(x);
  block.backward(x);
}
