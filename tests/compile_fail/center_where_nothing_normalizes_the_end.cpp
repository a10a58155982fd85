// SPDX-License-Identifier: MIT
// Without a final LayerNorm the result shows the mean of the stream.
// EXPECT: tokennorm: center_writers: the stack does not end in a LayerNorm
#include "linear.hpp"

#include <vector>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  Tokens embedding = Tokens::Ones(50, 8);
  const std::vector blocks(2, tokennorm::PreLNResidual(norm, Linear{}));
#ifdef FIXED
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, norm);
#else
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, tokennorm::NoNorm{});
#endif
  tokennorm::center_writers(stack, embedding);
}
