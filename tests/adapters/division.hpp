// SPDX-License-Identifier: MIT
// How an executor divides its work.
#pragma once

#include <tokennorm/core/executor.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

namespace tokennorm::test {

struct Range {
  Index begin, end;
  std::thread::id thread;
};

/// The ranges of one call, in ascending order.
template <class E>
std::vector<Range> ranges_of(const E& executor, Index count, Index grain) {
  std::mutex mutex;
  std::vector<Range> ranges;
  executor.parallel_for(count, grain, [&](Index begin, Index end) {
    const std::lock_guard lock(mutex);
    ranges.push_back({begin, end, std::this_thread::get_id()});
  });
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  return ranges;
}

inline bool all_on_this_thread(const std::vector<Range>& ranges) {
  return std::all_of(ranges.begin(), ranges.end(),
                     [](const Range& range) { return range.thread == std::this_thread::get_id(); });
}

/// The ranges cover [0, count) once, are as many as threads and grain allow, none shorter than the
/// grain, and almost of equal length; small work is one range on the calling thread.
template <class E>
void expect_division(const E& executor, Index threads) {
  for (const Index count : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 100, 1000, 65537})
    for (const Index grain : {0, 1, 2, 3, 4, 7, 8, 50, 64, 100, 999, 1000, 1001, 100000}) {
      SCOPED_TRACE(::testing::Message() << "count " << count << ", grain " << grain);
      const std::vector<Range> ranges = ranges_of(executor, count, grain);
      Index covered = 0, shortest = count, longest = 0;
      for (const Range& range : ranges) {
        EXPECT_EQ(range.begin, covered);
        covered = range.end;
        shortest = std::min(shortest, range.end - range.begin);
        longest = std::max(longest, range.end - range.begin);
      }
      EXPECT_EQ(covered, count);
      const Index possible = std::min(threads, count / std::max<Index>(1, grain));
      const Index expected = count == 0 ? 0 : std::max<Index>(1, possible);
      EXPECT_EQ(static_cast<Index>(ranges.size()), expected);
      if (count > 0) {
        EXPECT_GT(shortest, 0);
      }
      if (ranges.size() > 1) {
        EXPECT_GE(shortest, grain);
        EXPECT_LE(longest - shortest, 1);
      } else {
        EXPECT_TRUE(all_on_this_thread(ranges));
      }
    }
}

}  // namespace tokennorm::test
