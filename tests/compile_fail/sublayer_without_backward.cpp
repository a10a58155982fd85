// SPDX-License-Identifier: MIT
// Training a block over a sublayer that has no backward.
// EXPECT: a sublayer has no backward(dy)
// EXPECT: or call the block
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens forward(const Tokens& x) { return x; }
  Tokens backward(const Tokens& dy) { return dy; }
#else
  Tokens forward(const Tokens& x) { return x; }
#endif
};

int main() {
  auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  block.forward(x);
}
