// SPDX-License-Identifier: MIT
/// The work on rows whose channels are contiguous, some of them at a time, in a step with one norm:
/// their pivots, sums, statistics and results, and in which order, so that something is there to do
/// while one of these waits for the one before. Which rows are taken together is chosen in
/// rows.hpp.
#pragma once

#include "tokennorm/kernels/residual_step.hpp"
#include "tokennorm/kernels/steering.hpp"

#include <algorithm>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

namespace step {

/// Where results are before they are written: in L2 with what they are made from; in a cache;
/// farther away, so that they are fetched ahead; or so far that they had better not pass through
/// the caches at all, where they would only drive out what is read again.
enum class Reach { near, cache, far, beyond };

}  // namespace step

/// How rows are taken: one that is alone; four at a time; one by one, its results in turn with the
/// sums of the next one, where a cache holds both; or one by one, wherever they are.
enum class Way { alone, fours, in_turn, one_by_one };

/// From the sums of a row to its root and quotient there is nothing to do but wait; meanwhile other
/// rows are worked on.
template <class Level, class Step, class A, Way way>
struct RowGroups {
  static constexpr int N = way == Way::fours ? rows_together : 1;
  const Step& step;
  const AffineOf<Level, A, decltype(Step::pre)>& affine;
  step::Reach reach;
  decltype(Step::sum) sum_at_hand;  // where it is read again: one kept is the same row for all
  static_assert(Step::has_pre && !Step::has_post && !Step::has_out);

  /// One row, with nothing to do meanwhile.
  TOKENNORM_INLINE void run_alone(Index t) const {
    SumsOfRows<A, N> sums;
    Moments<A, N> moments{};
    take_pivots(t, sums.pivots);
    take_sums(t, sums);
    finish_sums(sums, t, moments);
    normalize(moments, t);
  }

  TOKENNORM_INLINE void run(Index first, Index last) const {
    if (first >= last) return;
    if constexpr (way != Way::fours) {
      run_one_by_one(first, last);
    } else if (Step::has_sum && detail::steers_memory()) {
      run_apart(first, last);
    } else {
      run_in_turn(first, last);
    }
  }

 private:
  using Norm = std::remove_cvref_t<decltype(Step::pre)>;

  // Rows of few channels have sums of their own, at the levels for speed. (There the other ways are
  // not given any.)
  static constexpr bool may_be_few = way == Way::fours || way == Way::alone;
  static constexpr bool may_be_far = way == Way::one_by_one;

  /// Groups of which the sums are stored, where memory is steered: each is normalized before the
  /// next one's are taken. With many stores between that of a sum and its load, the load waits for
  /// them. Pivots are found ahead.
  TOKENNORM_INLINE void run_apart(Index first, Index last) const {
    SumsOfRows<A, N> sums;
    Moments<A, N> moments{};
    Pivots<A, N> next_pivots;
    take_pivots(first, sums.pivots);
    for (Index t = first;; t += N) {
      if (t > first) normalize(moments, t - N);
      if (t >= last) break;
      take_sums(t, sums);
      if (t + N < last) take_pivots(t + N, next_pivots);
      finish_sums(sums, t, moments);
      sums.pivots = next_pivots;
    }
  }

  /// Other groups. Pivots, sums, statistics, results: each has to wait for the one before, and
  /// meanwhile the others are worked out for other groups. (The statistics need the pivots of their
  /// sums, when those of the next two groups may be there already.)
  TOKENNORM_INLINE void run_in_turn(Index first, Index last) const {
    SumsOfRows<A, N> sums;
    Moments<A, N> moments{};
    Pivots<A, N> pivots, next_pivots;
    const auto take_next_pivots = [&](Index next) __attribute__((always_inline)) {
      if (next < last) take_pivots(next, next_pivots);
    };
    take_next_pivots(first);
    for (Index t = first;; t += N) {
      const Index before = t - N, next = t + N;
      pivots = next_pivots;
      if (!Step::has_sum) take_next_pivots(next);
      if (t > first) finish_sums(sums, before, moments);
      if (t < last) {
        sums.pivots = pivots;
        take_sums(t, sums);
      }
      if (Step::has_sum) take_next_pivots(next);  // what they read is not to be fetched before
      if (t > first) normalize(moments, before);
      if (t >= last) break;
    }
  }

  /// Rows one after the other, each while it is in L1; or so that the sums of a row are taken
  /// before the results of the one before are written, or in turn with them: reads and writes go on
  /// together. (What writes is made anew for every row: Clang keeps in registers what no call is
  /// in the way of.)
  TOKENNORM_INLINE void run_one_by_one(Index first, Index last) const {
    constexpr bool in_turn = way == Way::in_turn;
    const Index channels = step.channels.get();
    const bool overlaps = in_turn || (!Step::has_sum && fetches());
    SumsOfRows<A, 1> sums;
    Moments<A, 1> moments{};
    bool is_pending = false;  // the row before, with its moments
    for (Index t = first; t < last || is_pending;) {
      const bool takes = t < last && (overlaps || !is_pending);
      auto writer = idle_writer();
      if (is_pending) {
        writer.start(again(t - 1).row[0], moments, affine, row_of(step.normed, t - 1), channels,
                     in_turn);
      }
      if (takes) {
        take_pivots(t, sums.pivots);
        if constexpr (in_turn) {
          take_sums(t, sums, writer);
        } else {
          take_sums(t, sums);
          fetch(t + 1);
        }
      }
      writer.finish(may_be_far && reach == step::Reach::beyond);
      is_pending = false;
      if (takes) {
        finish_sums(sums, t, moments);
        stream_kept_sum(t);
        is_pending = moments.slow == 0;
        if (!is_pending) [[unlikely]] {
          normalize_one_by_one<Level>(step.pre, again(t), moments, rows_of<1>(step.normed, t),
                                      channels);
        }
        ++t;
      }
    }
  }

