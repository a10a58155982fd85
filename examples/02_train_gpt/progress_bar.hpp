// SPDX-License-Identifier: MIT
/// The progress of a training, on stderr.
#pragma once

#include "common/progress_line.hpp"
#include "history.hpp"

#include <cmath>
#include <cstdio>
#include <string>

namespace gpt {

class ProgressBar {
 public:
  void operator()(const Progress& progress) {
    line_.show(static_cast<long>(progress.step), static_cast<long>(progress.steps),
               [&] { return words(progress); });
  }

 private:
  static std::string words(const Progress& progress);

  examples::ProgressLine line_;
};

inline std::string ProgressBar::words(const Progress& progress) {
  const auto left = static_cast<int>(progress.seconds_left + 0.5);
  char validation[32] = "-";
  if (!std::isnan(progress.validation_loss)) {
    std::snprintf(validation, sizeof validation, "%.3f", progress.validation_loss);
  }
  char numbers[160];
  std::snprintf(numbers, sizeof numbers,
                "step %ld/%ld  loss %.3f  validation %s  %.1fk tokens/s  %d:%02d left",
                static_cast<long>(progress.step), static_cast<long>(progress.steps),
                progress.training_loss, validation, progress.tokens_per_second / 1000, left / 60,
                left % 60);
  return numbers;
}

}  // namespace gpt
