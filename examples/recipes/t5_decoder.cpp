// SPDX-License-Identifier: MIT
// T5's decoder: three Pre-LN connections in a block, with RMSNorm and no biases. What the encoder
// gave is handed to the call, with(memory), and cross-attention alone takes it. For every block
// that is not attention and feed-forward: Block takes any connections, and named(…) names their
// parts.
#include <tokennorm/tokennorm.hpp>

#include <iostream>
#include <string>
#include <vector>

using tokennorm::named, tokennorm::PreLNResidual, tokennorm::RMSNorm, tokennorm::with;
using Tokens = tokennorm::TokenMatrix<float>;

/// softmax(q·mᵀ)·m: T5 does not divide by √C.
template <class Matrix>
Matrix attend(const Matrix& q, const Matrix& m) {
  Matrix a = q * m.transpose();
  a = (a.colwise() - a.rowwise().maxCoeff()).array().exp();
  return a.rowwise().sum().cwiseInverse().asDiagonal() * a * m;
}

/// x/√(mean(x²) + ε) of each row, in double
Eigen::MatrixXd rms_norm(const Eigen::MatrixXd& x) {
  return (x.array().square().rowwise().mean() + 1e-6).rsqrt().matrix().asDiagonal() * x;
}

auto decoder_block(tokennorm::Index channels) {
  const RMSNorm<float> norm(channels);  // ε = 1e-6; without β unless {.shift = true}
  const auto self_attention = [](const Tokens& n) { return attend(n, n); };
  const auto cross_attention = [](const Tokens& n, const Tokens& m) { return attend(n, m); };
  const auto feed_forward = [](const Tokens& n) -> Tokens { return n.cwiseMax(0.0f); };
  return tokennorm::Block(named("self_attention", PreLNResidual(norm, self_attention)),
                          named("cross_attention", PreLNResidual(norm, cross_attention)),
                          named("feed_forward", PreLNResidual(norm, feed_forward)));
}

int main() {
  const Tokens x = Tokens::Random(5, 16), memory = Tokens::Random(9, 16);
  tokennorm::Stack decoder(tokennorm::NoNorm{}, std::vector(2, decoder_block(16)),
                           RMSNorm<float>(16));
  const Tokens y = decoder(x, with(memory));

  Eigen::MatrixXd h = x.cast<double>(), m = memory.cast<double>(), n;
  for (int block = 0; block < 2; ++block) {
    n = rms_norm(h), h += attend(n, n);
    n = rms_norm(h), h += attend(n, m);
    h += rms_norm(h).cwiseMax(0.0);
  }
  const double error = (y.cast<double>() - rms_norm(h)).norm();
  decoder.visit_parameters([](const std::string& name, auto&&...) { std::cout << name << ' '; });
  std::cout << "\ntwo blocks and their equation in double differ by " << error << '\n';
  if (error < 1e-5) return 0;
  std::cerr << "t5_decoder: the stack differs from its equation\n";
  return 1;
}
