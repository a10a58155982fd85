// SPDX-License-Identifier: MIT
/// The work on rows whose channels are contiguous, some of them at a time: their pivots, sums,
/// statistics and results, and in which order, so that something is there to do while one of these
/// waits for the one before. Which rows are taken together is chosen in rows.hpp.
#pragma once

#include "tokennorm/kernels/residual_step.hpp"
#include "tokennorm/kernels/steering.hpp"

#include <algorithm>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

namespace step {

template <class Level, class A, class Norm, int N, class Source>
TOKENNORM_INLINE void take_pivots(const Norm& norm, const Group<Source, N>& source, Index channels,
                                  Pivots<A, N>& pivots) {
  if constexpr (Norm::centred) {
    first_means<Level>(source, statistics_count(norm, channels), pivots.of_row);
  }
}

/// The sums of `source` about its pivots; it is stored into `sink` in the same sweep where there is
/// one.
template <class Level, class A, bool may_be_few, class Norm, int N, class Source, class Sink,
          class Meanwhile = Idle>
TOKENNORM_INLINE void take_sums(const Norm& norm, const Group<Source, N>& source,
                                const Group<Sink, N>& sink, const Ahead& ahead, int count,
                                Index channels, SumsOfRows<A, N>& sums,
                                Meanwhile&& meanwhile = {}) {
  const Index n = statistics_count(norm, channels);
  sums.template take<Level, Norm::centred, may_be_few>(
      source, sink, ahead, n, channels <= few_channels<Level, A>, meanwhile);
  if constexpr (is_present<Sink>) {
    if (n < channels) [[unlikely]] {
      for (int r = 0; r < count; ++r) {
        transfer<Level, A>(source.row[r], sink.row[r], n, channels);
      }
    }
  }
}

/// The statistics, from the sums; `again(r)` is row r, once more.
template <class Level, class A, class Norm, int N, class Again>
TOKENNORM_INLINE void finish_sums(const Norm& norm, const SumsOfRows<A, N>& sums,
                                  const Again& again, Index token, int count, Index channels,
                                  Moments<A, N>& moments) {
  sums.template finish<Level, Norm::centred>(again, statistics_count(norm, channels), norm.epsilon,
                                             moments);
  store_statistics(norm, moments, token, count);
}

/// The statistics of rows, for the steps that need those of several norms; in a function of its own
/// where it is called.
template <class A, class Norm, int N, class Source, bool may_be_few>
struct MomentsTask {
  const Norm& norm;
  Group<Source, N> rows;
  Index token;
  int count;
  Index channels;
  Moments<A, N>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    SumsOfRows<A, N> sums;
    take_pivots<Level>(norm, rows, channels, sums.pivots);
    take_sums<Level, A, may_be_few>(norm, rows, Group<Absent, N>{}, Ahead{}, count, channels, sums);
    const auto row = [&](int r) __attribute__((always_inline)) { return rows.row[r]; };
    finish_sums<Level, A>(norm, sums, row, token, count, channels, moments);
  }
};

/// Where results are before they are written: in L2 with what they are made from; in a cache;
/// farther away, so that they are fetched ahead; or so far that they had better not pass through
/// the caches at all, where they would only drive out what is read again.
enum class Reach { near, cache, far, beyond };

template <class Level, class A, class Step>
struct Affines {
  AffineOf<Level, A, decltype(Step::post)> post;
  AffineOf<Level, A, decltype(Step::out)> out;
  AffineOf<Level, A, decltype(Step::pre)> pre;

  TOKENNORM_INLINE explicit Affines(const Step& step)
      : post(step.post), out(step.out), pre(step.pre) {}
};

inline constexpr Index most_at_hand = 8 << 10;  // bytes of rows that leave room in L1 for others

}  // namespace step

/// N rows at a time. From the sums of a row to its root and quotient there is nothing to do but
/// wait; meanwhile other rows are worked on. Whether they `may_be_few`, channels, is known when
/// compiling: those have sums of their own.
template <class Level, class Step, class A, int N, bool may_be_few = (N > 1)>
struct RowGroups {
  const Step& step;
  const step::Affines<Level, A, Step>& affines;
  step::Reach reach;
  decltype(Step::sum) sum_at_hand;  // where it is read again: one kept is the same row for all
  static_assert(N == 1 || !Step::has_post);

  /// One row, with nothing to do meanwhile.
  TOKENNORM_INLINE void run_alone(Index t) const {
    if constexpr (!Step::has_pre) {
      store_sums(t, 1);
    } else {
      SumsOfRows<A, N> sums;
      Moments<A, N> moments{}, posted{};
      if constexpr (Step::has_post) {
        take_post_moments(t, 1, posted);
      } else {
        take_pivots(t, 1, sums.pivots);
      }
      if constexpr (Step::has_sum) {
        take_stored_sums(posted, t, 1, sums);
      } else {
        take_sums(t, 1, source(t, 1), Group<Absent, 1>{}, sums);
      }
      finish_sums(sums, t, 1, moments);
      normalize(moments, t, 1);
    }
  }

