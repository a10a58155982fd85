// SPDX-License-Identifier: MIT
// One of two units with different -m flags: PREFIX is in the names of its functions.
#include "unit.hpp"

#define JOIN_EXPANDED(a, b) a##b
#define JOIN(a, b) JOIN_EXPANDED(a, b)

using namespace tokennorm;

void JOIN(PREFIX, _normalize)(const float* x, float* y, Index count, Index channels) {
  const LayerNorm<float> norm(channels);
  const auto f = [](const TokenMatrix<float>& n) -> TokenMatrix<float> { return 2 * n; };
  const PreLN block(norm, f, RMSNorm<float>(channels), f);
  const TokenMatrix<float> normed = norm(tokens(x, count, channels));
  tokens(y, count, channels) = block(normed);
}

LayerNorm<float>* JOIN(PREFIX, _make)(Index channels) { return new LayerNorm<float>(channels); }

TokenMatrix<float> JOIN(PREFIX, _use_and_delete)(LayerNorm<float>* norm,
                                                 const TokenMatrix<float>& x) {
  LayerNorm<float> copy(x.cols() + 1);
  copy = *norm;
  delete norm;
  const LayerNorm<float> moved = std::move(copy);
  return moved(x);
}
