// SPDX-License-Identifier: MIT
// Training a block over a plain callable.
// EXPECT: a sublayer has no forward(x)
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens forward(const Tokens& x) const { return x; }
  Tokens backward(const Tokens& dy) const { return dy; }
#else
  Tokens operator()(const Tokens& x) const { return x; }
#endif
};

int main() {
  auto block = tokennorm::PostLN(Sublayer{}, tokennorm::LayerNorm<float>(8), Sublayer{},
                                 tokennorm::RMSNorm<float>(8));
  const Tokens x = Tokens::Ones(4, 8);
  block.forward(x);
}
