// SPDX-License-Identifier: MIT
// GPT-NeoX: attention and feed-forward read the same stream, each through a norm of its own, and
// both updates are added to it at once. With one norm for both (GPT-J, PaLM, Cohere) leave the
// second one out: ParallelLN(norm, attention, feed_forward).
#include <tokennorm/tokennorm.hpp>

#include <iostream>

using Tokens = tokennorm::TokenMatrix<float>;
using Matrix = Eigen::MatrixXd;
using Norm = tokennorm::LayerNorm<float>;

/// (x − μ)/√(σ² + ε)·γ + β of each row, in double
Matrix layer_norm(const Norm& norm, const Matrix& x) {
  const Matrix deviation = x.colwise() - x.rowwise().mean();
  const Eigen::ArrayXd variance = deviation.array().square().rowwise().mean();
  const Matrix scaled = (variance + norm.options().epsilon).rsqrt().matrix().asDiagonal() *
                        deviation * norm.scale().cast<double>().asDiagonal();
  return scaled.rowwise() + norm.shift().cast<double>().transpose();
}

Norm random_norm(int channels) {
  Norm norm(channels, {.epsilon = 1e-5});
  norm.scale().setRandom();
  norm.shift().setRandom();
  return norm;
}

int main() {
  constexpr int tokens = 6, channels = 16;
  const Tokens x = Tokens::Random(tokens, channels) * 10;
  const Norm attention_norm = random_norm(channels), feed_forward_norm = random_norm(channels);

  // In attention's place: each token reads the mean of those up to it.
  Tokens mean = Tokens::Ones(tokens, tokens).triangularView<Eigen::Lower>();
  for (int t = 0; t < tokens; ++t) mean.row(t) /= static_cast<float>(t + 1);
  const Tokens w = Tokens::Random(channels, channels);
  const auto attention = [&](const Tokens& n) -> Tokens { return mean * n * w; };
  const auto feed_forward = [&](const Tokens& n) -> Tokens { return (n * w).array().tanh(); };

  const tokennorm::ParallelLN block(attention_norm, attention, feed_forward_norm, feed_forward);
  const Tokens y = block(x);

  // y = x + attention(LN₁(x)) + feed_forward(LN₂(x))
  const Matrix exact = x.cast<double>(), weight = w.cast<double>();
  const Matrix expected = exact + mean.cast<double>() * layer_norm(attention_norm, exact) * weight +
                          (layer_norm(feed_forward_norm, exact) * weight).array().tanh().matrix();
  const double error = (y.cast<double>() - expected).norm() / expected.norm();
  std::cout << "GPT-NeoX's block and its equation in double differ by " << error << '\n';
  if (error < 1e-6) return 0;
  std::cerr << "gpt_neox: the block differs from its equation\n";
  return 1;
}
