// SPDX-License-Identifier: MIT
// What throws where a test wants it to: executors and sublayers call may_throw() at each point at
// which those of a user's might throw, and a test makes one point after the other do so.
#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

namespace tokennorm::test {

inline thread_local int points_until_one_throws = std::numeric_limits<int>::max();

inline void may_throw() {
  if (points_until_one_throws-- == 0) throw std::runtime_error("out of luck");
}

/// call(), which throws at its first point, then at its second, …, with after() behind each that
/// threw; the last one does not. How many did.
template <class Call, class After>
int throw_at_each_point(const Call& call, const After& after) {
  for (int point = 0;; ++point) {
    SCOPED_TRACE(point);
    bool threw = false;
    points_until_one_throws = point;
    try {
      call();
    } catch (const std::runtime_error&) {
      threw = true;
    }
    points_until_one_throws = std::numeric_limits<int>::max();
    if (!threw) return point;
    after();
  }
}

}  // namespace tokennorm::test
