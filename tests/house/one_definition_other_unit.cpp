// SPDX-License-Identifier: MIT
#include <tokennorm/checkpoint/gguf.hpp>
#include <tokennorm/tokennorm.hpp>

tokennorm::TokenMatrix<float> normalized_in_other_unit(const tokennorm::TokenMatrix<float>& x) {
  return tokennorm::LayerNorm<float>(33)(x);
}
