// SPDX-License-Identifier: MIT
/// The forward kernel of tokens whose channels are contiguous. Each row is read once from memory,
/// normalized while it is in L1 or L2, and its result is written once.
#pragma once

#include "tokennorm/kernels/forward/stages.hpp"
#include "tokennorm/kernels/memory_policy.hpp"

#include <algorithm>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

// ---- orders of work -----------------------------------------------------------------------------
// From the sums of a row to its root and quotient there is nothing to do but wait; meanwhile other
// rows are worked on. Each order in which this is done is a function of its own: in one with all of
// them, a short call would pay for the longer ones.

template <class Call>
template <class Level>
TOKENNORM_INLINE void LoneRowsTask<Call>::run() const {
  using A = typename Call::Arithmetic;
  const Affine<Level, A, typename Call::Norm::Param> affine(call.norm);
  const RowStages<Level, Call, 1> stages{call, affine, normalized, call, normalized};
  for (Index t = begin; t < end; ++t) {
    Statistics<A, 1> moments;
    if (statistics == nullptr) [[likely]] {
      SumsOfRows<A, 1> sums;
      stages.take_sums_alone(t, sums);
      stages.finish_sums(sums, t, moments);
    } else {
      moments.copy(0, *statistics, 0);
    }
    if (moments.fallbacks != 0) [[unlikely]] {
      // A subnormal bfloat16 that is added becomes zero at one level.
      const FallbackResultsTask<Call> fallback{call, normalized, t, moments};
      if constexpr (sizeof(*call.y.data) == 2) {
        Level::call(fallback);
      } else {
        Baseline::call(fallback);
      }
    } else if (call.adds_result) [[unlikely]] {
      write_added_row<Level>(call, row_of(as_const(normalized), t), t, moments, affine);
    } else if constexpr (Level::is_for_speed) {
      typename RowStages<Level, Call, 1>::Writer writer;
      stages.start(writer, moments, t, false);
      writer.finish();
    } else {
      stages.write(moments, t);
    }
  }
}

/// Narrow rows [begin, end), four at a time; each stage has to wait for the one before, and
/// meanwhile those of the groups next to it are worked out.
template <class Call>
struct FoursTask {
  const Call& arguments;
  const Operand<typename Call::Normalized>& normalized;
  Index begin, end;
  bool are_prefetched;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using A = typename Call::Arithmetic;
    constexpr int N = rows_together;
    const Call call = copy_of(arguments);
    const bool prefetches = are_prefetched;
    const Affine<Level, A, typename Call::Norm::Param> affine(call.norm);
    const RowStages<Level, Call, N> stages{call, affine, in_registers(normalized), arguments,
                                           normalized};
    SumsOfRows<A, N> sums;
    Statistics<A, N> moments;
    alignas(32) Array<A, N> next_pivots = {};
    stages.take_narrow_pivots(begin, next_pivots);
    for (Index t = begin;; t += N) {
      if (t > begin) stages.finish_sums(sums, t - N, moments);
      if (t < end) {
        if (prefetches) [[unlikely]]
          prefetch_fours(arguments, t, end);
        for (int r = 0; r < N; ++r) sums.pivots[r] = next_pivots[r];
        stages.take_narrow_sums(t, sums);
      }
      if (t + N < end) stages.take_narrow_pivots(t + N, next_pivots);
      if (t > begin) stages.write(moments, t - N);
      if (t >= end) break;
    }
  }
};

/// Rows [begin, end) one after the other, each while it is in L1; or pipelined, so that reads and
/// writes go on together: the sums of a row are taken before the results of the one before are
/// written, or in step with them.
template <class Call>
struct RowsTask {
  const Call& arguments;
  const Operand<typename Call::Normalized>& normalized;
  MemoryPolicy memory_policy;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using A = typename Call::Arithmetic;
    using Stages = RowStages<Level, Call, 1>;
    const Call call = copy_of(arguments);
    const MemoryPolicy policy = memory_policy;
    const Affine<Level, A, typename Call::Norm::Param> affine(call.norm);
    const Stages stages{call, affine, in_registers(normalized), arguments, normalized};
    SumsOfRows<A, 1> sums;
    Statistics<A, 1> moments{};
    bool is_pending = false;  // the row before, with its moments
    for (Index t = begin; t < end || is_pending;) {
      const bool takes = t < end && (policy.overlaps || !is_pending);
      typename Stages::Writer writer;  // one for each row: no call stands between its uses, so that
                                       // Clang keeps it in registers
      if (is_pending) stages.start(writer, moments, t - 1, policy.pipelines);
      if (takes) {
        Prefetch results;
        if (policy.prefetches_results) results = prefetch_of(row_of(call.y, t));
        stages.take_sums(t, results, sums, writer);
        if (policy.prefetches_operands) {
          prefetch_of(row_of(call.x, t + 1)).template fetch<0>(0, call.channels);
          if (call.residual.data != nullptr)
            prefetch_of(row_of(call.residual, t + 1)).template fetch<0>(0, call.channels);
        }
      }
      writer.finish(policy.streams);
      is_pending = false;
      if (takes) {
        stages.finish_sums(sums, t, moments);
        if (call.makes_sums() && normalized.token_stride == 0 && call.sum.data != nullptr)
          stream_sum<Level, A>(stages.normalized, call.sum, t, call.channels);
        is_pending = !stages.is_rare(moments);
        if (!is_pending) [[unlikely]]
          stages.write_one_by_one(moments, t);
        ++t;
      }
    }
    if (policy.streams) finish_streaming();
  }

 private:
  /// A sum that is at hand goes to where it belongs.
  template <class Level, class A, class S>
  TOKENNORM_INLINE static void stream_sum(const Operand<S>& at_hand, const Operand<S>& sum, Index t,
                                          Index channels) {
    stream_row<Level, A>(row_of(as_const(at_hand), t), row_of(sum, t), channels);
  }
};

