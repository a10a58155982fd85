// SPDX-License-Identifier: MIT
/// How long something took, and how many tokens a second that is.
#pragma once

#include <algorithm>
#include <chrono>

namespace examples {

/// Runs from where it is made.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Speed {
  long tokens = 0;
  double seconds = 0;

  double tokens_per_second() const { return static_cast<double>(tokens) / std::max(seconds, 1e-9); }
  void operator+=(const Speed& other) {
    tokens += other.tokens;
    seconds += other.seconds;
  }
};

}  // namespace examples
