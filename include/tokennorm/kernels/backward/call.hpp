// SPDX-License-Identifier: MIT
/// The backward kernel, with g = (o + γ)·dy:
///
///     dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) + dsum        (RMSNorm: without mean(g))
///     dγ = Σ dy·x̂,   dβ = Σ dy                            over the tokens
///
/// One sweep over x, dy takes the sums, and with them the mean of the x̂ formed with the stored
/// mean: what its rounding left. A second sweep forms dx. The parameter gradients are gathered over
/// chunks of tokens whose borders do not depend on who computes them.
///
/// The sweeps are in backward/sweeps.hpp and strided/backward.hpp, rare tokens in
/// backward/fallback.hpp. Here is what all need: the arguments of a call, and what the first sweep
/// finds for the second.
///
/// Source   Ba, Kiros, Hinton 2016, arXiv:1607.06450, eq. 4, differentiated
#pragma once

#include "tokennorm/kernels/backward/channel_sums.hpp"
#include "tokennorm/kernels/memory_policy.hpp"
#include "tokennorm/kernels/stages/results.hpp"

#include <cstddef>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

/// Tokens whose other channels are elsewhere: what is known of all of them.
template <class A>
struct DividedTokens {
  Index channels = 0;  // that are counted
  const Statistics<A, 1>* statistics = nullptr;
  // As `finish` takes them: of x̂' = (x − mean)·rstd, g, g·x̂'; with room for lanes after the last.
  const PreciseSum<A>* sums_x = nullptr;
  const PreciseSum<A>* sums_g = nullptr;
  const PreciseSum<A>* sums_gx = nullptr;
};

/// A call. DSum is DX where there is no dsum, so that such calls share the kernel of those that
/// have one.
template <bool Centred, class Arithmetic, class X, class DY, class DX, class Param, class Statistic,
          class DSum = DX>
struct Backward {
  using A = Arithmetic;
  using Norm = NormArguments<Centred, Param, const Statistic>;
  /// Works on some chunks of tokens.
  using Kernel = void (*)(const Backward& call, Index begin, Index end) noexcept;

  Index channels;
  TokenView<const X> x;
  TokenView<const DY> dy;
  TokenView<const DY> dy_addend;  // or null. Otherwise dy + dy_addend, rounded to DY, stands for
                                  // dy: it is stored in dx, of that scalar and not x or dsum
  TokenView<const DSum> dsum;     // or null
  TokenView<DX> dx;
  Norm norm;                  // mean and rstd are read
  ChannelSums<A> scale_sums;  // Σ dy·x̂, chunks × channels, if wanted
  ChannelSums<A> shift_sums;  // Σ dy
  SumsProgress* progress;
  const DividedTokens<A>* divided = nullptr;  // null: x has all channels of its tokens

  bool has_dsum() const { return dsum.data != nullptr; }
  bool has_addend() const { return dy_addend.data != nullptr; }
  bool has_sums() const { return scale_sums.wanted() || shift_sums.wanted(); }
  bool goes_straight() const { return scale_sums.is_gradient || shift_sums.is_gradient; }
  /// Whether dx is written over what the sums are taken from.
  bool is_in_place() const { return is_in(dx.data, x) || is_in(dx.data, dy) || has_addend(); }
  TOKENNORM_INLINE void each_read(const auto& f) const {
    f(x);
    f(dy);
    f(dsum);
  }
  TOKENNORM_INLINE void each_written(const auto& f) const { f(dx); }
  /// dy, or where it is once the addend is added.
  TOKENNORM_INLINE TokenView<const DY> gradient() const {
    if constexpr (std::is_same_v<DX, DY>) {
      if (has_addend()) return as_const(dx);
    }
    return dy;
  }
};

