// SPDX-License-Identifier: MIT
// A sublayer that wants to change its input.
// EXPECT: tokennorm: a sublayer cannot be called
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens operator()(const Tokens& x) const { return 2 * x; }
#else
  Tokens operator()(Tokens& x) const { return x *= 2; }
#endif
};

int main() {
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
