// SPDX-License-Identifier: MIT
// The parameters of a norm are integers.
// EXPECT: tokennorm: a norm's parameters must be real and not integers
#include <tokennorm/tokennorm.hpp>

int main() {
#ifdef FIXED
  const tokennorm::LayerNorm<float> norm(8);
#else
  const tokennorm::LayerNorm<int> norm(8);
#endif
  return norm.channels() == 8 ? 0 : 1;
}
