// SPDX-License-Identifier: MIT
/// The stages of a forward call, for one row or four: pivots, sums, statistics, results. Which rows
/// are taken together, and in which order this is done, is told in forward/rows.hpp.
///
/// A sum is stored on the way, where it is wanted or else where the results will go, so that they
/// are always made from plain rows. Its bits are those of the same steps done one by one.
#pragma once

#include "tokennorm/kernels/forward/call.hpp"
#include "tokennorm/kernels/stages/results.hpp"

TOKENNORM_BEGIN_KERNELS

/// Rows [begin, end), each by itself; the results alone of a single one whose statistics are there.
template <class Call>
struct LoneRowsTask {
  const Call& call;
  const Operand<typename Call::Normalized>& normalized;
  Index begin, end;
  const Statistics<typename Call::Arithmetic, 1>* statistics = nullptr;

  template <class Level>
  TOKENNORM_INLINE void run() const;
};

/// The stages of the work on rows, N at a time: pivots, sums, statistics, results. What is
/// normalized are the rows of x, or the place where their sums are stored.
template <class Level, class Call, int N>
struct RowStages {
  using A = typename Call::Arithmetic;
  using S = typename Call::Normalized;
  using Writer = RowWriter<Level, A, Call>;

  const Call& call;
  const Affine<Level, A, typename Call::Norm::Param>& affine;
  Operand<S> normalized;
  // The same as the caller has them, for calls: what a call is given must be in memory.
  const Call& call_in_memory;
  const Operand<S>& normalized_in_memory;
  bool makes_sums = call.makes_sums();

  /// The sums of a row about its pivot. What is made of two is stored on the way.
  template <class Meanwhile>
  TOKENNORM_INLINE void take_sums(Index t, const Prefetch& results, SumsOfRows<A, 1>& sums,
                                  Meanwhile& meanwhile) const {
    if (makes_sums) {
      const auto source = sum_row<S>(call.alpha, call.residual, call.x, t);
      const Row<S> sink = row_of(normalized, t);
      take_sums_of(source, sink, results, sums, meanwhile);
      if (const Index n = call.counted(); n < call.channels) [[unlikely]]
        store_row<Level, A>(source, sink, n, call.channels);
    } else if constexpr (Call::may_be_plain) {
      take_sums_of(row_of(call.x, t), Absent{}, results, sums, meanwhile);
    }
  }
  /// The same of narrow rows, once their pivots are taken.
  TOKENNORM_INLINE void take_narrow_sums(Index t, SumsOfRows<A, N>& sums) const {
    if (N > 1 && call.channels > narrow_channels<A>) {
      SumsOfRows<A, N> in_memory = sums;
      Level::call(
          GroupSumsTask<Call::centred, A, N, Row<const S>>{rows(t), call.counted(), in_memory});
      sums = in_memory;
      return;
    }
    sums_together<Level, Call::centred, A>(rows(t), sums.pivots, call.counted(), sums.sums,
                                           sums.squares);
  }
  TOKENNORM_INLINE void take_narrow_pivots(Index t, A* pivots) const {
    if (makes_sums) {
      for (Index r = t; r < t + N; ++r) {
        store_row<Level, A>(sum_row<S>(call.alpha, call.residual, call.x, r), row_of(normalized, r),
                            0, call.channels);
      }
    }
    if constexpr (Call::centred) first_means<Level>(rows(t), call.channels, pivots);
  }

  /// All sums of a row that is worked on alone.
  TOKENNORM_INLINE void take_sums_alone(Index t, SumsOfRows<A, 1>& sums) const {
    if (!Level::is_for_speed || call.channels <= narrow_channels<A>) {
      take_narrow_pivots(t, sums.pivots);
      take_narrow_sums(t, sums);
    } else if constexpr (Level::is_for_speed) {
      Idle idle;
      take_sums(t, {}, sums, idle);
    }
  }

  TOKENNORM_INLINE void finish_sums(const SumsOfRows<A, N>& sums, Index t,
                                    Statistics<A, N>& moments) const {
    sums.template finish<Level, Call::centred>(rows(t), call.counted(), call.norm.epsilon, moments);
    store_statistics(call.norm, moments, t);
  }

  TOKENNORM_INLINE void start(Writer& writer, const Statistics<A, 1>& moments, Index t,
                              bool pipelined) const {
    writer.start(row_of(as_const(normalized), t), moments, affine, row_of(call.y, t), call.channels,
                 pipelined);
  }
  /// Whether results are made one by one, in a function of its own.
  TOKENNORM_INLINE bool is_rare(const Statistics<A, N>& moments) const {
    return moments.fallbacks != 0 || call.adds_result;
  }
  TOKENNORM_INLINE void write_one_by_one(const Statistics<A, N>& moments, Index t) const {
    for (int r = 0; r < N; ++r) {
      Statistics<A, 1> of_row{};
      of_row.copy(0, moments, r);
      Level::call(
          LoneRowsTask<Call>{call_in_memory, normalized_in_memory, t + r, t + r + 1, &of_row});
    }
  }
  TOKENNORM_INLINE void write(const Statistics<A, N>& moments, Index t) const {
    if (N > 1 && is_rare(moments)) [[unlikely]]
      return write_one_by_one(moments, t);
    write_rows<Level, Call::centred, A>(rows(t), moments, affine, rows_of<N>(call.y, t),
                                        call.channels);
  }

 private:
  TOKENNORM_INLINE auto rows(Index t) const {
    return rows_of<N>(Operand<const S>(normalized.data, normalized.token_stride, 1), t);
  }
  template <class Source, class Sink, class Meanwhile>
  TOKENNORM_INLINE void take_sums_of(const Source& source, const Sink& sink,
                                     const Prefetch& results, SumsOfRows<A, 1>& sums,
                                     Meanwhile& meanwhile) const {
    if constexpr (Call::centred) {
      first_means<Level>(Group<Source, 1>{{source}}, call.channels, sums.pivots);
    }
    const RowSums<Level, Call::centred, A> row(source, sink, results, sums.pivots[0],
                                               call.counted(), meanwhile);
    if constexpr (Call::centred) sums.sums[0] = row.sum().sum();
    sums.squares[0] = row.sum_of_squares().sum();
  }
};

TOKENNORM_END_KERNELS
