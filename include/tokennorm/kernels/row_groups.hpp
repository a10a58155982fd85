// SPDX-License-Identifier: MIT
/// The work on rows whose channels are contiguous, some of them at a time, in a step with one norm:
/// their pivots, sums, statistics and results. Which rows are taken together, and in which order
/// this is done, is told in forward_rows.hpp.
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
enum class Reach { l2, cache, memory, beyond };

}  // namespace step

/// How rows are taken: one that is alone, or each of few channels; four at a time; one by one, its
/// results in turn with the sums of the next one, where a cache holds both; or one by one, wherever
/// they are.
enum class Way { alone, fours, in_turn, one_by_one };
/// Whether memory is steered for rows that are far away.
template <Way way>
inline constexpr bool may_steer = way == Way::one_by_one;

/// Rows t to t + N − 1, whatever t; what is found out about them is kept by who asks for it.
template <class Level, class Step, class A, Way way>
struct RowGroups {
  static constexpr int N = way == Way::fours ? rows_together : 1;
  const Step& step;
  const AffineOf<Level, A, decltype(Step::pre)>& affine;
  step::Reach reach;
  decltype(Step::sum) sum_at_hand;  // where it is read again: one kept is the same row for all
  static_assert(Step::has_pre && !Step::has_post && !Step::has_out);

  TOKENNORM_INLINE void take_pivots(Index t, Pivots<A, N>& pivots) const {
    if constexpr (Norm::centred) first_means<Level>(source(t), counted(), pivots.of_row);
  }

  /// The sums of rows, which are stored on the way where they are made of two.
  template <class Meanwhile = Idle>
  TOKENNORM_INLINE void take_sums(Index t, SumsOfRows<A, N>& sums,
                                  Meanwhile&& meanwhile = {}) const {
    const Index channels = step.channels.get();
    Ahead ahead;
    if (may_steer<way> && reach == step::Reach::memory &&
        (!is_left_alone() || channels * Step::element_bytes > step::most_at_hand)) {
      ahead = kernels::ahead(row_of(step.normed, t));
    }
    const Index n = counted();
    const auto sink = place_of_sums(t);
    sums.template take<Level, Norm::centred, may_be_few>(
        source(t), sink, ahead, n, channels <= few_channels<Level, A>, meanwhile);
    if constexpr (Step::has_sum) {
      if (n < channels) [[unlikely]] {
        const auto rows = source(t);
        for (int r = 0; r < N; ++r) transfer<Level, A>(rows.row[r], sink.row[r], n, channels);
      }
    }
  }

  TOKENNORM_INLINE void finish_sums(const SumsOfRows<A, N>& sums, Index t,
                                    Moments<A, N>& moments) const {
    const auto row = [&](int r) __attribute__((always_inline)) { return again(t).row[r]; };
    sums.template finish<Level, Norm::centred>(row, counted(), step.pre.epsilon, moments);
    step::store_statistics(step.pre, moments, t);
  }

  /// The results of rows whose statistics are there.
  TOKENNORM_INLINE void normalize(const Moments<A, N>& moments, Index t) const {
    if (moments.slow != 0) [[unlikely]] {
      return normalize_slow(moments, t);
    }
    if constexpr (N == 1) {
      auto writer = idle_writer();
      start(writer, moments, t);
      writer.finish();
    } else {
      normalize_rows<Level, A, Norm>(again(t), moments, affine, rows_of<N>(step.normed, t),
                                     step.channels.get());
    }
  }
  TOKENNORM_INLINE void normalize_slow(const Moments<A, N>& moments, Index t) const {
    normalize_one_by_one<Level>(step.pre, again(t), moments, rows_of<N>(step.normed, t),
                                step.channels.get());
  }

  /// What writes the results of a row, once it is started: when it is finished or, where rows go in
  /// turn, as the sums of the row after are taken.
  TOKENNORM_INLINE auto idle_writer() const {
    return RowWriter<Level, A, Norm, std::remove_cvref_t<decltype(again(0).row[0])>,
                     std::remove_cvref_t<decltype(row_of(step.normed, 0))>>();
  }
  template <class Writer>
  TOKENNORM_INLINE void start(Writer& writer, const Moments<A, 1>& moments, Index t) const {
    writer.start(again(t).row[0], moments, affine, row_of(step.normed, t), step.channels.get(),
                 way == Way::in_turn);
  }

  /// Whether the operands of rows are fetched ahead: far ones. (A long row drives out what is
  /// worked on.)
  TOKENNORM_INLINE bool fetches() const {
    constexpr int operands = Step::has_update ? 2 : 1;
    return may_steer<way> && reach >= step::Reach::memory && !is_left_alone() &&
           operands * step.channels.get() * Step::element_bytes <= step::most_at_hand;
  }
  TOKENNORM_INLINE void fetch(Index t) const {
    if (!fetches()) return;
    ahead(row_of(step.stream, t)).template fetch<0>(0, step.channels.get());
    ahead(row_of(step.update, t)).template fetch<0>(0, step.channels.get());
  }
  /// A sum that is kept at hand goes to where it belongs.
  TOKENNORM_INLINE void stream_kept_sum(Index t) const {
    if constexpr (Step::has_sum && may_steer<way>) {
      if (sum_at_hand.data != step.sum.data) [[unlikely]] {
        stream_row<Level, A>(row_of(detail::as_const(sum_at_hand), t), row_of(step.sum, t),
                             step.channels.get());
      }
    }
  }

 private:
  using Norm = std::remove_cvref_t<decltype(Step::pre)>;

  // Rows of few channels have sums of their own, at the levels for speed. (There the other ways are
  // not given any.)
  static constexpr bool may_be_few = way == Way::fours || way == Way::alone;

  /// Whether rows that are far away are left to the machine's own prefetchers. (Not the results
  /// of long ones: what is read drives them out before they are written.)
  TOKENNORM_INLINE bool is_left_alone() const {
    return reach >= step::Reach::memory && !detail::steers_memory();
  }
  /// The channels of the statistics.
  TOKENNORM_INLINE Index counted() const {
    return step::statistics_count(step.pre, step.channels.get());
  }
  /// Where a sum goes on the way, if there is one.
  TOKENNORM_INLINE auto place_of_sums(Index t) const {
    if constexpr (Step::has_sum) {
      return rows_of<N>(sum_at_hand, t);
    } else {
      return Group<Absent, N>{};
    }
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
};

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
