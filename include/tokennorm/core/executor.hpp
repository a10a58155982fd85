// SPDX-License-Identifier: MIT
/// Executors: where the work on independent tokens runs. None is hidden: a call without an executor
/// runs on the calling thread.
///
///     executor.parallel_for(count, grain, f)    calls f(begin, end) over disjoint ranges that
///     cover
///                                               [0, count), none shorter than grain if it can be
///
/// All checks are made before parallel_for, on the caller's thread; f does not throw. Results have
/// the same bits for every executor.
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

}  // namespace detail
}  // namespace tokennorm
