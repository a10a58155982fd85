// SPDX-License-Identifier: MIT
// Executors that divide the work in ways a user's might.
#pragma once

#include "../support/may_throw.hpp"
#include <tokennorm/core/executor.hpp>

#include <algorithm>
#include <ostream>
#include <thread>
#include <utility>
#include <vector>

namespace tokennorm::test {

enum class Division { whole, odd_pieces_backwards, one_by_one, on_threads };

inline std::ostream& operator<<(std::ostream& out, Division division) {
  constexpr const char* names[] = {"whole", "odd pieces backwards", "one by one", "on threads"};
  return out << names[static_cast<int>(division)];
}

struct TestExecutor {
  Division division = Division::whole;

  /// Ranges may be shorter than the grain: that is advice. May throw before and after each.
  template <class F>
  void parallel_for(Index count, Index /*grain*/, F&& f) const {
    may_throw();
    std::vector<std::pair<Index, Index>> pieces;
    Index size = division == Division::one_by_one ? 1 : 3;
    for (Index begin = 0; begin < count; begin += pieces.back().second - pieces.back().first) {
      const Index end = division == Division::whole ? count : std::min(count, begin + size);
      pieces.emplace_back(begin, end);
      if (division != Division::one_by_one) size = size % 7 + 2;
    }
    if (division == Division::odd_pieces_backwards) pieces.emplace_back(count, count);  // empty
    if (division == Division::on_threads) {
      std::vector<std::thread> threads;
      for (const auto& [begin, end] : pieces)
        threads.emplace_back([&f, from = begin, to = end] { f(from, to); });
      for (std::thread& thread : threads) thread.join();
    } else {
      for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
        f(piece->first, piece->second);
        may_throw();
      }
    }
  }
};

}  // namespace tokennorm::test
