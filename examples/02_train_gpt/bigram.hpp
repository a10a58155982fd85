// SPDX-License-Identifier: MIT
/// The yardstick: a character bigram model, which sees one character and no more.
///
///     p(b | a) = (n(a, b) + δ) / (n(a) + δ·V)
///
/// n(a, b) counts how often b follows a in the training text, V is the size of the vocabulary, and
/// δ > 0 leaves some probability to pairs that were never seen.
#pragma once

#include "parameters.hpp"

#include <cmath>
#include <span>

namespace gpt {

class Bigram {
 public:
  Bigram(std::span<const int> text, Index vocabulary, double smoothing = 0.1);

  double probability(int previous, int next) const;
  /// The mean of −log p over the second and later characters of a text: nats per character.
  double loss(std::span<const int> text) const;

 private:
  double smoothing_;
  Eigen::MatrixXd counts_;    // n(a, b)
  Eigen::VectorXd previous_;  // n(a)
};

inline Bigram::Bigram(std::span<const int> text, Index vocabulary, double smoothing)
    : smoothing_(smoothing), counts_(Eigen::MatrixXd::Zero(vocabulary, vocabulary)) {
  for (std::size_t i = 1; i < text.size(); ++i) counts_(text[i - 1], text[i]) += 1;
  previous_ = counts_.rowwise().sum();
}

inline double Bigram::probability(int previous, int next) const {
  const auto vocabulary = static_cast<double>(counts_.rows());
  return (counts_(previous, next) + smoothing_) / (previous_(previous) + smoothing_ * vocabulary);
}

inline double Bigram::loss(std::span<const int> text) const {
  double sum = 0;
  for (std::size_t i = 1; i < text.size(); ++i) sum -= std::log(probability(text[i - 1], text[i]));
  return sum / static_cast<double>(text.size() - 1);
}

}  // namespace gpt
