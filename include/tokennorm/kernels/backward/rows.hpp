// SPDX-License-Identifier: MIT
/// The backward kernel for operands with contiguous channels: the orders in which the sweeps of
/// backward/sweeps.hpp go over the rows. The parameter gradients are gathered over a few rows
/// before they touch memory.
#pragma once

#include "tokennorm/kernels/backward/fallback.hpp"
#include "tokennorm/kernels/backward/sweeps.hpp"
#include "tokennorm/kernels/memory_policy.hpp"

#include <algorithm>
#include <cstdint>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

namespace backward {

/// How the rows of a call are worked on. The sums of four are taken together and gathered before
/// they touch memory. But rows that fit into the first cache are faster one by one if x, dy and dx
/// are far away: not in the second, under Intel's memory policy, and not in the third elsewhere.
/// Under Intel's, so are those whose borders are not those of cache lines; elsewhere, nearer rows
/// of middle length are faster pipelined, beyond the second cache shorter ones as well.
struct Order {
  bool in_fours;
  bool pipelined;   // the second sweep over a row together with the first over the next
  bool apart;       // dx of some channels is written and then their sums are touched; the other way
                    // round where dx is written over what the sums are taken from
  bool streams;     // dx goes past the caches
  bool prefetches;  // fours

  template <class Arguments>
  TOKENNORM_INLINE explicit Order(const Arguments& args) {
    using A = typename Arguments::A;
    constexpr Index kib = 1024, line = 64, first_cache = 32 * kib;
    const Index row = args.channels * Index{sizeof(A)};
    const bool is_long = row > 6 * kib;  // all that belongs to it does not fit into the first cache
    const bool manages = detail::manages_memory();
    const std::int64_t bytes = bytes_of(args.x);
    const bool is_far = bytes >= (manages ? 512 : 4096) * kib;
    const Index shortest_pipelined = (bytes < 2048 * kib ? 2 : 1) * kib;
    const bool is_partial = statistics_count(args.norm, args.channels) != args.channels;
    // Of rows that are aligned at one channel only, and not for the few whole lines of short ones.
    streams = manages && std::is_same_v<Element<decltype(args.dx)>, A> && row >= 2 * kib &&
              !is_partial && bytes_of(args.dx) >= 64 * kib * kib && !args.is_in_place() &&
              !is_in(args.dx.data, args.dsum);
    const bool alone =
        streams ||
        (!is_long && ((is_far && row >= kib / 2) || (manages && row % line != 0 && row >= kib)));
    // In the first cache at once: x and dy of two rows, dx, the scale and two sums.
    pipelined = !manages && !alone && args.divided == nullptr && !is_partial &&
                row >= shortest_pipelined && 8 * row <= first_cache;
    apart = manages && (alone || is_long);
    in_fours = !alone && !pipelined;
    prefetches =
        in_fours && !is_long && are_fours_prefetched(args, args.x.tokens, backward_prefetched);
    if (!Baseline::is_for_speed && isa() == Isa::baseline)
      in_fours = pipelined = apart = streams = false;
  }
};

/// The channels that are worked on apart.
inline constexpr Index channels_apart = 512;

/// Rows [first, last), whose sums for the gradients come together.
template <class Arguments>
struct Rows {
  using A = typename Arguments::A;
  const Arguments& args;
  const Order& order;
  Index first, last;
  const ChannelSums<A>& scale_sums;
  const ChannelSums<A>& shift_sums;

  template <class Level>
  TOKENNORM_INLINE Sweeps<Level, Arguments> sweeps() const {
    return {args, scale_sums, shift_sums};
  }
  void fall_back(Index t) const {
    Baseline::call(FallbackTask<Arguments>{args, t, scale_sums, shift_sums});
  }
};

/// One after the other.
template <class Arguments>
struct RowsTask {
  using A = typename Arguments::A;
  const Rows<Arguments>& rows;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const auto sweeps = rows.template sweeps<Level>();
    const Index channels = rows.args.channels;
    for (Index t = rows.first; t < rows.last; ++t) {
      Tokens<A, 1> tokens;
      sweeps.take_sums(t, tokens);
      Parts parts = sweeps.all();
      if (tokens.fallbacks != 0) [[unlikely]] {
        rows.fall_back(t);
      } else if (!Level::is_for_speed) {
        sweeps.sweep(parts, t, tokens, t, tokens, 0, channels);
      } else if (rows.order.apart) {
        finish_apart(sweeps, t, tokens);
      } else {
        sweeps.sweep_row(parts, t, tokens, t, tokens);
      }
    }
    if (rows.order.streams) finish_streaming();
  }

