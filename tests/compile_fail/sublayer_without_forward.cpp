// SPDX-License-Identifier: MIT
// Training a block over a sublayer that can only infer.
// EXPECT: a sublayer has no forward(x)
// EXPECT: or call the block
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens operator()(const Tokens& x) const { return x; }
  Tokens forward(const Tokens& x) { return x; }
  Tokens backward(const Tokens& dy) { return dy; }
#else
  Tokens operator()(const Tokens& x) const { return x; }
  Tokens backward(const Tokens& dy) { return dy; }
#endif
};

int main() {
  auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  block.forward(x);
}
