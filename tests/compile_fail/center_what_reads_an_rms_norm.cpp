// SPDX-License-Identifier: MIT
// An RMSNorm's result has a mean.
// EXPECT: tokennorm: center_reader: the result of an RMSNorm has a mean
#include <tokennorm/tokennorm.hpp>

int main() {
  tokennorm::TokenMatrix<float> weight = tokennorm::TokenMatrix<float>::Ones(8, 8);
#ifdef FIXED
  const tokennorm::LayerNorm<float> norm(8, {.scale = false, .shift = false});
#else
  const tokennorm::RMSNorm<float> norm(8, {.scale = false, .shift = false});
#endif
  tokennorm::center_reader(norm, tokennorm::OutIn{weight});
}