  TOKENNORM_INLINE void run(Index first, Index last) const {
    if (first >= last) return;
    if constexpr (!Step::has_pre) {
      for (Index t = first; t < last; t += N) store_sums(t, count_at(t, last));
    } else if constexpr (Step::has_sum) {
      run_stored(first, last);
    } else if constexpr (N == 1 && !Step::has_update && !Step::has_out) {
      run_alternating(first, last);
    } else {
      run_in_turn(first, last);
    }
  }

 private:
  TOKENNORM_INLINE static int count_at(Index t, Index last) {
    return static_cast<int>(std::min<Index>(N, last - t));
  }

  /// Sums that are stored. Each group is normalized before the next one's are taken: with many
  /// stores between that of a sum and its load, the load waits for them. Pivots are found ahead;
  /// with `post` they cannot be before the statistics of the update are there.
  TOKENNORM_INLINE void run_stored(Index first, Index last) const {
    SumsOfRows<A, N> sums;
    Moments<A, N> moments{}, posted{};
    Pivots<A, N> next_pivots;
    if constexpr (!Step::has_post) take_pivots(first, count_at(first, last), sums.pivots);
    for (Index t = first;; t += N) {
      if constexpr (Step::has_post) {
        if (t < last) take_post_moments(t, count_at(t, last), posted);
      }
      fetch(t + 1);
      if (t > first) normalize(moments, t - N, count_at(t - N, last));
      if (t >= last) break;
      take_stored_sums(posted, t, count_at(t, last), sums);
      if constexpr (!Step::has_post) {
        if (t + N < last) take_pivots(t + N, count_at(t + N, last), next_pivots);
      }
      finish_sums(sums, t, count_at(t, last), moments);
      if constexpr (!Step::has_post) sums.pivots = next_pivots;
    }
  }

  /// Rows that are only read. Pivots, sums, statistics, results: each has to wait for the one
  /// before, and meanwhile the others are worked out for other groups. (The statistics need the
  /// pivots of their sums, when those of the next two groups are there already.)
  TOKENNORM_INLINE void run_in_turn(Index first, Index last) const {
    SumsOfRows<A, N> sums;
    Moments<A, N> moments{};
    Pivots<A, N> pivots, next_pivots;
    take_pivots(first, count_at(first, last), next_pivots);
    for (Index t = first;; t += N) {
      const Index before = t - N, next = t + N;
      pivots = next_pivots;
      fetch(next + 1);
      if (next < last) take_pivots(next, count_at(next, last), next_pivots);
      if (t > first) finish_sums(sums, before, count_at(before, last), moments);
      if (t < last) {
        sums.pivots = pivots;
        take_sums(t, count_at(t, last), source(t, count_at(t, last)), Group<Absent, N>{}, sums);
      }
      if (t > first) normalize(moments, before, count_at(before, last));
      if (t >= last) break;
    }
  }

  /// Rows that are only read and normalized once. Long ones one after the other, each while it is
  /// in L1. Of others, the sums of a row are taken before the results of the one before are
  /// written, or in turn with them where they are near, so that reads and writes go on together.
  TOKENNORM_INLINE void run_alternating(Index first, Index last) const {
    const Index channels = step.channels.get();
    const bool is_near = reach == step::Reach::near;
    const bool overlaps =
        is_near || (2 * channels * Step::element_bytes <= step::most_at_hand && !is_left_alone());
    using Writer = RowWriter<Level, A, std::remove_cvref_t<decltype(step.pre)>,
                             std::remove_cvref_t<decltype(again(first, 1).row[0])>,
                             std::remove_cvref_t<decltype(row_of(step.normed, first))>>;
    SumsOfRows<A, 1> sums;
    Moments<A, 1> moments{};
    for (Index t = first, written = first; written < last;) {
      const bool has_moments = written < t;
      const bool takes = t < last && (overlaps || !has_moments);
      const bool is_slow = moments.slow != 0;
      const bool writes = has_moments && !is_slow;
      Writer writer;
      if (writes) {
        writer.start(again(written, 1).row[0], moments, affines.pre, row_of(step.normed, written),
                     channels, is_near);
      }
      if (takes) {
        take_pivots(t, 1, sums.pivots);
        take_sums(t, 1, source(t, 1), Group<Absent, 1>{}, sums, writer);
        fetch(t + 1);
      }
      if (writes) {
        writer.finish(reach == step::Reach::beyond);
      } else if (is_slow) [[unlikely]] {
        normalize_one_by_one<Level>(step.pre, again(written, 1), moments,
                                    rows_of<1>(step.normed, written), 1, channels);
        moments.slow = 0;
      }
      if (has_moments) ++written;
      if (takes) {
        finish_sums(sums, t, 1, moments);
        ++t;
      }
    }
  }

