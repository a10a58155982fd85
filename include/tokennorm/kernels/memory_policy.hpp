// SPDX-License-Identifier: MIT
/// How kernels go about memory: what is prefetched, pipelined and streamed. Results do not depend
/// on it.
#pragma once

#include "tokennorm/kernels/operands.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tokennorm::detail {

/// Whether the kernels manage what goes to and from memory: rows that are far away are prefetched
/// and read while others are written, stores to several places are kept apart, and dx is stored
/// past the caches. Intel's processors are faster by up to a third; in AMD's (Zen 4) it gets in the
/// way of their own prefetchers and costs as much. The bits are the same (but for -ffast-math,
/// which reorders the sums of gradients).
inline bool machine_manages_memory() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return !__builtin_cpu_is("amd");
#else
  return true;
#endif
}

/// 1 or 0, or −1 before it is first asked for; tests set it.
inline constinit std::atomic<int> chosen_memory_policy{-1};

[[gnu::cold, gnu::noinline]] inline int choose_memory_policy() {
  const int manages = machine_manages_memory();
  chosen_memory_policy.store(manages, std::memory_order_relaxed);
  return manages;
}

TOKENNORM_INLINE bool manages_memory() {
  int manages = chosen_memory_policy.load(std::memory_order_relaxed);
  if (manages < 0) [[unlikely]]
    manages = choose_memory_policy();
  return manages != 0;
}

}  // namespace tokennorm::detail

TOKENNORM_BEGIN_KERNELS

inline constexpr std::int64_t mib = 1 << 20;
inline constexpr Index l1_bytes = 32 << 10;     // of the smallest first cache that counts
inline constexpr Index most_at_hand = 8 << 10;  // of rows that leave room in it for others

template <class View>
using Element = std::remove_cvref_t<decltype(*View::data)>;

/// Sums without a place of their own are kept in scratch if a row is not longer than this.
inline constexpr Index longest_kept_sum = 4096;

template <class T>
TOKENNORM_INLINE std::int64_t bytes_of(const TokenView<T>& view) {
  return std::int64_t{view.tokens} * view.channels * std::int64_t{sizeof(T)};
}

/// What a forward call reads and writes.
struct Traffic {
  std::int64_t result_bytes;
  Index row_bytes;            // of an operand
  Index parameter_row_bytes;  // scale and shift, in the arithmetic type
  bool stays_at_hand, adds_result, makes_sums, stores_sums;
};

struct MemoryPolicy {
  bool pipelines;            // results together with the sums of the next row: a cache holds both
  bool overlaps;             // the sums of a row are taken before the results of the one before
  bool prefetches_operands;  // of the next row
  bool prefetches_results;   // where they will be written
  bool streams;              // results bypass the caches, of which they would only drive out what
                             // is read again
};

/// Where the results are before they are written: in a cache, together with what they are made
/// from; in memory, so that rows are prefetched; or so far that they are streamed.
inline bool is_in_cache(std::int64_t result_bytes) { return result_bytes < 12 * mib; }
inline bool is_streamed(std::int64_t result_bytes) { return result_bytes >= 64 * mib; }

inline MemoryPolicy memory_policy(const Traffic& traffic) {
  const bool in_cache = is_in_cache(traffic.result_bytes) || traffic.stays_at_hand;
  const bool prefetches = !in_cache && detail::manages_memory();
  const Index rows = traffic.makes_sums ? 5 : traffic.adds_result ? 4 : 3;
  const Index operands = traffic.makes_sums ? 2 : 1;

  MemoryPolicy policy;
  // L1 holds the operands of two tokens, the results of one, scale and shift.
  policy.pipelines = in_cache && rows * traffic.row_bytes + traffic.parameter_row_bytes <= l1_bytes;
  policy.streams = !in_cache && is_streamed(traffic.result_bytes);
  // A long row drives out what is worked on.
  policy.prefetches_operands = prefetches && operands * traffic.row_bytes <= most_at_hand;
  policy.overlaps = policy.pipelines || (policy.prefetches_operands && !traffic.stores_sums);
  // What is read of a long row drives out where its results go before they are written.
  policy.prefetches_results =
      !in_cache && !policy.streams && (prefetches || traffic.row_bytes > most_at_hand);
  return policy;
}

template <class Call>
TOKENNORM_INLINE std::int64_t result_bytes(const Call& call) {
  return std::int64_t{call.tokens} * call.channels * std::int64_t{sizeof(*call.y.data)};
}
/// Whether results are read or written soon where they are, or are read in the same place.
template <class Call>
TOKENNORM_INLINE bool results_stay_at_hand(const Call& call) {
  return is_in(call.y.data, call.x) || is_in(call.y.data, call.residual) || call.is_read_next ||
         call.adds_result;
}

template <class Call>
TOKENNORM_INLINE MemoryPolicy memory_policy(const Call& call) {
  const bool makes_sums = call.makes_sums(), stores_sums = makes_sums && call.sum.data != nullptr;
  const bool are_sums_in_y = makes_sums && !stores_sums && call.channels > longest_kept_sum;
  return memory_policy(Traffic{result_bytes(call), call.channels * Index{sizeof(*call.x.data)},
                               2 * call.channels * Index{sizeof(typename Call::Arithmetic)},
                               results_stay_at_hand(call) || are_sums_in_y, call.adds_result,
                               makes_sums, stores_sums});
}

