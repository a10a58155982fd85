// SPDX-License-Identifier: MIT
// A third argument that is no executor.
// EXPECT: tokennorm: the last argument of a call is an executor
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Tokens x = Tokens::Ones(4, 8);
  Tokens y;
#ifdef FIXED
  norm(x, y, tokennorm::serial);
#else
  norm(x, y, 4);
#endif
}
