// SPDX-License-Identifier: MIT
// A placement without any norm.
// EXPECT: tokennorm: a placement has no norm but NoNorm
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using namespace tokennorm;
using Tokens = TokenMatrix<float>;

int main() {
  const auto f = [](const Tokens& n) -> Tokens { return 2 * n; };
#ifdef FIXED
  const SandwichLNResidual block(NoNorm{}, f, LayerNorm<float>(8));
#else
  const SandwichLNResidual block(NoNorm{}, f, NoNorm{});
#endif
  const Tokens x = Tokens::Ones(4, 8);
  block(x);
}
