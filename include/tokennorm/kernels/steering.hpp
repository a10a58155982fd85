// SPDX-License-Identifier: MIT
/// Run-time choice of how kernels go about memory, which processors of one instruction set want
/// done differently.
#pragma once

#include "tokennorm/core/macros.hpp"

#include <atomic>

namespace tokennorm::detail {

/// Whether what goes to and from memory is steered: rows that are far away are fetched ahead and
/// read while others are written, stores to several places are kept apart, and dx is stored past
/// the caches. Intel's processors are faster by up to a third; in AMD's (Zen 4) it gets in the way
/// of their own prefetchers and costs as much. The bits are the same (but for -ffast-math, which
/// reorders the sums of gradients).
inline bool machine_is_steered() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return !__builtin_cpu_is("amd");
#else
  return true;
#endif
}

/// 1 or 0, or −1 before it is first asked for; tests set it.
inline constinit std::atomic<int> chosen_steering{-1};

[[gnu::cold, gnu::noinline]] inline int choose_steering() {
  const int steers = machine_is_steered();
  chosen_steering.store(steers, std::memory_order_relaxed);
  return steers;
}

TOKENNORM_INLINE bool steers_memory() {
  int steers = chosen_steering.load(std::memory_order_relaxed);
  if (steers < 0) [[unlikely]]
    steers = choose_steering();
  return steers != 0;
}

}  // namespace tokennorm::detail
