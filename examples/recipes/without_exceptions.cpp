// SPDX-License-Identifier: MIT
// Compiled with -fno-exceptions: what would be thrown is written to stderr, and the program ends by
// abort(). A program that must not end asks first, of whatever shape comes from outside. Run it
// with an argument to see such an end.
#include <tokennorm/tokennorm.hpp>

#include <cmath>
#include <iostream>
#include <vector>

#ifdef __cpp_exceptions
#error "Compile this with -fno-exceptions."
#endif

using tokennorm::Index;

/// norm(values), in place; false, and nothing written, where they are no whole number of tokens.
bool normalize(const tokennorm::RMSNorm<float>& norm, std::vector<float>& values) {
  const Index channels = norm.channels();
  if (static_cast<Index>(values.size()) % channels != 0) return false;
  auto tokens = tokennorm::tokens(values, channels);
  norm(tokens, tokens);
  return true;
}

int main(int argc, char**) {
  constexpr double epsilon = 1e-6;
  const tokennorm::RMSNorm<float> norm(4, {.epsilon = epsilon});

  if (argc > 1) {
    const Eigen::MatrixXf x = Eigen::MatrixXf::Random(2, 6);
    norm(x);  // tokennorm: RMSNorm(4): x is 2 x 6 (tokens x channels); expected 4 channels
  }

  std::vector<float> right = {1, 2, 3, 4, 5, 6, 7, 8}, wrong = {1, 2, 3, 4, 5, 6};
  const std::vector<float> unchanged = wrong;
  const std::vector<double> x(right.begin(), right.end());
  const bool accepted = normalize(norm, right), refused = !normalize(norm, wrong);

  // y = x/√(mean(x²) + ε)
  double error = 0;
  for (std::size_t first = 0; first < x.size(); first += 4) {
    double squares = 0;
    for (std::size_t c = first; c < first + 4; ++c) squares += x[c] * x[c];
    for (std::size_t c = first; c < first + 4; ++c) {
      error += std::abs(static_cast<double>(right[c]) - x[c] / std::sqrt(squares / 4 + epsilon));
    }
  }
  std::cout << "8 values: off by " << error << "; 6 values: " << (refused ? "refused" : "accepted")
            << '\n';
  if (accepted && refused && wrong == unchanged && error < 1e-6) return 0;
  std::cerr << "without_exceptions: two tokens were not normalized, or one and a half were\n";
  return 1;
}
