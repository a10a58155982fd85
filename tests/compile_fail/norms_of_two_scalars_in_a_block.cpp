// SPDX-License-Identifier: MIT
// The norms of a block have parameters of two scalars.
// EXPECT: tokennorm: the norms of a block have parameters of different scalars
#include <tokennorm/tokennorm.hpp>

int main() {
  const auto same = [](const auto& x) { return x; };
#ifdef FIXED
  const tokennorm::RMSNorm<float> second(8);
#else
  const tokennorm::RMSNorm<double> second(8);
#endif
  const tokennorm::PreLN block(tokennorm::LayerNorm<float>(8), same, second, same);
  return block.channels() == 8 ? 0 : 1;
}