  TOKENNORM_INLINE auto idle_writer() const {
    return RowWriter<Level, A, Norm, std::remove_cvref_t<decltype(again(0).row[0])>,
                     std::remove_cvref_t<decltype(row_of(step.normed, 0))>>();
  }

  /// Whether rows that are far away are left to the machine's own prefetchers. (Not the results
  /// of long ones: what is read drives them out before they are written.)
  TOKENNORM_INLINE bool is_left_alone() const {
    return reach >= step::Reach::far && !detail::steers_memory();
  }
  /// Whether the operands of rows are fetched ahead: far ones. (A long row drives out what is
  /// worked on.)
  TOKENNORM_INLINE bool fetches() const {
    constexpr int operands = Step::has_update ? 2 : 1;
    return may_be_far && reach >= step::Reach::far && !is_left_alone() &&
           operands * step.channels.get() * Step::element_bytes <= step::most_at_hand;
  }
  TOKENNORM_INLINE void fetch(Index t) const {
    if (!fetches()) return;
    ahead(row_of(step.stream, t)).template fetch<0>(0, step.channels.get());
    ahead(row_of(step.update, t)).template fetch<0>(0, step.channels.get());
  }
  /// The channels of the statistics.
  TOKENNORM_INLINE Index counted() const {
    return step::statistics_count(step.pre, step.channels.get());
  }
  /// What is normalized.
  TOKENNORM_INLINE auto source(Index t) const {
    const auto stream = rows_of<N>(step.stream, t);
    if constexpr (Step::has_update) {
      const auto update = rows_of<N>(step.update, t);
      const A alpha = step.alpha;
      return group_of<N>([&](int r) __attribute__((always_inline)) {
        return Sum<step::StoredAs<decltype(Step::sum)>, A,
                   std::remove_cvref_t<decltype(stream.row[r])>,
                   std::remove_cvref_t<decltype(update.row[r])>>{stream.row[r], update.row[r],
                                                                 alpha};
      });
    } else {
      return stream;
    }
  }
  /// The same, once the sums are taken.
  TOKENNORM_INLINE auto again(Index t) const {
    if constexpr (Step::has_sum) {
      return rows_of<N>(detail::as_const(sum_at_hand), t);
    } else {
      return source(t);
    }
  }

  TOKENNORM_INLINE void take_pivots(Index t, Pivots<A, N>& pivots) const {
    if constexpr (Norm::centred) first_means<Level>(source(t), counted(), pivots.of_row);
  }

  /// The sums of rows, which are stored on the way where they are made of two.
  template <class Meanwhile = Idle>
  TOKENNORM_INLINE void take_sums(Index t, SumsOfRows<A, N>& sums,
                                  Meanwhile&& meanwhile = {}) const {
    const Index channels = step.channels.get();
    Ahead ahead;
    if (may_be_far && reach == step::Reach::far &&
        (!is_left_alone() || channels * Step::element_bytes > step::most_at_hand)) {
      ahead = kernels::ahead(row_of(step.normed, t));
    }
    const Index n = counted();
    const auto take = [&](const auto& sink) __attribute__((always_inline)) {
      sums.template take<Level, Norm::centred, may_be_few>(
          source(t), sink, ahead, n, channels <= few_channels<Level, A>, meanwhile);
      if constexpr (Step::has_sum) {
        if (n < channels) [[unlikely]] {
          const auto rows = source(t);
          for (int r = 0; r < N; ++r) transfer<Level, A>(rows.row[r], sink.row[r], n, channels);
        }
      }
    };
    if constexpr (Step::has_sum) {
      take(rows_of<N>(sum_at_hand, t));
    } else {
      take(Group<Absent, N>{});
    }
  }

  TOKENNORM_INLINE void finish_sums(const SumsOfRows<A, N>& sums, Index t,
                                    Moments<A, N>& moments) const {
    const auto row = [&](int r) __attribute__((always_inline)) { return again(t).row[r]; };
    sums.template finish<Level, Norm::centred>(row, counted(), step.pre.epsilon, moments);
    step::store_statistics(step.pre, moments, t);
  }

  /// A sum that is kept at hand goes to where it belongs.
  TOKENNORM_INLINE void stream_kept_sum(Index t) const {
    if constexpr (Step::has_sum && may_be_far) {
      if (sum_at_hand.data != step.sum.data) [[unlikely]] {
        stream_row<Level, A>(row_of(detail::as_const(sum_at_hand), t), row_of(step.sum, t),
                             step.channels.get());
      }
    }
  }

  /// The results of rows whose statistics are there.
  TOKENNORM_INLINE void normalize(const Moments<A, N>& moments, Index t) const {
    const Index channels = step.channels.get();
    const auto rows = again(t);
    const auto sink = rows_of<N>(step.normed, t);
    if (moments.slow != 0) [[unlikely]] {
      return normalize_one_by_one<Level>(step.pre, rows, moments, sink, channels);
    }
    if constexpr (N == 1) {
      auto writer = idle_writer();
      writer.start(rows.row[0], moments, affine, sink.row[0], channels);
      writer.finish();
    } else {
      normalize_rows<Level, A, Norm>(rows, moments, affine, sink, channels);
    }
  }
};

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
