// SPDX-License-Identifier: MIT
// A sublayer that returns a number.
// EXPECT: tokennorm: a sublayer does not return tokens
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens operator()(const Tokens& x) const { return x; }
#else
  float operator()(const Tokens& x) const { return x.sum(); }
#endif
};

int main() {
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
