// SPDX-License-Identifier: MIT
/// A progress bar on stderr: redrawn in place on a terminal; elsewhere, as in a log, a line every
/// tenth of the way.
///
///     ProgressLine line;
///     line.show(done, all, [] { return "what there is to say"; });
///
/// done is 1, …, all; where the work ends early, all at once.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#if __has_include(<sys/ioctl.h>)
#include <sys/ioctl.h>
#include <unistd.h>
#endif

namespace examples {

/// Whether stdout, or stderr, is shown to somebody as it is written.
inline bool is_terminal([[maybe_unused]] std::FILE* stream) {
#if __has_include(<sys/ioctl.h>)
  return isatty(fileno(stream)) != 0;
#else
  return false;
#endif
}

class ProgressLine {
 public:
  /// `words()` is asked for what stands beside the bar when it is drawn.
  template <class Words>
  void show(long done, long all, const Words& words);

 private:
  using Clock = std::chrono::steady_clock;

  static int terminal_columns();
  static std::string line(long done, long all, const std::string& words, int columns);

  int columns_ = terminal_columns();  // 0: not a terminal
  long tenth_ = 0;
  bool finished_ = false;
  Clock::time_point drawn_{};
};

inline int ProgressLine::terminal_columns() {
  if (!is_terminal(stderr)) return 0;
#if __has_include(<sys/ioctl.h>)
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
#else
  return 0;
#endif
}

/// The bar gets the columns that the words leave it, if there are any.
inline std::string ProgressLine::line(long done, long all, const std::string& words, int columns) {
  char percent[16];
  std::snprintf(percent, sizeof percent, "%3d %%  ", static_cast<int>(100 * done / all));
  const std::string text = percent + words;
  const auto room = columns - static_cast<int>(text.size()) - 4;  // "[", "] ", a margin
  if (room < 3) return text.substr(0, static_cast<std::size_t>(columns - 1));
  const int width = std::min(room, 30);
  const auto filled = static_cast<int>(done * width / all);
  return '[' + std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(width - filled), '-') + "] " + text;
}

template <class Words>
void ProgressLine::show(long done, long all, const Words& words) {
  const bool last = done == all;
  if (finished_) return;
  finished_ = last;
  if (columns_ == 0) {
    if (done * 10 / all == tenth_) return;
    tenth_ = done * 10 / all;
    std::fprintf(stderr, "%s\n", line(done, all, words(), 100).c_str());
    return;
  }
  const auto now = Clock::now();
  if (!last && now - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = now;
  std::fprintf(stderr, "\r%s\033[K%s", line(done, all, words(), columns_).c_str(),
               last ? "\n" : "");
  std::fflush(stderr);
}

}  // namespace examples
