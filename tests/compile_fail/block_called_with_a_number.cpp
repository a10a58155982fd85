// SPDX-License-Identifier: MIT
// What a sublayer needs is given by with(…).
// EXPECT: tokennorm: the arguments of a call on a block are
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using namespace tokennorm;
using Tokens = TokenMatrix<float>;

int main() {
  const LayerNorm<float> norm(8);
  const PreLNResidual block(norm, [](const Tokens& n, int power) -> Tokens { return power * n; });
  const Tokens x = Tokens::Ones(4, 8);
  Tokens y;
#ifdef FIXED
  block(x, y, with(4));
#else
  block(x, y, 4);
#endif
}
