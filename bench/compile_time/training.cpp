// SPDX-License-Identifier: MIT
// What inference.cpp does, and forward and backward of the same: bench/compile_time.sh
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;
using LayerNorm = tokennorm::LayerNorm<float>;

/// A sublayer that can be trained and costs little to compile.
struct Doubled {
  Tokens operator()(const Tokens& x) const { return x * 2.0f; }
  Tokens forward(const Tokens& x) { return x * 2.0f; }
  Tokens backward(const Tokens& dy) { return dy * 2.0f; }
};
using Block = tokennorm::PreLN<LayerNorm, Doubled, LayerNorm, Doubled>;

void normalize(const LayerNorm& norm, const Tokens& x, Tokens& y) { norm(x, y); }

void run_block(const Block& block, const Tokens& x, Tokens& y) { block(x, y); }

Tokens train_norm(LayerNorm& norm, const Tokens& x, const Tokens& dy) {
  const Tokens y = norm.forward(x);
  return y + norm.backward(dy);
}

Tokens train_block(Block& block, const Tokens& x, const Tokens& dy) {
  const Tokens y = block.forward(x);
  return y + block.backward(dy);
}
