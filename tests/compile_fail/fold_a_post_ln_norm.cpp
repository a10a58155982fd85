// SPDX-License-Identifier: MIT
// A Post-LN norm's result is the residual stream as well as the next sublayer's input.
// EXPECT: tokennorm: fold_norms: the result of a Post-LN norm is the residual stream
#include "linear.hpp"

int main() {
  const tokennorm::RMSNorm<float> norm(8);
#ifdef FIXED
  tokennorm::PreLN block(norm, Linear{}, norm, Linear{});
#else
  tokennorm::PostLN block(Linear{}, norm, Linear{}, norm);
#endif
  tokennorm::fold_norms(block);
}
