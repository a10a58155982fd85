// SPDX-License-Identifier: MIT
// An RMSNorm's result depends on the mean of the stream.
// EXPECT: tokennorm: center_writers: an RMSNorm reads the residual stream
#include "linear.hpp"

#include <vector>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  Tokens embedding = Tokens::Ones(50, 8);
#ifdef FIXED
  const std::vector blocks(2, tokennorm::PreLN(norm, Linear{}, norm, Linear{}));
#else
  const tokennorm::RMSNorm<float> rms(8);
  const std::vector blocks(2, tokennorm::PreLN(norm, Linear{}, rms, Linear{}));
#endif
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, norm);
  tokennorm::center_writers(stack, embedding);
}
