// SPDX-License-Identifier: MIT
/// What a training run remembers of itself: the loss curve, gradient norms per layer, and time.
#pragma once

#include "gradient_norms.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace gpt {

/// What the progress bar is told after each step.
struct Progress {
  Index step;  // 1, 2, …, steps
  Index steps;
  double training_loss;      // smoothed
  double validation_loss;    // the latest; NaN before the first
  double tokens_per_second;  // in training; validation is not counted
  double seconds_left;
};

/// One row of the loss curve: means over the steps since the row before, and the validation loss
/// and learning rate at its end.
struct CurvePoint {
  Index step;
  double training_loss;
  double validation_loss;
  double learning_rate;
  double gradient_norm;
};

struct LayerHistory {
  std::string layer;
  double first_step;  // gradient norm at the first step
  double mean;        // over all steps
};

struct History {
  std::vector<CurvePoint> curve;
  std::vector<LayerHistory> gradient_norms;
  double seconds = 0;
};

/// Gathers a History. After each step: add_step; then, if row_is_due, end_row.
class Recorder {
 public:
  Recorder(Index steps, Index tokens_per_step);

  void add_step(double loss, double learning_rate, const std::vector<LayerGradient>& layers);
  bool row_is_due() const;
  void end_row(double validation_loss);

  Progress progress() const;
  History finish();

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  }

  Index steps_, rows_, tokens_per_step_;
  Index step_ = 0;
  Index row_steps_ = 0;
  CurvePoint row_{};  // sums, until the row ends
  double smoothed_loss_ = 0;
  History history_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point step_end_ = start_;
  double validation_seconds_ = 0;
};

// ---------------------------------------------------------------------------------------------

/// 40 rows, or fewer where the run is so short that validation would take most of the time.
inline Recorder::Recorder(Index steps, Index tokens_per_step)
    : steps_(steps),
      rows_(std::clamp<Index>(steps / 10, 1, 40)),
      tokens_per_step_(tokens_per_step) {}

inline void Recorder::add_step(double loss, double learning_rate,
                               const std::vector<LayerGradient>& layers) {
  step_end_ = Clock::now();
  if (step_ == 0) {
    for (const auto& [layer, norm] : layers) history_.gradient_norms.push_back({layer, norm, 0});
    smoothed_loss_ = loss;
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    history_.gradient_norms[i].mean += layers[i].norm / static_cast<double>(steps_);
  }
  ++step_;
  ++row_steps_;
  smoothed_loss_ += 0.05 * (loss - smoothed_loss_);
  row_.training_loss += loss;
  row_.gradient_norm += total_norm(layers);
  row_.learning_rate = learning_rate;
}

inline bool Recorder::row_is_due() const {
  return step_ * rows_ / steps_ != (step_ - 1) * rows_ / steps_;
}

inline void Recorder::end_row(double validation_loss) {
  const auto count = static_cast<double>(row_steps_);
  history_.curve.push_back({step_, row_.training_loss / count, validation_loss, row_.learning_rate,
                            row_.gradient_norm / count});
  row_ = {};
  row_steps_ = 0;
  validation_seconds_ += seconds_between(step_end_, Clock::now());
}

inline Progress Recorder::progress() const {
  const double seconds = seconds_between(start_, Clock::now());
  const auto done = static_cast<double>(step_);
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  return {step_,
          steps_,
          smoothed_loss_,
          history_.curve.empty() ? none : history_.curve.back().validation_loss,
          done * static_cast<double>(tokens_per_step_) / (seconds - validation_seconds_),
          seconds / done * static_cast<double>(steps_ - step_)};
}

inline History Recorder::finish() {
  history_.seconds = seconds_between(start_, Clock::now());
  return std::move(history_);
}

}  // namespace gpt
