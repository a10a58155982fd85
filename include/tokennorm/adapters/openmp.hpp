// SPDX-License-Identifier: MIT
/// An executor on OpenMP's threads.
///
///     #include <tokennorm/adapters/openmp.hpp>
///
///     norm(x, y, tokennorm::openmp);
///     block(x, y, workspace, tokennorm::openmp);
///     auto dx = block.backward(dy, tokennorm::openmp);
///
/// Threads    as many as OpenMP gives a parallel region (OMP_NUM_THREADS, omp_set_num_threads), the
///            calling one among them; each takes one contiguous range, so that the tokens of a
///            large batch stay with the core whose cache or memory has them. Small work stays on
///            the calling thread, and so does everything inside a parallel region
/// Results    the same bits as without an executor, for every number of threads
/// Memory     none is allocated here. Of OpenMP's own, GCC's allocates at its first use, for the
///            threads, and LLVM's a little at each
/// Throws     nothing of its own
/// Needs      the CMake target tokennorm::openmp, or -fopenmp
#pragma once

#ifndef _OPENMP
#error "tokennorm/adapters/openmp.hpp needs OpenMP: link tokennorm::openmp, or give -fopenmp."
#endif

#include "tokennorm/core/executor.hpp"

#include <omp.h>

namespace tokennorm {

/// The type of `openmp`.
struct OpenMP {
  /// f(begin, end) over disjoint ranges; by the calling thread alone within a parallel region.
  template <class F>
  void parallel_for(Index count, Index grain, F&& f) const;
};

/// The executor whose threads are OpenMP's.
inline constexpr OpenMP openmp{};

template <class F>
void OpenMP::parallel_for(Index count, Index grain, F&& f) const {
  if (detail::is_small(count, grain) || omp_in_parallel() != 0) {
    return serial.parallel_for(count, grain, f);
  }
  const detail::Ranges ranges(count, grain, omp_get_max_threads());
  const int size = static_cast<int>(ranges.size());
  if (size <= 1) return serial.parallel_for(count, grain, f);
#pragma omp parallel for schedule(static) num_threads(size)
  for (int i = 0; i < size; ++i) f(ranges.begin(i), ranges.end(i));
}

}  // namespace tokennorm
