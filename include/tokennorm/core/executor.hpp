// SPDX-License-Identifier: MIT
/// Executors: where the work on independent tokens runs. None is hidden: a call without an executor
/// runs on the calling thread.
///
///     executor.parallel_for(count, grain, f)
///
/// calls f(begin, end) over disjoint ranges that cover [0, count), none shorter than grain if it
/// can be, and returns when all of them are done. Those on threads are in adapters/.
///
/// All checks are made before parallel_for, on the caller's thread; f does not throw. An executor
/// may, once no f runs any more: what f refers to ends with the call. Results have the same bits
/// for every executor.
#pragma once

#include "tokennorm/core/scalar.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace tokennorm {

namespace detail {
struct RangeProbe {
  void operator()(Index, Index) const {}
};
}  // namespace detail

/// Something with `parallel_for(count, grain, f)`; given as the last argument of any call.
template <class E>
concept Executor = requires(std::remove_cvref_t<E>& executor, Index n) {
  executor.parallel_for(n, n, detail::RangeProbe{});
};

/// Runs everything on the calling thread.
struct Serial {
  /// f(0, count)
  template <class F>
  void parallel_for(Index count, Index /*grain*/, F&& f) const {
    if (count > 0) f(Index{0}, count);
  }
};

/// The default executor.
inline constexpr Serial serial{};

namespace detail {

/// Tokens below which a range is not worth handing to another thread.
inline Index token_grain(Index channels) {
  constexpr Index elements = 32768;
  return std::max<Index>(1, elements / std::max<Index>(1, channels));
}

/// For executors on threads: whether [0, count) cannot be divided into ranges of the grain, so that
/// it stays on the calling thread.
inline bool is_small(Index count, Index grain) { return count / 2 < grain; }

/// For executors on threads: [0, count) as contiguous ranges of almost equal length, at most one
/// for each thread, none shorter than the grain unless it is the only one; none if count is 0.
class Ranges {
 public:
  Ranges(Index count, Index grain, Index threads)
      : size_(std::min(std::max<Index>(1, threads), count / std::max<Index>(1, grain))) {
    if (count > 0) size_ = std::max<Index>(1, size_);
    if (size_ == 0) return;
    length_ = count / size_;
    longer_ = count % size_;
  }

  Index size() const { return size_; }
  Index begin(Index i) const { return i * length_ + std::min(i, longer_); }
  Index end(Index i) const { return begin(i + 1); }

 private:
  Index size_;
  Index length_ = 0;
  Index longer_ = 0;  // so many ranges, the first ones, are longer by one
};

}  // namespace detail
}  // namespace tokennorm
