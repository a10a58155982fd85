// SPDX-License-Identifier: MIT
// A norm over memory that Eigen does not own, where it stands: a vector, a span, a pointer with a
// row stride. For an engine whose buffers are its own; tokens(…) is a view, and copies nothing.
#include <tokennorm/tokennorm.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <span>
#include <vector>

/// max |y − x·rstd| of one token, rstd = 1/√(mean(x²) + ε), in double
double error_of(std::span<const float> x, std::span<const float> y, double epsilon) {
  const std::vector<double> exact(x.begin(), x.end()), result(y.begin(), y.end());
  double sum = 0, largest = 0;
  for (const double value : exact) sum += value * value;
  const double rstd = 1 / std::sqrt(sum / static_cast<double>(exact.size()) + epsilon);
  for (std::size_t c = 0; c < exact.size(); ++c) {
    largest = std::max(largest, std::abs(result[c] - exact[c] * rstd));
  }
  return largest;
}

int main() {
  using tokennorm::tokens;
  constexpr int channels = 4, stride = 6;  // in `padded`, two floats behind each token are not its
  const std::vector<float> x = {1, 2, 3, 4, 10, -20, 30, -40};
  const std::span first = std::span(x).first(channels), second = std::span(x).last(channels);
  const tokennorm::RMSNorm<float> norm(channels, {.epsilon = 1e-5});

  std::vector<float> y(x.size());  // from a vector into another one
  norm(tokens(x, channels), tokens(y, channels));

  std::vector<float> in_place = x;  // the second token alone, through a span
  const std::span token = std::span(in_place).last(channels);
  norm(tokens(token, channels), tokens(token, channels));

  std::vector<float> padded = {1, 2, 3, 4, 99, 99, 10, -20, 30, -40, 99, 99};  // through a pointer
  auto rows = tokens(padded.data(), 2, channels, stride);
  norm(rows, rows);

  const std::span all(padded);
  const double error = error_of(first, std::span(y).first(channels), 1e-5) +
                       error_of(second, std::span(y).last(channels), 1e-5) +
                       error_of(second, token, 1e-5) + error_of(first, all.first(channels), 1e-5) +
                       error_of(second, all.subspan(stride, channels), 1e-5);
  const bool apart = in_place[0] == 1 && padded[4] == 99 && padded[11] == 99;
  std::cout << "two tokens from a vector, a span and a pointer: off by " << error << " in all\n";
  if (error < 1e-6 && apart) return 0;
  std::cerr << "own_memory: not the RMSNorm of each token, or more than the tokens was written\n";
  return 1;
}
