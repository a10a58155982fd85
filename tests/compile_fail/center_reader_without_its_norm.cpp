// SPDX-License-Identifier: MIT
// Whether the norm has parameters is not said.
// EXPECT: tokennorm: the norm comes first, then the linear maps that read its result
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8, {.scale = false, .shift = false});
  tokennorm::TokenMatrix<float> weight = tokennorm::TokenMatrix<float>::Ones(8, 8);
#ifdef FIXED
  tokennorm::center_reader(norm, tokennorm::OutIn{weight});
#else
  tokennorm::center_reader(weight);
#endif
}
