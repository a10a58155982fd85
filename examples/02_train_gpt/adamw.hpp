// SPDX-License-Identifier: MIT
/// AdamW: Adam with weight decay that does not pass through the moments.
///
///     m ← β₁·m + (1 − β₁)·g        m̂ = m / (1 − β₁ᵗ)
///     v ← β₂·v + (1 − β₂)·g²       v̂ = v / (1 − β₂ᵗ)
///     w ← w − η·(m̂ / (√v̂ + ε) + λ·w)
///
/// η is the learning rate of step t = 1, 2, …; λ, the weight decay, is applied to matrices only:
/// to shrink a norm's scale or a bias would only fight what it is there for.
///
/// Source     Loshchilov, Hutter 2019, arXiv:1711.05101, algorithm 2 (its α = 1, its schedule = η,
///            its λ times η, as in PyTorch)
#pragma once

#include "parameters.hpp"

#include <cmath>
#include <numbers>
#include <stdexcept>
#include <vector>

namespace gpt {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
};

template <class Scalar>
class AdamW {
 public:
  explicit AdamW(AdamWOptions options = {}) : options_(options) {}

  /// One step down the gradients of `model`: anything with visit_parameters. The moments are kept
  /// in the order in which the parameters are visited, so it must be the same model each time.
  template <class Model>
  void step(Model& model, double learning_rate);

 private:
  using Flat = Eigen::Array<Scalar, Eigen::Dynamic, 1>;
  struct Moments {
    Flat first, second;
  };

  AdamWOptions options_;
  std::vector<Moments> moments_;
  int step_ = 0;
};

template <class Scalar>
template <class Model>
void AdamW<Scalar>::step(Model& model, double learning_rate) {
  ++step_;
  const auto beta1 = static_cast<Scalar>(options_.beta1);
  const auto beta2 = static_cast<Scalar>(options_.beta2);
  const auto epsilon = static_cast<Scalar>(options_.epsilon);
  const auto rate = static_cast<Scalar>(learning_rate);
  const auto first_correction = static_cast<Scalar>(1 / (1 - std::pow(options_.beta1, step_)));
  const auto second_correction = static_cast<Scalar>(1 / (1 - std::pow(options_.beta2, step_)));

  std::size_t parameter = 0;
  model.visit_parameters([&](const std::string& name, auto& value, auto& gradient) {
    // Value and gradient are stored alike, whatever the order: element by element, both are flat.
    Eigen::Map<Flat> w(value.data(), value.size());
    Eigen::Map<const Flat> g(gradient.data(), gradient.size());
    if (parameter == moments_.size()) {
      moments_.push_back({Flat::Zero(w.size()), Flat::Zero(w.size())});
    }
    auto& [m, v] = moments_[parameter++];
    if (m.size() != w.size()) throw std::logic_error("gpt: AdamW: " + name + " changed its size");

    const bool is_matrix = value.rows() > 1 && value.cols() > 1;
    const auto decay = static_cast<Scalar>(is_matrix ? options_.weight_decay : 0.0);
    m = beta1 * m + (Scalar(1) - beta1) * g;
    v = beta2 * v + (Scalar(1) - beta2) * g.square();
    w -= rate * (first_correction * m / ((second_correction * v).sqrt() + epsilon) + decay * w);
  });
}

/// The learning rate of `step` (0, 1, …, steps − 1): up in a straight line over the first `warm_up`
/// steps, then down a half cosine to a tenth of the peak. Post-LN needs the slow start.
inline double scheduled_learning_rate(double peak, Index step, Index steps, Index warm_up) {
  if (step < warm_up) return peak * static_cast<double>(step + 1) / static_cast<double>(warm_up);
  const double done = static_cast<double>(step - warm_up) / static_cast<double>(steps - warm_up);
  return peak * (0.1 + 0.45 * (1 + std::cos(std::numbers::pi * done)));
}

/// The same, with a tenth of the steps.
inline double scheduled_learning_rate(double peak, Index step, Index steps) {
  return scheduled_learning_rate(peak, step, steps, steps / 10);
}

}  // namespace gpt
