// SPDX-License-Identifier: MIT
// A residual-post-norm's result goes into the stream, which every later sublayer reads.
// EXPECT: tokennorm: fold_norms: the result of a residual-post-norm is added to the residual stream
#include "linear.hpp"

using Norm = tokennorm::RMSNorm<float>;

int main() {
#ifdef FIXED
  tokennorm::SandwichLNResidual block(Norm(8), Linear{}, Norm(8));
#else
  tokennorm::ResPostLNResidual block(Linear{}, Norm(8));
#endif
  tokennorm::fold_norms(block);
}