  /// Whether rows that are far away are left to the machine's own prefetchers. (Not the results
  /// of long ones: what is read drives them out before they are written.)
  TOKENNORM_INLINE bool is_left_alone() const {
    return reach >= step::Reach::far && !detail::steers_memory();
  }
  /// The operands of a row to come, where they are far away. (A long row drives out what is
  /// worked on.)
  TOKENNORM_INLINE void fetch(Index t) const {
    if constexpr (N > 1) return;
    constexpr int operands = Step::has_update ? 2 : 1;
    if (reach < step::Reach::far || is_left_alone()) return;
    if (operands * step.channels.get() * Step::element_bytes > step::most_at_hand) return;
    ahead(row_of(step.stream, t)).template fetch<0>(0, step.channels.get());
    ahead(row_of(step.update, t)).template fetch<0>(0, step.channels.get());
  }
  TOKENNORM_INLINE const auto& first_norm() const {
    if constexpr (Step::has_out) {
      return step.out;
    } else {
      return step.pre;
    }
  }
  TOKENNORM_INLINE const auto& first_result() const {
    if constexpr (Step::has_out) {
      return step.stream_out;
    } else {
      return step.normed;
    }
  }

  /// α·h + u for the u of each row.
  template <class Added>
  TOKENNORM_INLINE auto sum_of(Index t, int count, const Group<Added, N>& added) const {
    const auto stream = rows_of<N>(step.stream, t, count);
    const A alpha = step.alpha;
    return group_of<N>([&](int r) __attribute__((always_inline)) {
      return Sum<step::StoredAs<decltype(Step::sum)>, A,
                 std::remove_cvref_t<decltype(stream.row[r])>, Added>{stream.row[r], added.row[r],
                                                                      alpha};
    });
  }

  /// What is normalized first, where there is no norm on the update.
  TOKENNORM_INLINE auto source(Index t, int count) const {
    if constexpr (Step::has_update) {
      return sum_of(t, count, rows_of<N>(step.update, t, count));
    } else {
      return stored(rows_of<N>(step.stream, t, count));
    }
  }
  /// The same, once the sums are taken.
  TOKENNORM_INLINE auto again(Index t, int count) const {
    if constexpr (Step::has_sum) {
      return stored(rows_of<N>(detail::as_const(sum_at_hand), t, count));
    } else {
      return source(t, count);
    }
  }

  TOKENNORM_INLINE auto updates(Index t, int count) const {
    return stored(rows_of<N>(step.update, t, count));
  }
  TOKENNORM_INLINE void take_post_moments(Index t, int count, Moments<A, N>& moments) const {
    using Post = std::remove_cvref_t<decltype(step.post)>;
    const auto update = updates(t, count);
    using Source = std::remove_cvref_t<decltype(update.row[0])>;
    Level::call(step::MomentsTask<A, Post, N, Source, may_be_few>{step.post, update, t, count,
                                                                  step.channels.get(), moments});
  }
  /// post(update), of rows that need the wider type or of those that do not.
  template <bool Slow>
  TOKENNORM_INLINE auto normalized(const Moments<A, N>& moments, Index t, int count) const {
    using Post = std::remove_cvref_t<decltype(step.post)>;
    const auto update = updates(t, count);
    return group_of<N>([&](int r) __attribute__((always_inline)) {
      return Normalized<Level, Post::centred, A, std::remove_cvref_t<decltype(update.row[r])>,
                        typename Post::Param, Slow, step::Element<decltype(step.update)>, N>(
          update.row[r], moments, r, affines.post);
    });
  }

  TOKENNORM_INLINE void take_pivots(Index t, int count, Pivots<A, N>& pivots) const {
    step::take_pivots<Level>(first_norm(), source(t, count), step.channels.get(), pivots);
  }

  template <class Source, class Sink, class Meanwhile = Idle>
  TOKENNORM_INLINE void take_sums(Index t, int count, const Group<Source, N>& source,
                                  const Group<Sink, N>& sink, SumsOfRows<A, N>& sums,
                                  Meanwhile&& meanwhile = {}) const {
    const Index channels = step.channels.get();
    Ahead ahead;
    if (reach == step::Reach::far &&
        (!is_left_alone() || channels * Step::element_bytes > step::most_at_hand)) {
      ahead = kernels::ahead(row_of(first_result(), t));
    }
    step::take_sums<Level, A, may_be_few>(first_norm(), source, sink, ahead, count, channels, sums,
                                          meanwhile);
  }

