// SPDX-License-Identifier: MIT
/// The next token of a text, from the logits of all:
///
///     argmax(logits)                       temperature 0
///     ~ softmax(logits / temperature)      else, of the most probable tokens only, as many as
///                                          have the probability top_p together
///
/// Source     Holtzman et al. 2019, arXiv:1904.09751, section 3.1 (nucleus sampling)
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <random>
#include <vector>

namespace examples {

/// `logits` is a vector.
template <class Logits>
int sample(const Logits& logits, double temperature, double top_p, std::mt19937_64& rng) {
  Eigen::Index best = 0;
  logits.maxCoeff(&best);
  if (temperature == 0) return static_cast<int>(best);
  const Eigen::ArrayXd z = logits.template cast<double>();
  Eigen::ArrayXd weights = ((z - z(best)) / temperature).exp();
  if (top_p < 1) {
    const double all = weights.sum();
    // Those below the cutoff have less than 1 − top_p together, so that no one of them is needed.
    const double cutoff = (1 - top_p) * all / static_cast<double>(weights.size());
    std::vector<Eigen::Index> ids;
    for (Eigen::Index id = 0; id < weights.size(); ++id) {
      if (weights(id) >= cutoff) ids.push_back(id);
    }
    std::sort(ids.begin(), ids.end(), [&](auto a, auto b) { return weights(a) > weights(b); });
    Eigen::ArrayXd nucleus = Eigen::ArrayXd::Zero(weights.size());
    double sum = 0;
    for (auto id = ids.begin(); id != ids.end() && (sum < top_p * all || sum == 0); ++id) {
      nucleus(*id) = weights(*id);
      sum += weights(*id);
    }
    weights = nucleus;
  }
  std::discrete_distribution<int> next(weights.begin(), weights.end());
  return next(rng);
}

}  // namespace examples
