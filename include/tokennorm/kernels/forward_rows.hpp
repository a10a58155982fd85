// SPDX-License-Identifier: MIT
/// The one forward kernel of tokens whose channels are contiguous. Each row is read once from
/// memory, normalized up to three times while it is in L1 or L2, and each result is written once.
/// The results have the bits of the same steps done one by one.
#pragma once

#include "tokennorm/kernels/row_groups.hpp"

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

namespace step {

/// α·h + post(u): the norm of the update, of which the results are added to the stream.
template <class A, class Step>
TOKENNORM_INLINE auto added_norm(const Step& step) {
  const AddedView<Element<decltype(Step::update)>, A, Element<decltype(Step::stream)>,
                  Element<decltype(Step::sum)>>
      added{in_registers(step.stream), in_registers(step.sum), in_register(step.alpha)};
  return norm_step<A>(step.channels, step.update, step.post, added);
}

template <class Result>
TOKENNORM_INLINE Reach reach_of(const void* read, const Result& result) {
  constexpr Index mib = 1 << 20;
  const std::int64_t bytes = bytes_of(result);
  if (bytes <= mib) return Reach::l2;
  if (bytes < 12 * mib || read == static_cast<const void*>(result.data)) return Reach::cache;
  return bytes < 64 * mib ? Reach::memory : Reach::beyond;
}
template <class Step>
TOKENNORM_INLINE Reach reach_of(const Step& step) {
  if constexpr (Step::is_added) {
    // The stream is read on the way, mostly from where the sums go: nothing to fetch or to bypass.
    return std::min(reach_of(step.stream.data, step.normed.sum), Reach::cache);
  } else {
    const Reach reach = reach_of(step.stream.data, step.normed);
    return step.is_read_next ? std::min(reach, Reach::cache) : reach;
  }
}

/// Whether rows go in turn: L1 holds those of two tokens, the results of one, scale and shift.
template <class A, class Step>
TOKENNORM_INLINE bool go_in_turn(const Step& step) {
  constexpr Index rows = Step::has_update ? 5 : Step::is_added ? 4 : 3;
  constexpr Index bytes = rows * Step::element_bytes + 2 * Index{sizeof(A)};
  return reach_of(step) <= Reach::cache && step.channels.get() * bytes <= l1_bytes;
}

/// Whether rows of few channels are too far away to go in fours: prefetchers lose track of what
/// goes on in so many places. Rows of 512 bytes are from 16 MiB of operands on, of 256 bytes from
/// 32 MiB, shorter ones never. (Nor a stream of 16 bits: converting takes longer than waiting.)
template <class Step>
TOKENNORM_INLINE bool are_too_far_for_fours(const Step& step) {
  constexpr Index operands = 2 + Index{Step::has_update || Step::is_added} + Index{Step::has_sum};
  constexpr std::int64_t shortest_row = 256, longest_row = 512, mib = 1 << 20;
  const std::int64_t row = step.channels.get() * Step::element_bytes;
  return Step::element_bytes > 2 && row >= shortest_row &&
         operands * bytes_of(step.stream) * std::min(row, longest_row) >= 16 * mib * longest_row;
}

/// A copy that no store can change.
template <class Step>
TOKENNORM_INLINE Step copy_of(const Step& step) {
  Step copy = residual_step(step.channels, step.stream, step.update, step.alpha, Absent{}, Absent{},
                            step.pre, step.sum, Absent{}, step.normed);
  copy.is_read_next = step.is_read_next;
  return copy;
}

}  // namespace step

// From the sums of a row to its root and quotient there is nothing to do but wait; meanwhile other
// rows are worked on. Each order in which this is done is a function of its own: in one with all of
// them, a short call would pay for the longer ones.

/// Rows [begin, end), one group of four or several. Pivots, sums, statistics, results: each has to
/// wait for the one before, and meanwhile the others are worked out for other groups. (The
/// statistics need the pivots of their sums, when those of the next two groups may be there
/// already.)
template <class Step, class A>
struct StaggeredFoursTask {
  const Step& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int N = rows_together;
    const Step step = step::copy_of(arguments);
    const AffineOf<Level, A, decltype(Step::pre)> affine(step.pre);
    const RowGroups<Level, Step, A, Way::fours> rows{step, affine, step::Reach::l2, step.sum};
    SumsOfRows<A, N> sums;
    Moments<A, N> moments{};
    Pivots<A, N> pivots, next_pivots;
    rows.take_pivots(begin, next_pivots);
    for (Index t = begin;; t += N) {
      const Index before = t - N, next = t + N;
      pivots = next_pivots;
      if (!Step::has_sum && next < end) rows.take_pivots(next, next_pivots);
      if (t > begin) rows.finish_sums(sums, before, moments);
      if (t < end) {
        sums.pivots = pivots;
        rows.take_sums(t, sums);
      }
      // What they read is not to be fetched before.
      if (Step::has_sum && next < end) rows.take_pivots(next, next_pivots);
      if (t > begin) rows.normalize(moments, before);
      if (t >= end) break;
    }
  }
};

