// SPDX-License-Identifier: MIT
// A lambda that returns a product of its locals, unevaluated.
// EXPECT: tokennorm: a sublayer returns an expression
// EXPECT: write `-> Tokens`
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

int main() {
  const Tokens w = Tokens::Ones(8, 8);
#ifdef FIXED
  const auto f = [&](const auto& x) -> Tokens {
    const Tokens q = x * w;
    return q * w;
  };
#else
  const auto f = [&](const auto& x) {
    const Tokens q = x * w;
    return q * w;
  };
#endif
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), f);
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
