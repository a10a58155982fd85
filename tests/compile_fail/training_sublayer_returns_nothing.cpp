// SPDX-License-Identifier: MIT
// A sublayer whose forward and backward keep what they compute.
// EXPECT: a sublayer has no forward(x) that returns tokens
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens forward(const Tokens& x) { return x; }
  Tokens backward(const Tokens& dy) { return dy; }
#else
  void forward(const Tokens& x) { kept = x; }
  void backward(const Tokens& dy) { kept = dy; }
  Tokens kept;
#endif
};

int main() {
  auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  block.forward(x);
  block.backward(x);
}
