// SPDX-License-Identifier: MIT
// A sublayer that writes into y and returns a status: what returns is not one that writes.
// EXPECT: tokennorm: a sublayer cannot be called as f(x), nor as an f(x, y) that returns void
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

#ifdef FIXED
void feed_forward(const Tokens& x, Tokens& y) { y = 2 * x; }
#else
bool feed_forward(const Tokens& x, Tokens& y) {
  y = 2 * x;
  return true;
}
#endif

int main() {
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), feed_forward);
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
