// SPDX-License-Identifier: MIT
// For a program whose matrices are Eigen's default, column-major. (tokens, channels) goes in and
// out as it is; (channels, tokens), a token in each column, goes in and out by transpose(), which
// copies nothing, and is the faster of the two, as the channels of a token lie together.
#include <tokennorm/tokennorm.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>

/// max |y − ((x − μ)/√(σ² + ε)·γ + β)|, token by token, in double
double error_of(const Eigen::MatrixXf& x, const Eigen::MatrixXf& y,
                const tokennorm::LayerNorm<float>& norm) {
  double largest = 0;
  for (int t = 0; t < x.rows(); ++t) {
    const Eigen::ArrayXd token = x.row(t).cast<double>().transpose();
    const Eigen::ArrayXd deviation = token - token.mean();
    const double rstd = 1 / std::sqrt(deviation.square().mean() + norm.options().epsilon);
    const Eigen::ArrayXd expected = deviation * rstd * norm.scale().cast<double>().array() +
                                    norm.shift().cast<double>().array();
    largest = std::max(largest,
                       (y.row(t).cast<double>().transpose().array() - expected).abs().maxCoeff());
  }
  return largest;
}

int main() {
  constexpr int count = 5, channels = 12;
  tokennorm::LayerNorm<float> norm(channels);
  norm.scale().setRandom();
  norm.shift().setRandom();

  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(count, channels);
  const Eigen::MatrixXf y = norm(x);  // as x, column-major

  Eigen::MatrixXf columns = x.transpose();         // a token in each column
  norm(columns.transpose(), columns.transpose());  // in place

  // Blocks take them too. Sublayers are given row-major tokens, whatever the caller has.
  using Tokens = tokennorm::TokenMatrix<float>;
  const auto attention = [](const Tokens& n) -> Tokens { return n / 2; };
  const auto feed_forward = [](const Tokens& n) -> Tokens { return n * 0; };
  const tokennorm::PreLN block(norm, attention, norm, feed_forward);
  const Eigen::MatrixXf h = block(x);  // x + norm(x)/2

  const double error = error_of(x, y, norm), columns_error = error_of(x, columns.transpose(), norm);
  const double block_error = error_of(x, (h - x) * 2, norm);
  std::cout << "a token in each row: off by " << error << "; in each column: " << columns_error
            << "; block: " << block_error << '\n';
  if (error + columns_error + block_error < 1e-5) return 0;
  std::cerr << "column_major: the result is not the LayerNorm of each token\n";
  return 1;
}
