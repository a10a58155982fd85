// SPDX-License-Identifier: MIT
/// A progress bar on stderr: redrawn in place on a terminal; elsewhere, as in a log, a line every
/// tenth of the way.
#pragma once

#include "history.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#if __has_include(<sys/ioctl.h>)
#include <sys/ioctl.h>
#include <unistd.h>
#endif

namespace gpt {

class ProgressBar {
 public:
  void operator()(const Progress& progress);

 private:
  using Clock = std::chrono::steady_clock;

  static int terminal_columns();
  static std::string line(const Progress& progress, int columns);

  int columns_ = terminal_columns();  // 0: not a terminal
  Clock::time_point drawn_{};
};

inline int ProgressBar::terminal_columns() {
#if __has_include(<sys/ioctl.h>)
  if (isatty(STDERR_FILENO) == 0) return 0;
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
#else
  return 0;
#endif
}

/// The bar gets the columns that the numbers leave it, if there are any.
inline std::string ProgressBar::line(const Progress& progress, int columns) {
  const auto left = static_cast<int>(progress.seconds_left + 0.5);
  char validation[32] = "-";
  if (!std::isnan(progress.validation_loss)) {
    std::snprintf(validation, sizeof validation, "%.3f", progress.validation_loss);
  }
  char numbers[160];
  std::snprintf(numbers, sizeof numbers,
                "%3d %%  step %ld/%ld  loss %.3f  validation %s  %.1fk tokens/s  %d:%02d left",
                static_cast<int>(100 * progress.step / progress.steps),
                static_cast<long>(progress.step), static_cast<long>(progress.steps),
                progress.training_loss, validation, progress.tokens_per_second / 1000, left / 60,
                left % 60);
  const auto room = columns - static_cast<int>(std::strlen(numbers)) - 4;  // "[", "] ", a margin
  if (room < 3) return std::string(numbers).substr(0, static_cast<std::size_t>(columns - 1));
  const int width = std::min(room, 30);
  const auto filled = static_cast<int>(progress.step * width / progress.steps);
  return '[' + std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(width - filled), '-') + "] " + numbers;
}

inline void ProgressBar::operator()(const Progress& progress) {
  const bool last = progress.step == progress.steps;
  if (columns_ == 0) {
    const bool tenth =
        progress.step * 10 / progress.steps != (progress.step - 1) * 10 / progress.steps;
    if (tenth) std::fprintf(stderr, "%s\n", line(progress, 100).c_str());
    return;
  }
  const auto now = Clock::now();
  if (!last && now - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = now;
  std::fprintf(stderr, "\r%s\033[K%s", line(progress, columns_).c_str(), last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace gpt
