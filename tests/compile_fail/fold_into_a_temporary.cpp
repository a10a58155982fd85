// SPDX-License-Identifier: MIT
// The folded matrix would be lost.
// EXPECT: tokennorm: a linear map is given a temporary matrix or vector
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

int main() {
  tokennorm::RMSNorm<float> norm(8);
#ifdef FIXED
  Tokens weight = Tokens::Ones(50, 8);
  tokennorm::fold_norm(norm, tokennorm::OutIn{weight});
#else
  tokennorm::fold_norm(norm, tokennorm::OutIn{Tokens(Tokens::Ones(50, 8))});
#endif
}