namespace backward {

/// What the second sweep needs to know of N tokens.
template <class A, int N>
struct Tokens {
  static constexpr std::size_t alignment = N == 1 ? alignof(A) : 64;
  alignas(alignment) Array<A, N> center, rstd;  // x̂ = (x − center)·rstd + offset
  alignas(alignment) Array<A, N> offset, mean_g;
  alignas(alignment) Array<A, N> mean_gx;  // Σ g·x̂, by the number of channels that are counted
  unsigned fallbacks = 0;

  TOKENNORM_INLINE bool needs_fallback(int token) const { return ((fallbacks >> token) & 1u) != 0; }

  template <class Norm>
  TOKENNORM_INLINE void read(const Norm& norm, Index token, int count) {
    for (int i = 0; i < N; ++i) {
      center[i] = rstd[i] = A(0);
      if constexpr (!Norm::centred) offset[i] = mean_g[i] = A(0);
      if (i >= count) continue;
      rstd[i] = static_cast<A>(norm.rstd[token + i]);
      if constexpr (Norm::centred) center[i] = opaque(static_cast<A>(norm.mean[token + i]));
    }
  }
};

/// −1/n times a sum.
template <class Level, class T, class A>
class MinusMean {
 public:
  TOKENNORM_INLINE explicit MinusMean(Index n) {
    if constexpr (std::is_same_v<A, float>) {
      factor_ = V(-1 / static_cast<double>(n));
    } else {
      factor_ = reciprocal<Level, T::width>(-static_cast<double>(n));
    }
  }
  TOKENNORM_INLINE typename T::V operator()(const PreciseSum<A>* sum) const {
    if constexpr (std::is_same_v<A, float>) {
      return T::get(sum) * factor_;
    } else {
      return product<Level>(T::get(sum), factor_).rounded();
    }
  }

 private:
  using V = typename T::V;
  std::conditional_t<std::is_same_v<A, float>, V, DoubleDoubles<T::width>> factor_;
};

/// From the sums over rows of x̂' = (x − mean)·rstd, g and g·x̂'. The fallback is for tokens of which
/// sums overflowed, the arithmetic type does not hold rstd well, or the mean is not the row's.
template <class Level, bool Centred, class A, int N>
TOKENNORM_INLINE void finish(const PreciseSum<A>* sums_x, const PreciseSum<A>* sums_g,
                             const PreciseSum<A>* sums_gx, Index n, Tokens<A, N>& tokens) {
  using T = TokenLanes<Level, N>;
  using V = typename T::V;
  const MinusMean<Level, T, A> minus_mean(n);
  constexpr double huge = 1 / Limits<A>::smallest;
  tokens.fallbacks = 0;
  TOKENNORM_UNROLL
  for (int i = 0; i < N; i += T::width) {
    const V rstd = T::get(static_cast<const A*>(tokens.rstd + i));
    V mean_gx = minus_mean(sums_gx + i);
    auto fast = T::at_least(rstd * rstd, 1 / Limits<A>::largest) & T::at_most(rstd * rstd, huge);
    if constexpr (Centred) {
      const V offset = minus_mean(sums_x + i), mean_g = minus_mean(sums_g + i);
      mean_gx = mean_gx + opaque(offset * mean_g);  // not multiply_add, see stages/statistics.hpp
      fast = fast & T::magnitude_at_most(offset, 0.25) & T::magnitude_at_most(mean_g, huge);
      T::put(tokens.offset + i, offset);
      T::put(tokens.mean_g + i, mean_g);
    }
    fast = fast & T::magnitude_at_most(mean_gx, huge);
    T::put(tokens.mean_gx + i, mean_gx);
    tokens.fallbacks |= T::failed(fast) << i;
  }
}

/// The same from token `t` on, where the sums over all channels are given.
template <class Level, bool Centred, class A, int N>
TOKENNORM_INLINE void finish(const DividedTokens<A>& all, Index t, Tokens<A, N>& tokens) {
  finish<Level, Centred>(all.sums_x + t, all.sums_g + t, all.sums_gx + t, all.channels, tokens);
}

}  // namespace backward

TOKENNORM_END_KERNELS