/// The same where sums are stored and memory is steered: each group is normalized before the sums
/// of the next one are taken. With many stores between that of a sum and its load, the load waits
/// for them. Pivots are found ahead.
template <class Step, class A>
struct SuccessiveFoursTask {
  const Step& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int N = rows_together;
    const Step step = step::copy_of(arguments);
    const AffineOf<Level, A, decltype(Step::pre)> affine(step.pre);
    const RowGroups<Level, Step, A, Way::fours> rows{step, affine, step::Reach::l2, step.sum};
    SumsOfRows<A, N> sums;
    Moments<A, N> moments{};
    Pivots<A, N> next_pivots;
    rows.take_pivots(begin, sums.pivots);
    for (Index t = begin;; t += N) {
      if (t > begin) rows.normalize(moments, t - N);
      if (t >= end) break;
      rows.take_sums(t, sums);
      if (t + N < end) rows.take_pivots(t + N, next_pivots);
      rows.finish_sums(sums, t, moments);
      sums.pivots = next_pivots;
    }
  }
};

/// Rows [begin, end) of a sum without a norm.
template <class Step, class A>
struct AddRowsTask {
  const Step& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Step step = step::copy_of(arguments);
    for (Index t = begin; t < end; ++t) {
      const auto stream = row_of(step.stream, t);
      const auto update = row_of(step.update, t);
      const Sum<step::StoredAs<decltype(Step::sum)>, A, std::remove_const_t<decltype(stream)>,
                std::remove_const_t<decltype(update)>>
          sum{stream, update, step.alpha};
      transfer<Level, A>(sum, row_of(step.sum, t), 0, step.channels.get());
    }
  }
};

/// Rows [begin, end) one after the other, each while it is in L1; or so that reads and writes go on
/// together: the sums of a row are taken before the results of the one before are written (of few
/// channels, and where rows are fetched ahead), or in turn with them.
template <class Step, class A, Way way>
struct OneByOneTask {
  static_assert(way != Way::fours);
  const Step& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Step step = step::copy_of(arguments);
    const AffineOf<Level, A, decltype(Step::pre)> affine(step.pre);
    const step::Reach reach = may_steer<way> ? step::reach_of(step) : step::Reach::l2;
    auto sum_at_hand = step.sum;
    alignas(64) [[maybe_unused]] Array<A, may_keep_sum ? longest_kept_sum : 1> kept;
    if constexpr (may_keep_sum) {
      if (keeps_sum(step, reach)) {
        sum_at_hand.data = kept;
        sum_at_hand.token_stride = 0;
      }
    }
    const RowGroups<Level, Step, A, way> rows{step, affine, reach, sum_at_hand};
    const bool overlaps = !may_steer<way> || (!Step::has_sum && rows.fetches());
    SumsOfRows<A, 1> sums;
    Moments<A, 1> moments{};
    bool is_pending = false;  // the row before, with its moments
    for (Index t = begin; t < end || is_pending;) {
      const bool takes = t < end && (overlaps || !is_pending);
      auto writer = rows.idle_writer();  // one for each row: no call stands between its uses, so
                                         // that Clang keeps it in registers
      if (is_pending) rows.start(writer, moments, t - 1);
      if (takes) {
        rows.take_pivots(t, sums.pivots);
        if constexpr (way == Way::in_turn) {
          rows.take_sums(t, sums, writer);
        } else {
          rows.take_sums(t, sums);
          rows.fetch(t + 1);
        }
      }
      writer.finish(may_steer<way> && reach == step::Reach::beyond);
      is_pending = false;
      if (takes) {
        rows.finish_sums(sums, t, moments);
        rows.stream_kept_sum(t);
        is_pending = moments.slow == 0;
        if (!is_pending) [[unlikely]]
          rows.normalize_slow(moments, t);
        ++t;
      }
    }
    if (reach == step::Reach::beyond) finish_streaming();
  }

 private:
  /// Whether a sum is kept in memory that is at hand until it is normalized, and then goes past the
  /// caches like what it is normalized to.
  TOKENNORM_INLINE static bool keeps_sum(const Step& step, step::Reach reach) {
    const void* const sum = step.sum.data;
    return reach == step::Reach::beyond && step.channels.get() <= longest_kept_sum &&
           !is_in(sum, step.stream) && !is_in(sum, step.update);
  }
  static constexpr bool may_keep_sum =
      may_steer<way> && Step::has_sum && std::is_same_v<step::StoredAs<decltype(Step::sum)>, A>;
  static constexpr int longest_kept_sum = 4096;
};