 private:
  TOKENNORM_INLINE void finish_apart(const auto& sweeps, Index t, Tokens<A, 1>& tokens) const {
    const Arguments& args = rows.args;
    const Parts all = sweeps.all();
    const bool streams = rows.order.streams, sums_first = args.is_in_place();
    // What is streamed is aligned.
    const Index head = streams ? row_of(args.dx, t).unaligned(sweeps.width) : 0;
    for (Index from = 0, to; from < args.channels; from = to) {
      to = std::min(args.channels, from < head ? head : from + channels_apart);
      for (const bool is_dx : {!sums_first, sums_first}) {
        if (!is_dx && !args.has_sums()) continue;
        sweeps.sweep({.now = true,
                      .dx = is_dx,
                      .scale_sums = !is_dx && all.scale_sums,
                      .shift_sums = !is_dx && all.shift_sums,
                      .dsum = all.dsum,
                      .streams = streams},
                     t, tokens, t, tokens, from, to);
      }
    }
  }
};

/// The first sweep over a row, if it was made together with the second of the one before.
template <class A>
struct Begun {
  bool is_begun = false;
  Tokens<A, 1> tokens;
};

/// Pipelined, up to row `end`. (With the last one goes its own first sweep once more, in vain.)
template <class Arguments>
struct PipelinedTask {
  using A = typename Arguments::A;
  const Rows<Arguments>& rows;
  Index end;
  Begun<A>& begun;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    if constexpr (Level::is_for_speed) {
      const auto sweeps = rows.template sweeps<Level>();
      Tokens<A, 1> tokens = begun.tokens, next;
      bool is_begun = begun.is_begun;
      Parts parts = sweeps.all();
      parts.next = true;
      for (Index t = rows.first; t < rows.last; ++t) {
        if (!is_begun) sweeps.take_sums(t, tokens);
        is_begun = tokens.fallbacks == 0 && t + 1 < end;
        if (tokens.fallbacks != 0) [[unlikely]] {
          rows.fall_back(t);
          continue;
        }
        const Index next_t = std::min(t + 1, end - 1);
        next.read(rows.args.norm, next_t, 1);
        sweeps.sweep_row(parts, t, tokens, next_t, next);
        tokens = next;
      }
      begun = {is_begun, tokens};
    }
  }
};

/// Four at a time; their number is a multiple of that.
template <class Arguments>
struct FoursTask {
  using A = typename Arguments::A;
  const Rows<Arguments>& rows;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    if constexpr (Level::is_for_speed) {
      const auto sweeps = rows.template sweeps<Level>();
      const Parts parts = sweeps.all();
      for (Index t = rows.first; t < rows.last; t += rows_together) {
        if (rows.order.prefetches) [[unlikely]]
          prefetch_fours(rows.args, t, rows.args.x.tokens);
        Tokens<A, rows_together> tokens;
        sweeps.take_sums(t, tokens);
        if (tokens.fallbacks == 0) [[likely]] {
          sweeps.sweep(parts, t, tokens, t, tokens, 0, rows.args.channels);
        } else {
          const Rows<Arguments> one_by_one{rows.args,         rows.order,      t,
                                           t + rows_together, rows.scale_sums, rows.shift_sums};
          Level::call(RowsTask<Arguments>{one_by_one});
        }
      }
    }
  }
};

}  // namespace backward

/// Chunks [begin, end) of operands with contiguous channels.
template <bool Centred, class A, class... Types>
void run_backward_rows(const Backward<Centred, A, Types...>& call, Index begin,
                       Index end) noexcept {
  using Call = Backward<Centred, A, Types...>;
  const backward::Order order(call);
  // (In place, for_each_fold looks whether the sums fit where they do not go straight to
  // gradients.)
  const bool fits = !call.is_in_place() || (call.goes_straight() && !call.has_addend());
  if (call.x.tokens == 1 && begin < end && fits) {
    call.scale_sums.start(call.channels);
    call.shift_sums.start(call.channels);
    const backward::Rows<Call> row{call, order, 0, 1, call.scale_sums, call.shift_sums};
    return dispatch(backward::RowsTask<Call>{row});
  }
  const Index last_row = std::min(call.x.tokens, end * tokens_per_chunk);
  backward::Begun<A> begun{};
  const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                            const ChannelSums<A>& shift_sums) {
    const Index fours = order.in_fours ? (last - first) / rows_together * rows_together : 0;
    backward::Rows<Call> rows{call, order, first, first + fours, scale_sums, shift_sums};
    if (fours > 0) dispatch(backward::FoursTask<Call>{rows});
    rows.first += fours;
    rows.last = last;
    if (order.pipelined) {  // not beyond what the addend has been added to
      const Index stop = call.has_addend() ? last : last_row;
      dispatch(backward::PipelinedTask<Call>{rows, stop, begun});
    } else if (rows.first < last) {
      dispatch(backward::RowsTask<Call>{rows});
    }
  };
  backward::for_each_fold(call, begin, end, run_fold);
}

TOKENNORM_END_KERNELS
