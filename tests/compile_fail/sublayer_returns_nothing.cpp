// SPDX-License-Identifier: MIT
// A sublayer that returns nothing and has nowhere to write to.
// EXPECT: tokennorm: a sublayer called as f(x) returns nothing
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  void operator()(const Tokens& x, Tokens& y) const { y = x; }
#else
  void operator()(const Tokens&) const {}
#endif
};

int main() {
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
