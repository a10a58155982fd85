// SPDX-License-Identifier: MIT
// A norm by std::ref, as sublayers may be given.
// EXPECT: tokennorm: PostLNResidual: argument 2 is a std::ref
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

#include <functional>

using namespace tokennorm;
using Tokens = TokenMatrix<float>;

int main() {
  LayerNorm<float> norm(8);
  const auto f = [](const Tokens& n) -> Tokens { return 2 * n; };
#ifdef FIXED
  const PostLNResidual block(std::ref(f), norm);
#else
  const PostLNResidual block(f, std::ref(norm));
#endif
  const Tokens x = Tokens::Ones(4, 8);
  block(x);
}
