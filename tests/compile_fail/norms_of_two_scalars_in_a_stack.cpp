// SPDX-License-Identifier: MIT
// A stack's final norm has parameters of another scalar than its blocks.
// EXPECT: tokennorm: the norms of a Stack have parameters of different scalars
#include <tokennorm/tokennorm.hpp>

#include <vector>

int main() {
  const auto same = [](const auto& x) { return x; };
  const std::vector blocks(2, tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), same));
#ifdef FIXED
  const tokennorm::LayerNorm<float> final_norm(8);
#else
  const tokennorm::LayerNorm<double> final_norm(8);
#endif
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, final_norm);
  return stack.channels() == 8 ? 0 : 1;
}
