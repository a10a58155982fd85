// SPDX-License-Identifier: MIT
// What a Sandwich's output norm writes has a mean.
// EXPECT: tokennorm: center_writers: the output norm of a Sandwich-LN or residual-post-norm writes
#include "linear.hpp"

#include <vector>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  Tokens embedding = Tokens::Ones(50, 8);
#ifdef FIXED
  const std::vector blocks(2, tokennorm::PreLN(norm, Linear{}, norm, Linear{}));
#else
  const std::vector blocks(2, tokennorm::SandwichLN(norm, Linear{}, norm, norm, Linear{}, norm));
#endif
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, norm);
  tokennorm::center_writers(stack, embedding);
}