/// Rows [begin, end) whose place to be normalized in is known.
template <class Call>
void run_rows(const Call& call, const Operand<typename Call::Normalized>& normalized, Index begin,
              Index end) noexcept {
  using A = typename Call::Arithmetic;
  const bool is_for_speed = level_is_for_speed();
  const bool go_in_fours =
      is_for_speed && normalized.token_stride != 0 &&
      (call.channels <= narrow_channels<A> ? !is_too_far_for_fours(call) : is_grouped(call));
  if (is_for_speed && !go_in_fours && call.channels > narrow_channels<A>) {
    return dispatch_for_speed(RowsTask<Call>{call, normalized, memory_policy(call), begin, end});
  }
  Index alone = begin;
  if (go_in_fours) {
    alone = end - (end - begin) % rows_together;
    const bool prefetches = are_fours_prefetched(call, call.tokens, forward_prefetched);
    if (begin < alone)
      dispatch_for_speed(FoursTask<Call>{call, normalized, begin, alone, prefetches});
  }
  if (alone < end) dispatch(LoneRowsTask<Call>{call, normalized, alone, end});
}

/// Sums that have no place of their own are kept in scratch, a row at a time.
template <class Call>
[[gnu::noinline]] void run_rows_with_scratch(const Call& call, Index begin, Index end) noexcept {
  using S = typename Call::Normalized;
  alignas(64) Bytes<longest_kept_sum * sizeof(S)> scratch;
  auto* const row = static_cast<S*>(static_cast<void*>(scratch));
  run_rows(call, Operand<S>{row, 0, 1}, begin, end);
}

/// Rows [begin, end) of a call.
template <class Call>
void normalize_rows(const Call& call, Index begin, Index end) noexcept {
  using S = typename Call::Normalized;
  Operand<S> normalized = in_registers(call.sum);
  if (!call.makes_sums()) {  // x, which is not written to
    if constexpr (Call::may_be_plain) normalized = in_registers(rows_of_x(call));
  } else if constexpr (Call::may_sum_in_y) {
    if (call.sum.data == nullptr) normalized = in_registers(call.y);
  }
  if (normalized.data == nullptr || (call.makes_sums() && keeps_sums(call))) [[unlikely]] {
    run_rows_with_scratch(call, begin, end);
  } else if (end - begin == 1) {
    dispatch(LoneRowsTask<Call>{call, normalized, begin, end});
  } else {
    run_rows(call, normalized, begin, end);
  }
}

/// A row that is read as s∘x: each product is rounded by itself, as if it were stored.
template <class A0, class X>
struct ScaledRow {
  Row<const X> x;
  A0 factor;
  const A0* channels;  // or null

  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    const Lanes<A, W> scaled = opaque(x.template get<A, W>(c) * Lanes<A, W>(factor));
    return channels == nullptr ? scaled : opaque(scaled * load<A, W>(channels + c));
  }
  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n) const {
    const Lanes<A, W> scaled = opaque(x.template get_first<A, W>(c, n) * Lanes<A, W>(factor));
    return channels == nullptr ? scaled : opaque(scaled * load_first<A, W>(channels + c, n));
  }
};

/// sum = α·residual + s∘x of rows [begin, end), without a norm; sum may be either. Without a
/// residual it is s∘x.
template <class A, class H, class X, class S>
struct AddRowsTask {
  Operand<const H> residual;  // null: none
  Operand<const X> x;
  Operand<S> sum;
  Index channels;
  A alpha;
  Factors<A> factors;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const AddRowsTask task = *this;  // which no store can change
    const bool is_scaled = task.factors.are_given();
    for (Index t = task.begin; t < task.end; ++t) {
      const auto store = [&](const auto& source) __attribute__((always_inline)) {
        store_row<Level, A>(source, row_of(task.sum, t), 0, task.channels);
      };
      const ScaledRow<A, X> scaled{row_of(task.x, t), task.factors.of_token(t),
                                   task.factors.channels};
      if (task.residual.data == nullptr) {
        store(scaled);
      } else if (is_scaled) {
        store(SumRow<S, A, Row<const H>, ScaledRow<A, X>>{row_of(task.residual, t), scaled,
                                                          task.alpha});
      } else {
        store(sum_row<S>(task.alpha, task.residual, task.x, t));
      }
    }
  }
};
template <class A, class H, class X, class S>
void add_rows(const TokenView<const H>& residual, const TokenView<const X>& x, A alpha,
              const Factors<A>& factors, const TokenView<S>& sum, Index begin, Index end) noexcept {
  dispatch(AddRowsTask<A, H, X, S>{residual, x, sum, sum.channels, alpha, factors, begin, end});
}

TOKENNORM_END_KERNELS
