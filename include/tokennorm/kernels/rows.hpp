// SPDX-License-Identifier: MIT
/// The one forward kernel of tokens whose channels are contiguous. Each row is read once from
/// memory, normalized up to three times while it is in L1, and each result is written once. The
/// results have the bits of the same steps done one by one.
#pragma once

#include "tokennorm/kernels/row_groups.hpp"

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// Rows [begin, end) of a step whose operands all have contiguous channels.
template <class Step, class A>
struct RowsTask {
  const Step& arguments;
  Index begin, end;
  bool grouped = false;  // four rows together, of more than few channels

  template <class Level>
  TOKENNORM_INLINE void run() const {
    if constexpr (Level::is_for_speed) {
      const Index channels = arguments.channels.get(), rows = end - begin;
      const bool few = channels <= few_channels<Level, A>;
      if (!few && channels <= grouped_channels<Level, A> && rows >= rows_together && !grouped) {
        if (reach_of(arguments) == step::Reach::near) return run_grouped<Level>();
      }
      if constexpr (Step::has_post && Step::has_pre) {
        if (few || grouped) return run_in_two<Level>();
      }
    }
    // A copy that no store can change.
    const Step step = residual_step(arguments.channels, arguments.stream, arguments.update,
                                    arguments.alpha, arguments.post, arguments.out, arguments.pre,
                                    arguments.sum, arguments.stream_out, arguments.normed);
    const step::Affines<Level, A, Step> affines(step);
    const step::Reach reach = reach_of(step);
    if constexpr (Level::is_for_speed && !(Step::has_post && Step::has_pre)) {
      if (step.channels.get() <= few_channels<Level, A> || grouped) {
        return RowGroups<Level, Step, A, rows_together>{step, affines, reach, step.sum}.run(begin,
                                                                                            end);
      }
    }
    if constexpr (Step::has_sum) {
      alignas(64) Array<step::StoredAs<decltype(Step::sum)>, longest_kept_sum> kept;
      auto sum = step.sum;
      if (keeps_sum(step, reach)) {
        sum.data = kept;
        sum.token_stride = 0;
      }
      RowGroups<Level, Step, A, 1>{step, affines, reach, sum}.run(begin, end);
    } else {
      RowGroups<Level, Step, A, 1>{step, affines, reach, step.sum}.run(begin, end);
    }
    if (reach == step::Reach::beyond) finish_streaming();
  }

 private:
  /// Fours of rows, and then those that are left.
  template <class Level>
  TOKENNORM_INLINE void run_grouped() const {
    const Index alone = end - (end - begin) % rows_together;
    Level::call(RowsTask{arguments, begin, alone, true});
    if (alone < end) Level::call(RowsTask{arguments, alone, end});
  }

  /// The sums of some rows that stay in L1, and then the norms of those sums. Within a row, two
  /// norms are one long chain; of each alone, other groups are worked on meanwhile where rows are
  /// short.
  template <class Level>
  TOKENNORM_INLINE void run_in_two() const {
    const auto sums =
        residual_step(arguments.channels, arguments.stream, arguments.update, arguments.alpha,
                      arguments.post, Absent{}, Absent{}, arguments.sum, Absent{}, Absent{});
    const auto norms = residual_step(arguments.channels, detail::as_const(arguments.sum), Absent{},
                                     A(1), Absent{}, arguments.out, arguments.pre, Absent{},
                                     arguments.stream_out, arguments.normed);
    const Index fours =
        step::most_at_hand / (rows_together * arguments.channels.get() * step::element_bytes<Step>);
    const Index rows = rows_together * std::max<Index>(fours, 1);
    for (Index t = begin; t < end; t += rows) {
      const Index last = std::min(end, t + rows);
      Level::call(RowsTask<std::remove_const_t<decltype(sums)>, A>{sums, t, last, grouped});
      Level::call(RowsTask<std::remove_const_t<decltype(norms)>, A>{norms, t, last, grouped});
    }
  }

  TOKENNORM_INLINE static step::Reach reach_of(const Step& step) {
    if constexpr (Step::has_pre) {
      return reach_of(step, step.normed);
    } else if constexpr (Step::has_post) {
      return std::min(reach_of(step, step.sum), step::Reach::cache);
    } else {
      return step::Reach::cache;
    }
  }
  template <class Result>
  TOKENNORM_INLINE static step::Reach reach_of(const Step& step, const Result& result) {
    constexpr Index mib = 1 << 20;
    const Index bytes = step::bytes_of(result);
    if (bytes <= mib) return step::Reach::near;
    const void* const read = step.stream.data;
    if (bytes < 12 * mib || read == static_cast<const void*>(result.data)) {
      return step::Reach::cache;
    }
    return bytes < 64 * mib ? step::Reach::far : step::Reach::beyond;
  }

  /// Whether a sum is kept in memory that is at hand until it is normalized, and then goes past the
  /// caches like what it is normalized to.
  static constexpr int longest_kept_sum = 4096;
  TOKENNORM_INLINE static bool keeps_sum(const Step& step, step::Reach reach) {
    const void* const sum = step.sum.data;
    return std::is_same_v<step::StoredAs<decltype(Step::sum)>, A> && reach == step::Reach::beyond &&
           step.channels.get() <= longest_kept_sum && !is_in(sum, step.stream) &&
           !is_in(sum, step.update);
  }
};

template <class A, int Channels, class... Operands>
void run_rows(const ResidualStep<A, Channels, Operands...>& step, Index begin, Index end) noexcept {
  dispatch(RowsTask<ResidualStep<A, Channels, Operands...>, A>{step, begin, end});
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
