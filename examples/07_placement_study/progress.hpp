// SPDX-License-Identifier: MIT
/// Jobs side by side, and one progress bar for all of them.
#pragma once

#include "common/progress_line.hpp"
#include "common/speed.hpp"
#include "sublayer.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace study {

/// f(0), f(1), …, f(count − 1), on several threads; throws what one of them has thrown.
template <class F>
void side_by_side(std::size_t count, unsigned threads, const F& f) {
  std::atomic<std::size_t> next = 0;
  std::exception_ptr error;
  std::mutex error_mutex;
  const auto work = [&] {
    for (std::size_t job = next++; job < count; job = next++) {
      try {
        f(job);
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        error = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::jthread> workers(std::min<std::size_t>(threads, count));
  for (auto& worker : workers) worker = std::jthread(work);
  workers.clear();  // joins them
  if (error) std::rethrow_exception(error);
}

/// Of a part of the study, in units of work; any thread advances it.
class Progress {
 public:
  Progress(std::string part, Index all) : part_(std::move(part)), all_(static_cast<long>(all)) {}

  void advance(Index done = 1) {
    const std::lock_guard lock(mutex_);
    done_ += static_cast<long>(done);
    line_.show(done_, all_, [&] { return words(); });
  }

 private:
  std::string words() const {
    const double left = watch_.seconds() * static_cast<double>(all_ - done_) /
                        static_cast<double>(std::max(done_, 1L));
    const int seconds = static_cast<int>(left + 0.5);
    char text[128];
    std::snprintf(text, sizeof text, "%s  %ld/%ld  %d:%02d left", part_.c_str(), done_, all_,
                  seconds / 60, seconds % 60);
    return text;
  }

  std::string part_;
  long all_, done_ = 0;
  std::mutex mutex_;
  examples::Stopwatch watch_;
  examples::ProgressLine line_;
};

}  // namespace study
