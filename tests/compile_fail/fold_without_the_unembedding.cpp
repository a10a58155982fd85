// SPDX-License-Identifier: MIT
// The final norm's parameters would have nowhere to go.
// EXPECT: tokennorm: fold_norms: the stack's final norm needs its reader
#include "linear.hpp"

#include <vector>

int main() {
  const tokennorm::RMSNorm<float> norm(8);
  tokennorm::Stack stack(tokennorm::NoNorm{},
                         std::vector(2, tokennorm::PreLNResidual(norm, Linear{})), norm);
#ifdef FIXED
  Tokens unembedding = Tokens::Ones(50, 8);
  tokennorm::fold_norms(stack, tokennorm::OutIn{unembedding});
#else
  tokennorm::fold_norms(stack);
#endif
}
