// SPDX-License-Identifier: MIT
// A sublayer does not say which of its linear maps read its input.
// EXPECT: tokennorm: fold_norms: a sublayer does not say which of its linear maps read its input
#include "linear.hpp"

int main() {
#ifdef FIXED
  const Linear sublayer;
#else
  const auto sublayer = [](const Tokens& x) { return x; };
#endif
  tokennorm::PreLNResidual connection(tokennorm::RMSNorm<float>(8), sublayer);
  tokennorm::fold_norms(connection);
}
