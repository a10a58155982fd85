// SPDX-License-Identifier: MIT
// The ten lines to start from: a LayerNorm over a batch, and a Pre-LN block around two callables.
// And why not by hand: a token for which the common formula is wrong.
#include <tokennorm/tokennorm.hpp>

#include <cmath>
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

  // Its mean is 900 σ, as where Google's Magika has its first norm.
  const Eigen::VectorXf token = Eigen::VectorXf::Random(512).array() * std::sqrt(3.0f) + 900;
  const Eigen::ArrayXd d = token.cast<double>().array() - token.cast<double>().mean();
  const Eigen::ArrayXd exact = d / std::sqrt(d.square().mean() + 1e-5);
  const float mean = token.mean(), variance = token.squaredNorm() / 512 - mean * mean;
  const auto error = [&](const auto& result) {
    return (result.template cast<double>().array() - exact).abs().maxCoeff();
  };
  std::cout << "\na token of mean 900 and variance 1: the largest error of\n"
            << "  (x - mean) / sqrt(E[x^2] - mean^2)   "
            << error((token.array() - mean) / std::sqrt(variance + 1e-5f)) << '\n'
            << "  LayerNorm(x)                         " << error(LayerNorm<float>(512)(token))
            << '\n';
}
