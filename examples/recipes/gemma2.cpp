// SPDX-License-Identifier: MIT
// Gemma 2: a norm before each sublayer and one on its update, four in a block, whose γ is stored
// without the 1 that is added to it. make_norm takes the kind, ε and that 1 from the family; any
// other family is one word away.
#include <tokennorm/tokennorm.hpp>

#include <cmath>
#include <iostream>

using Norm = tokennorm::AnyNorm<float>;
using Tokens = tokennorm::TokenMatrix<float>;

/// x·rstd·(1 + γ) of each row, rstd = 1/√(mean(x²) + 1e-6), in double
Tokens gemma_norm(const Norm& norm, const Tokens& x) {
  const Eigen::ArrayXXd exact = x.cast<double>();
  const Eigen::ArrayXd rstd = (exact.square().rowwise().mean() + 1e-6).rsqrt();
  const Eigen::ArrayXd factor = 1 + norm.scale().cast<double>().array();
  return ((exact.colwise() * rstd).rowwise() * factor.transpose()).matrix().cast<float>();
}

/// γ of a trained Gemma is about 0.
Norm trained_norm(int channels) {
  Norm norm = tokennorm::make_norm<float>(tokennorm::families::gemma2, channels);
  norm.scale().setRandom();
  norm.scale() *= 0.2f;
  return norm;
}

int main() {
  constexpr int count = 6, channels = 16;
  const Norm n1 = trained_norm(channels), n2 = trained_norm(channels);
  const Norm n3 = trained_norm(channels), n4 = trained_norm(channels);
  const Tokens w = Tokens::Random(channels, channels), up = Tokens::Random(channels, channels);
  const auto attention = [&](const Tokens& n) -> Tokens { return n * w; };  // in its place
  const auto feed_forward = [&](const Tokens& n) -> Tokens {  // GeGLU: gelu(n·W)∘(n·U)
    const Eigen::ArrayXXf g = n * w;
    const Eigen::ArrayXXf tanh = (0.7978846f * (g + 0.044715f * g.cube())).tanh();
    return (g / 2 * (1 + tanh) * (n * up).array()).matrix();
  };
  const tokennorm::SandwichLN block(n1, attention, n2, n3, feed_forward, n4);

  // Gemma's embeddings are multiplied by √C first.
  const Tokens x = Tokens::Random(count, channels) * std::sqrt(float(channels));
  const Tokens y = block(x);

  const Tokens h = x + gemma_norm(n2, attention(gemma_norm(n1, x)));
  const Tokens expected = h + gemma_norm(n4, feed_forward(gemma_norm(n3, h)));
  const float error = (y - expected).norm() / expected.norm();
  std::cout << "Gemma 2's block, γ about 0, and its equation differ by " << error << '\n';
  if (error < 1e-5f) return 0;
  std::cerr << "gemma2: the block differs from its equation\n";
  return 1;
}
