// SPDX-License-Identifier: MIT
// The sublayer stands where the norm should.
// EXPECT: tokennorm: PreLN: argument 1 is not a norm; the order is norm, attention, norm,
// feed_forward ERRORS: 2
#include <tokennorm/tokennorm.hpp>

using namespace tokennorm;
using Tokens = TokenMatrix<float>;

int main() {
  const LayerNorm<float> norm(8);
  const auto f = [](const Tokens& n) -> Tokens { return 2 * n; };
#ifdef FIXED
  const PreLN block(norm, f, norm, f);
#else
  const PreLN block(f, norm, f, norm);
#endif
  const Tokens x = Tokens::Ones(4, 8);
  block(x);
}