/// A single row; at a level that is not for speed as one of many, which is compiled anyway.
template <class Step, class A>
struct OneRowTask {
  const Step& step;
  Index row;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    if constexpr (Level::is_for_speed) {
      const AffineOf<Level, A, decltype(Step::pre)> affine(step.pre);
      const RowGroups<Level, Step, A, Way::alone> rows{step, affine, step::Reach::l2, step.sum};
      SumsOfRows<A, 1> sums;
      Moments<A, 1> moments{};
      rows.take_pivots(row, sums.pivots);
      rows.take_sums(row, sums);
      rows.finish_sums(sums, row, moments);
      rows.normalize(moments, row);
    } else {
      Level::call(OneByOneTask<Step, A, Way::one_by_one>{step, row, row + 1});
    }
  }
};

/// Rows [begin, end) of a step whose operands all have contiguous channels.
template <class Step, class A>
struct RowsTask {
  const Step& step;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    Index alone = begin;
    if constexpr (Level::is_for_speed) {
      const bool are_few = step.channels.get() <= few_channels<Level, A>;
      const bool go_in_fours = are_few ? !step::are_too_far_for_fours(step) : is_grouped();
      if (go_in_fours) alone = end - (end - begin) % rows_together;
      if (begin < alone) run_fours<Level>(alone);
      if (are_few) {
        if constexpr (!Step::has_sum) {
          if (!go_in_fours) {
            return Level::call(OneByOneTask<Step, A, Way::alone>{step, begin, end});
          }
        }
        for (; alone < end; ++alone) Level::call(OneRowTask<Step, A>{step, alone});
      } else if (alone < end && step::go_in_turn<A>(step)) {
        return Level::call(OneByOneTask<Step, A, Way::in_turn>{step, alone, end});
      }
    }
    if (alone < end) Level::call(OneByOneTask<Step, A, Way::one_by_one>{step, alone, end});
  }

 private:
  template <class Level>
  TOKENNORM_INLINE void run_fours(Index last) const {
    if constexpr (Step::has_sum) {
      if (detail::steers_memory())
        return Level::call(SuccessiveFoursTask<Step, A>{step, begin, last});
    }
    Level::call(StaggeredFoursTask<Step, A>{step, begin, last});
  }
  /// Whether rows that are summed up one by one are then normalized in fours.
  TOKENNORM_INLINE bool is_grouped() const {
    return step.channels.get() <= grouped_channels<A> && step::reach_of(step) == step::Reach::l2;
  }
};

template <class A, int Channels, class... Operands>
void run_rows(const ResidualStep<A, Channels, Operands...>& step, Index begin, Index end) noexcept;

/// Some rows of the first step and then of the second, which finds them in L2: all that belongs to
/// them is up to five times as much.
template <class First, class Second>
TOKENNORM_INLINE void run_in_blocks(const First& first, const Second& second, Index begin,
                                    Index end) {
  constexpr Index block_bytes = 64 << 10;
  Index rows = std::max<Index>(block_bytes / (first.channels.get() * First::element_bytes), 1);
  if (rows > rows_together) rows -= rows % rows_together;
  for (Index t = begin; t < end; t += rows) {
    const Index last = std::min(end, t + rows);
    run_rows(first, t, last);
    run_rows(second, t, last);
  }
}

/// Rows [begin, end) of a step. Within a row two norms are one long chain, in which each waits for
/// the one before: a step with several norms is done as several with one.
template <class A, int Channels, class... Operands>
void run_rows(const ResidualStep<A, Channels, Operands...>& step, Index begin, Index end) noexcept {
  using Step = ResidualStep<A, Channels, Operands...>;
  if constexpr (Step::has_post && Step::has_pre) {
    run_in_blocks(step::added_norm<A>(step),
                  residual_step(step.channels, detail::as_const(step.sum), Absent{}, A(1), Absent{},
                                step.out, step.pre, Absent{}, step.stream_out, step.normed),
                  begin, end);
  } else if constexpr (Step::has_post) {
    run_rows(step::added_norm<A>(step), begin, end);
  } else if constexpr (Step::has_out) {
    auto first = residual_step(step.channels, step.stream, step.update, step.alpha, Absent{},
                               Absent{}, step.out, step.sum, Absent{}, step.stream_out);
    first.is_read_next = true;
    run_in_blocks(
        first,
        norm_step<A>(step.channels, detail::as_const(step.stream_out), step.pre, step.normed),
        begin, end);
  } else if constexpr (!Step::has_pre) {
    dispatch(AddRowsTask<Step, A>{step, begin, end});
  } else if (end - begin == 1) {
    dispatch(OneRowTask<Step, A>{step, begin});
  } else {
    dispatch(RowsTask<Step, A>{step, begin, end});
  }
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
