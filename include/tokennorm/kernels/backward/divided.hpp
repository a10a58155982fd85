// SPDX-License-Identifier: MIT
/// The first sweep over tokens whose channels are divided, g = (o + γ)·dy: of a part's channels
///
///     Σ g,  Σ g·x̂'        x̂' = (x − center)·rstd, center the mean of all channels in the
///                         arithmetic type; x̂ itself where that type does not hold rstd well
///
/// Those of parts are added up. The second sweep is that of any call, which is given the sums.
#pragma once

#include "tokennorm/kernels/backward/sweeps.hpp"
#include "tokennorm/kernels/forward/moments.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

/// Those of one token.
template <class A>
struct PartialSums {
  PreciseSum<A> g{}, gx{};
};

template <class Norm, class A, class X, class DY>
struct PartialSumsTask {
  const Norm& norm;
  Index channels;
  Row<const X> x;
  Row<const DY> dy;
  const Statistics<A, 1>& statistics;
  PartialSums<A>& sums;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    if (statistics.fallbacks == 0) take_sums<Level>();
    const auto is_finite = [](const PreciseSum<A>& sum) {
      const auto magnitude = std::fabs(rounded(sum));
      return is_between(0, magnitude, std::numeric_limits<double>::max());
    };
    if (statistics.fallbacks != 0 || !is_finite(sums.g) || !is_finite(sums.gx)) [[unlikely]] {
      Baseline::call(WideSumsTask{*this});
    }
  }

 private:
  static double rounded(double sum) { return sum; }
  static double rounded(const DoubleDouble& sum) { return sum.high; }

  template <class Level>
  TOKENNORM_INLINE void take_sums() const {
    constexpr int width = Level::template lanes<A>;
    constexpr Index block = backward::vectors_per_total * width;
    using V = Lanes<A, width>;
    const AffineOf<Level, A, Norm> affine(norm);
    const V center(statistics.center[0]), rstd(statistics.rstd[0]);
    RowTotal<A, width> total_g, total_gx;
    for (Index from = 0; from < channels; from += block) {
      V sum_g(A(0)), sum_gx(A(0));
      for_each_vector<width>(
          from,
          std::min(channels, from + block), [&](Index c, auto n) __attribute__((always_inline)) {
            V value = get<A, width>(x, c, n);
            if constexpr (Norm::centred) value = only_first(guarded(value - center), n);
            const V g = get<A, width>(dy, c, n) * affine.scale_of(c, n);
            sum_g += g;
            sum_gx = multiply_add(g, value * rstd, sum_gx);
          });
      total_g.add(sum_g);
      total_gx.add(sum_gx);
    }
    sums.g = total_g.sum();
    sums.gx = total_gx.sum();
  }

  /// The same in the wider type.
  struct WideSumsTask {
    const PartialSumsTask& task;

    template <class Level>
    TOKENNORM_INLINE void run() const {
      using P = Precise<A>;
      const Statistics<A, 1>& token = task.statistics;
      const AffineOf<Level, A, Norm> affine(task.norm);
      const bool is_exact = token.fallbacks != 0;
      const P rstd = is_exact ? token.wide_rstd[0] : static_cast<P>(token.rstd[0]);
      P sum_g = 0, sum_gx = 0;
      for (Index c = 0; c < task.channels; ++c) {
        const A value = task.x.template at<A>(c);
        const P from_mean = is_exact ? deviation(value, token, 0)
                                     : static_cast<P>(value) - static_cast<P>(token.center[0]);
        const P g = static_cast<P>(affine.scale_at(c)) * static_cast<P>(task.dy.template at<A>(c));
        sum_g += g;
        sum_gx += g * (from_mean * rstd);
      }
      task.sums = {in_memory(sum_g), in_memory(sum_gx)};
    }
    static PreciseSum<A> in_memory(const Precise<A>& sum) {
      const auto high = static_cast<double>(sum);
      if constexpr (std::is_same_v<A, float>) {
        return high;
      } else {
        return {high, static_cast<double>(sum - static_cast<Precise<A>>(high))};
      }
    }
  };
};

TOKENNORM_END_KERNELS
