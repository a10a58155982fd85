// SPDX-License-Identifier: MIT
// Activations in bfloat16. A norm reads and writes them as they are, computes in float and rounds
// once. In a block the stream may stay in float while the sublayers work in 16 bits, so that the
// sums of a deep model do not lose what each block adds.
#include <tokennorm/tokennorm.hpp>

#include <iostream>

using BFloat16 = Eigen::bfloat16;
using Tokens = tokennorm::TokenMatrix<float>;
using Tokens16 = tokennorm::TokenMatrix<BFloat16>;
using Matrix = Eigen::MatrixXd;

/// (x − μ)/√(σ² + ε) of each row, in double
Matrix layer_norm(const Matrix& x) {
  const Matrix deviation = x.colwise() - x.rowwise().mean();
  const Eigen::ArrayXd variance = deviation.array().square().rowwise().mean();
  return (variance + 1e-5).rsqrt().matrix().asDiagonal() * deviation;
}

int main() {
  constexpr int channels = 64;
  const tokennorm::LayerNorm<float> norm(channels);  // its parameters are float
  const Tokens stream = Tokens::Random(7, channels);

  // 16 bits in and out. A rounding is at most 2⁻⁸ of a value.
  const Tokens16 x = stream.cast<BFloat16>(), y = norm(x);
  const Matrix exact = layer_norm(x.cast<double>());
  const double rounding =
      ((y.cast<double>() - exact).array().abs() / exact.array().abs()).maxCoeff();

  // 16 bits in, float out.
  Tokens z;
  norm(x, z);
  const double error = (z.cast<double>() - exact).cwiseAbs().maxCoeff();

  // The stream in float; the sublayers get and give 16 bits.
  const auto attention = [](const Tokens16& n) -> Tokens16 { return n / BFloat16(64); };
  const auto feed_forward = [](const Tokens16& n) -> Tokens16 {
    return n.cwiseMax(BFloat16(0)) / BFloat16(64);
  };
  const tokennorm::PreLN block(norm, attention, norm, feed_forward);
  tokennorm::Workspace<float, BFloat16> workspace;
  Tokens h;
  block(stream, h, workspace);
  const Matrix u = stream.cast<double>() + layer_norm(stream.cast<double>()) / 64;
  const Matrix expected = u + layer_norm(u).cwiseMax(0.0) / 64;
  const double difference = (h.cast<double>() - expected).cwiseAbs().maxCoeff();

  std::cout << "norm: off by " << rounding
            << " of a value, of which 1/256 is the rounding; to float: " << error
            << "\nblock with a stream in float: off by " << difference << '\n';
  if (rounding < 1.001 / 256 && error < 1e-6 && difference < 1e-3) return 0;
  std::cerr << "bfloat16_inference: a result is further from its equation than its rounding\n";
  return 1;
}
