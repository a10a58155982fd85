// SPDX-License-Identifier: MIT
/// A token whose channels are divided: each part has its moments, those of parts merge to those of
/// the token, and from these the results of each part are made.
///
///     of a part   n,  μ = Σx/n,  M₂ = Σ(x − μ)²                          (RMSNorm: M₂ = Σx²)
///     of two      δ = μb − μa,  n = na + nb,  μ = μa + δ·nb/n,  M₂ = M₂a + M₂b + δ²·na·nb/n
///     of all      σ² = M₂/n
///
/// Error    of M₂ of a part as of s₂ in stages/statistics.hpp, of which it is at least three
///          quarters or else redone; to merge adds a few roundings of the moments' type, which is
///          double for norms of float, and two doubles with an exponent for norms of double
/// Source   Chan, Golub, LeVeque 1983, "Algorithms for Computing the Sample Variance", eq. 2.1
#pragma once

#include "tokennorm/kernels/forward/rows.hpp"
#include "tokennorm/kernels/simd/wide_double.hpp"

#include <cmath>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

/// The type of the moments of a norm that computes in A.
template <class A>
using Moment = std::conditional_t<std::is_same_v<A, float>, double, WideDouble>;

template <class A>
struct Moments {
  Moment<A> mean = 0, m2 = 0;
};

/// Moments of na channels become those of these and nb others.
template <class A>
[[gnu::noinline]] void merge(Moments<A>& a, Index na, const Moments<A>& b, Index nb) {
  using P = Moment<A>;
  const P part = static_cast<P>(nb) / static_cast<P>(na + nb), delta = b.mean - a.mean;
  a.mean = a.mean + delta * part;
  a.m2 = (a.m2 + b.m2) + delta * delta * (part * static_cast<P>(na));
}

/// In terms of bits: also where the compiler was told that there is no NaN.
inline bool is_between(double low, double v, double high) {
  return hidden_bits(low) <= hidden_bits(v) && hidden_bits(v) <= hidden_bits(high);
}

/// From the sums about a pivot to the moments; false where they do not carry them.
template <bool Centred, class A>
[[gnu::noinline]] bool finish_moments(A pivot, const PreciseSum<A>& sum,
                                      const PreciseSum<A>& squares, Index n, Moments<A>& moments) {
  using P = Moment<A>;
  const auto count = static_cast<P>(n);
  const P s(sum), delta = s / count;
  moments.m2 = P(squares);
  if constexpr (Centred) {
    moments.mean = P(pivot) + delta;
    moments.m2 = moments.m2 - s * delta;
  }
  const auto variance = static_cast<double>(moments.m2 / count);
  const auto mean_square = static_cast<double>(P(squares) / count);
  return is_between(Limits<A>::smallest, variance, Limits<A>::largest) &&
         4 * variance >= 3 * mean_square;
}

/// The statistics of a token of so many channels.
template <bool Centred, class A>
[[gnu::noinline]] Statistics<A, 1> statistics_of(const Moments<A>& moments, Index n,
                                                 double epsilon) {
  using P = Moment<A>;
  Statistics<A, 1> result{};
  P rest = 0;
  if constexpr (Centred) {
    result.center[0] = narrowed<A>(moments.mean);
    rest = moments.mean - P(result.center[0]);
  }
  const P radicand = moments.m2 / static_cast<P>(n) + P(epsilon);
  const P rstd = reciprocal_root_or_zero(radicand);
  result.mean[0] = static_cast<double>(moments.mean);
  result.precise_rstd[0] = static_cast<double>(rstd);
  result.rstd[0] = static_cast<A>(rstd);
  result.correction[0] = static_cast<A>(-rest * rstd);
  result.rest[0] = static_cast<Precise<A>>(rest);
  result.wide_rstd[0] = static_cast<Precise<A>>(rstd);
  result.fallbacks =
      !is_between(Limits<A>::smallest, static_cast<double>(radicand), Limits<A>::largest);
  return result;
}

/// The moments of a row in their own type.
template <bool Centred, class A, class Source>
struct WideMomentsTask {
  Source source;
  Index n;
  Moments<A>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Moment<A>;
    WideMoments<A, P> wide;
    wide.template take<Centred>(source, n);
    moments.mean = P(wide.center) + wide.rest;
    moments.m2 = wide.variance * static_cast<P>(n);
  }
};

/// The moments of a row of a call, whose sums are stored on the way.
template <class Call>
struct MomentsTask {
  using A = typename Call::Arithmetic;
  const Call& call;
  const Operand<typename Call::Normalized>& normalized;
  Index row;
  Moments<A>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using Source = Row<const typename Call::Normalized>;
    const Affine<Level, A, typename Call::Norm::Param> affine(call.norm);
    const RowStages<Level, Call, 1> stages{call, affine, normalized, call, normalized};
    const Index n = call.counted();
    SumsOfRows<A, 1> sums;
    stages.take_sums_alone(row, sums);
    if (finish_moments<Call::centred>(sums.pivots[0], sums.sums[0], sums.squares[0], n, moments))
        [[likely]]
      return;
    const Source source{normalized.row(row)};
    if constexpr (Call::centred) {
      const A center = narrowed<A>(moments.mean);
      sums_together<Level, true, A>(Group<Source, 1>{{source}}, &center, n, sums.sums,
                                    sums.squares);
      if (finish_moments<true>(center, sums.sums[0], sums.squares[0], n, moments)) return;
    }
    Baseline::call(WideMomentsTask<Call::centred, A, Source>{source, n, moments});
  }
};

TOKENNORM_END_KERNELS