/// Whether the rows kernel has a place for the sums of a call: the caller's, y, or scratch.
template <class Call>
TOKENNORM_INLINE bool has_place_for_sums(const Call& call) {
  return !call.makes_sums() || call.sum.data != nullptr || Call::may_sum_in_y ||
         call.channels <= longest_kept_sum;
}

/// Whether the sums of rows that are not narrow are kept in scratch until they are normalized,
/// because the results are streamed: then they are as well.
template <class Call>
TOKENNORM_INLINE bool keeps_sums(const Call& call) {
  using A = typename Call::Arithmetic;
  if (!is_streamed(result_bytes(call)) || !level_is_for_speed()) return false;
  if (call.channels <= narrow_channels<A> || call.channels > longest_kept_sum) return false;
  const void* const sum = call.sum.data;
  constexpr bool are_streamed = std::is_same_v<typename Call::Normalized, A>;
  return !results_stay_at_hand(call) &&
         (sum == nullptr || (are_streamed && !is_in(sum, call.x) && !is_in(sum, call.residual)));
}

/// Rows of up to so many channels are swept one by one, but four of them are finished and
/// normalized together where they are near. (Measured, with lanes of 32 and of 64 bytes: the
/// results of longer ones are better written pipelined with the sums of the next row.)
template <class A>
inline constexpr Index grouped_channels = Index{1792} / Index{sizeof(A)};

/// Whether rows that are not narrow go in fours: results and what they are made from are in L2.
template <class Call>
TOKENNORM_INLINE bool is_grouped(const Call& call) {
  return call.channels <= grouped_channels<typename Call::Arithmetic> && result_bytes(call) <= mib;
}

/// What a call reads and writes of so many tokens.
template <class Call>
TOKENNORM_INLINE std::int64_t operand_bytes(const Call& call, Index tokens) {
  std::int64_t of_channel = 0;
  const auto count = [&](const auto& operand) __attribute__((always_inline)) {
    if (operand.data != nullptr) of_channel += std::int64_t{sizeof(*operand.data)};
  };
  call.each_read(count);
  call.each_written(count);
  return of_channel * call.channels * tokens;
}

/// Whether narrow rows go one by one: prefetchers lose track of what goes on in so many places. On
/// Intel's processors rows of 512 bytes do from 16 MiB of operands on, of 256 bytes from 32 MiB,
/// shorter ones never. On AMD's (Zen 5) fours of rows that are prefetched are up to twice as fast,
/// but for the longest far away. (Those of 16 bits never: converting takes longer than waiting.)
template <class Call>
TOKENNORM_INLINE bool is_too_far_for_fours(const Call& call) {
  constexpr Index longest = 512, element = sizeof(*call.x.data);
  const Index row = call.channels * element;
  if (element == 2) return false;
  const std::int64_t bytes = operand_bytes(call, call.tokens);
  if (!detail::manages_memory()) return row > 384 && bytes >= (Call::centred ? 96 : 48) * mib;
  return row >= 256 && bytes * std::min(row, longest) >= 16 * mib * longest;
}

/// From where on narrow rows that go in fours are prefetched: rows of 256 bytes from so many bytes
/// on that a call reads and writes, shorter ones that much later, and the shortest never. Not under
/// Intel's policy, where it has not been measured.
struct PrefetchedFours {
  std::int64_t least_bytes;
  Index shortest_row;
};
inline constexpr PrefetchedFours forward_prefetched{12 * mib, 128};
inline constexpr PrefetchedFours backward_prefetched{16 * mib, 160};

template <class Call>
TOKENNORM_INLINE bool are_fours_prefetched(const Call& call, Index tokens,
                                           const PrefetchedFours& rule) {
  constexpr Index longest = 256;
  const Index row = call.channels * Index{sizeof(*call.x.data)};
  return !detail::manages_memory() && row >= rule.shortest_row &&
         operand_bytes(call, tokens) * std::min(row, longest) >= rule.least_bytes * longest;
}

/// Prefetches what the fours after those at t will need, up to the row `end`. (GCC sees no effect
/// in that, and would drop a call of it, but for an asm.)
template <class Call>
[[gnu::noinline]] void prefetch_fours(const Call& call, Index t, Index end) noexcept {
  constexpr Index read_ahead = 16, written_ahead = 8;  // rows
  asm volatile("");
  for (Index r = t; r < t + rows_together; ++r) {
    Index row = r + read_ahead;
    const auto fetch = [&](const auto& operand) __attribute__((always_inline)) {
      if (operand.data != nullptr && row < end)
        prefetch_of(row_of(operand, row)).template fetch<0>(0, call.channels);
    };
    call.each_read(fetch);
    row = r + written_ahead;
    call.each_written(fetch);
  }
}

TOKENNORM_END_KERNELS
