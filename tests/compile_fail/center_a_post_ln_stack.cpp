// SPDX-License-Identifier: MIT
// A Post-LN norm writes the stream itself.
// EXPECT: tokennorm: center_writers: the norm of a Post-LN connection writes the residual stream
#include "linear.hpp"

#include <vector>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  Tokens embedding = Tokens::Ones(50, 8);
#ifdef FIXED
  const std::vector blocks(2, tokennorm::PreLN(norm, Linear{}, norm, Linear{}));
#else
  const std::vector blocks(2, tokennorm::PostLN(Linear{}, norm, Linear{}, norm));
#endif
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, norm);
  tokennorm::center_writers(stack, embedding);
}
