// SPDX-License-Identifier: MIT
// A sublayer that takes both arguments, the other way round.
// EXPECT: tokennorm: a sublayer takes some of what with(...) gives, or takes it in another order
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

using namespace tokennorm;
using Tokens = TokenMatrix<float>;
struct Session {};
struct Mask {};

int main() {
  const LayerNorm<float> norm(8);
#ifdef FIXED
  const auto f = [](const Tokens& n, Session&, const Mask&) -> Tokens { return 2 * n; };
#else
  const auto f = [](const Tokens& n, const Mask&, Session&) -> Tokens { return 2 * n; };
#endif
  const PreLNResidual block(norm, f);
  const Tokens x = Tokens::Ones(4, 8);
  Session session;
  Mask mask;
  block(x, with(session, mask));
}
