// SPDX-License-Identifier: MIT
/// A progress bar on stderr: redrawn in place on a terminal; elsewhere, as in a log, a line every
/// tenth of the way.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#include "trainer.hpp"

namespace gpt {

class ProgressBar {
 public:
  void operator()(const Progress& progress);

 private:
  using Clock = std::chrono::steady_clock;

  static bool on_terminal();
  static std::string line(const Progress& progress, int width);

  bool on_terminal_ = on_terminal();
  Clock::time_point drawn_{};
};

inline bool ProgressBar::on_terminal() {
#if __has_include(<unistd.h>)
  return isatty(STDERR_FILENO) != 0;
#else
  return false;
#endif
}

inline std::string ProgressBar::line(const Progress& progress, int width) {
  const auto filled = static_cast<int>(progress.step * width / progress.steps);
  const std::string bar = std::string(static_cast<std::size_t>(filled), '#') +
                          std::string(static_cast<std::size_t>(width - filled), '-');
  const auto left = static_cast<int>(progress.seconds_left + 0.5);
  char text[160];
  std::snprintf(text, sizeof text,
                "[%s] %3d %%  step %ld/%ld  loss %.3f  validation %.3f  %.1fk tokens/s  %d:%02d "
                "left",
                bar.c_str(), static_cast<int>(100 * progress.step / progress.steps),
                static_cast<long>(progress.step), static_cast<long>(progress.steps),
                progress.training_loss, progress.validation_loss, progress.tokens_per_second / 1000,
                left / 60, left % 60);
  return text;
}

inline void ProgressBar::operator()(const Progress& progress) {
  const bool last = progress.step == progress.steps;
  if (!on_terminal_) {
    const bool tenth =
        progress.step * 10 / progress.steps != (progress.step - 1) * 10 / progress.steps;
    if (tenth) std::fprintf(stderr, "%s\n", line(progress, 10).c_str());
    return;
  }
  const auto now = Clock::now();
  if (!last && now - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = now;
  std::fprintf(stderr, "\r%s\033[K%s", line(progress, 20).c_str(), last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace gpt
