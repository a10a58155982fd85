// SPDX-License-Identifier: MIT
// The ten lines to start from: a LayerNorm over a batch, and a Pre-LN block around two callables.
#include <tokennorm/tokennorm.hpp>

#include <iostream>

int main() {
  using tokennorm::LayerNorm, tokennorm::PreLN;
  using Tokens = tokennorm::TokenMatrix<float>;

  // A batch of 2 sequences of 3 tokens is 6 tokens, one per row, of 8 channels each.
  const Tokens x = Tokens::Random(6, 8) * 100;

  const LayerNorm<float> norm(8);
  const Tokens y = norm(x);

  const auto attention = [](const Tokens& tokens) -> Tokens { return tokens * 0.5f; };
  const auto feed_forward = [](const Tokens& tokens) -> Tokens { return tokens.cwiseMax(0.0f); };
  const PreLN block(LayerNorm<float>(8), attention, LayerNorm<float>(8), feed_forward);
  const Tokens h = block(x);  // u = x + attention(norm(x)), h = u + feed_forward(norm(u))

  std::cout << "x\n" << x << "\n\nLayerNorm(x)\n" << y << "\n\nPreLN(x)\n" << h << '\n';
}