  /// The sums of rows of α·h + post(u) that are stored on the way; with a norm on the update,
  /// their pivots too.
  TOKENNORM_INLINE void take_stored_sums(const Moments<A, N>& posted, Index t, int count,
                                         SumsOfRows<A, N>& sums) const {
    const auto sink = rows_of<N>(sum_at_hand, t, count);
    if constexpr (!Step::has_post) {
      take_sums(t, count, source(t, count), sink, sums);
    } else if (posted.slow == 0) [[likely]] {
      const auto source = sum_of(t, count, normalized<false>(posted, t, count));
      step::take_pivots<Level>(first_norm(), source, step.channels.get(), sums.pivots);
      take_sums(t, count, source, sink, sums);
    } else {
      Level::call(SlowPostSumsTask{*this, posted, t, sums});
    }
  }

  TOKENNORM_INLINE void finish_sums(const SumsOfRows<A, N>& sums, Index t, int count,
                                    Moments<A, N>& moments) const {
    const auto row = [&](int r) __attribute__((always_inline)) { return again(t, count).row[r]; };
    step::finish_sums<Level, A>(first_norm(), sums, row, t, count, step.channels.get(), moments);
  }

  /// The sums alone, where there is no norm.
  TOKENNORM_INLINE void store_sums(Index t, int count) const {
    const auto sums = source(t, count);
    for (int r = 0; r < count; ++r) {
      transfer<Level, A>(sums.row[r], row_of(step.sum, t + r), 0, step.channels.get());
    }
  }

  /// The sums of a row that needs the wider type in its norm on the update, and then what is taken
  /// from the sums that are stored.
  struct SlowPostSumsTask {
    const RowGroups& groups;
    const Moments<A, N>& posted;
    Index t;
    SumsOfRows<A, N>& sums;

    template <class>
    TOKENNORM_INLINE void run() const {
      const Index channels = groups.step.channels.get();
      const auto sum = groups.sum_of(t, 1, groups.template normalized<true>(posted, t, 1));
      transfer<Level, A>(sum.row[0], row_of(groups.sum_at_hand, t), 0, channels);
      const auto row = groups.again(t, 1);
      step::take_pivots<Level>(groups.first_norm(), row, channels, sums.pivots);
      groups.take_sums(t, 1, row, Group<Absent, N>{}, sums);
    }
  };

  /// The results of rows whose statistics are there.
  TOKENNORM_INLINE void normalize(const Moments<A, N>& moments, Index t, int count) const {
    const auto first = again(t, count);
    if constexpr (Step::has_sum && N == 1) {
      if (sum_at_hand.data != step.sum.data) [[unlikely]] {
        stream_row<Level, A>(row_of(detail::as_const(sum_at_hand), t), row_of(step.sum, t),
                             step.channels.get());
      }
    }
    if constexpr (!Step::has_out) {
      normalize(step.pre, affines.pre, moments, first, step.normed, reach, t, count);
    } else {
      normalize(step.out, affines.out, moments, first, step.stream_out, step::Reach::cache, t,
                count);
      const auto second = stored(rows_of<N>(detail::as_const(step.stream_out), t, count));
      using Pre = std::remove_cvref_t<decltype(step.pre)>;
      using Second = std::remove_cvref_t<decltype(second.row[0])>;
      Moments<A, N> of_second{};
      step::MomentsTask<A, Pre, N, Second, may_be_few>{
          step.pre, second, t, count, step.channels.get(), of_second}
          .template run<Level>();
      normalize(step.pre, affines.pre, of_second, second, step.normed, reach, t, count);
    }
  }

  template <class Norm, class Affine, class Source, class Result>
  TOKENNORM_INLINE void normalize(const Norm& norm, const Affine& affine,
                                  const Moments<A, N>& moments, const Group<Source, N>& source,
                                  const Result& result, step::Reach to, Index t, int count) const {
    const Index channels = step.channels.get();
    const auto sink = rows_of<N>(result, t, count);
    if (moments.slow != 0) [[unlikely]] {
      return normalize_one_by_one<Level>(norm, source, moments, sink, count, channels);
    }
    if constexpr (N == 1) {
      RowWriter<Level, A, Norm, Source, std::remove_cvref_t<decltype(sink.row[0])>> writer;
      writer.start(source.row[0], moments, affine, sink.row[0], channels);
      writer.finish(to == step::Reach::beyond);
    } else {
      normalize_rows<Level, A, Norm>(source, moments, affine, sink, channels);
    }
  }
};

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
