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
/// The sweeps are in backward_rows.hpp and backward_columns.hpp. Here is what both need: the
/// arguments, what the first sweep finds for the second, a token in the wider type, and the loop
/// over the chunks.
///
/// Source   Ba, Kiros, Hinton 2016, arXiv:1607.06450, eq. 4, differentiated
#pragma once

#include "tokennorm/kernels/channel_sums.hpp"
#include "tokennorm/kernels/residual_step.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

template <class A, int Channels, class X, class DY, class DSum, class DX, class Norm>
struct Backward {
  Extent<Channels> channels;
  X x;                        // TokenView<const …>
  DY dy;                      // TokenView<const …> or SumOfViews
  DSum dsum;                  // TokenView<const …> or Absent
  DX dx;                      // TokenView
  Norm norm;                  // mean and rstd are read
  ChannelSums<A> scale_sums;  // Σ dy·x̂, chunks × channels, if wanted
  ChannelSums<A> shift_sums;  // Σ dy
  SumsProgress* progress;

  /// Whether dx is written over what the sums are taken from.
  TOKENNORM_INLINE bool is_in_place() const { return is_in(dx.data, x) || is_in(dx.data, dy); }
};

template <class A, int Channels, class... Operands>
TOKENNORM_INLINE auto in_registers(const Backward<A, Channels, Operands...>& args) {
  return Backward<A, Channels, Operands...>{
      in_registers(args.channels),   in_registers(args.x),          in_registers(args.dy),
      in_registers(args.dsum),       in_registers(args.dx),         in_registers(args.norm),
      in_registers(args.scale_sums), in_registers(args.shift_sums), args.progress};
}

namespace backward {

/// What the second sweep needs to know of N tokens.
template <class A, int N>
struct Tokens {
  alignas(64) Array<A, N> center, rstd;  // x̂ = (x − center)·rstd + offset
  alignas(64) Array<A, N> offset, mean_g;
  alignas(64) Array<A, N> mean_gx;  // Σ g·x̂ over all channels, by the number of those counted
  unsigned slow = 0;

  TOKENNORM_INLINE bool is_slow(int token) const { return ((slow >> token) & 1u) != 0; }

  /// Token 0 becomes token i of `other`.
  template <int M>
  TOKENNORM_INLINE void copy(const Tokens<A, M>& other, int i) {
    center[0] = other.center[i];
    rstd[0] = other.rstd[i];
    offset[0] = other.offset[i];
    mean_g[0] = other.mean_g[i];
    mean_gx[0] = other.mean_gx[i];
  }

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
  std::conditional_t<std::is_same_v<A, float>, V, Pairs<T::width>> factor_;
};

/// From the sums over rows of x̂' = (x − mean)·rstd, g and g·x̂'. Slow are the tokens of which sums
/// overflowed, the arithmetic type does not hold rstd well, or the mean is not the row's.
template <class Level, bool Centred, class A, int N>
TOKENNORM_INLINE void finish(const PreciseSum<A>* sums_x, const PreciseSum<A>* sums_g,
                             const PreciseSum<A>* sums_gx, Index n, Tokens<A, N>& tokens) {
  using T = TokenLanes<Level, N>;
  using V = typename T::V;
  const MinusMean<Level, T, A> minus_mean(n);
  constexpr double huge = 1 / Limits<A>::smallest;
  tokens.slow = 0;
  TOKENNORM_UNROLL
  for (int i = 0; i < N; i += T::width) {
    const V rstd = T::get(static_cast<const A*>(tokens.rstd + i));
    V mean_gx = minus_mean(sums_gx + i);
    auto fast = T::at_least(rstd * rstd, 1 / Limits<A>::largest) & T::at_most(rstd * rstd, huge);
    if constexpr (Centred) {
      const V offset = minus_mean(sums_x + i), mean_g = minus_mean(sums_g + i);
      mean_gx = mean_gx + opaque(offset * mean_g);  // not multiply_add, see moments.hpp
      fast = fast & T::magnitude_at_most(offset, 0.25) & T::magnitude_at_most(mean_g, huge);
      T::put(tokens.offset + i, offset);
      T::put(tokens.mean_g + i, mean_g);
    }
    fast = fast & T::magnitude_at_most(mean_gx, huge);
    T::put(tokens.mean_gx + i, mean_gx);
    tokens.slow |= T::failed(fast) << i;
  }
}

/// A token in the wider type, its statistics included: rare.
template <class A, class Norm, class X, class DY, class DSum, class DX>
struct PreciseTask {
  Norm norm;
  X x;
  DY dy;
  DSum dsum;
  DX dx;
  Index channels;
  ChannelSums<A> scale_sums, shift_sums;
  bool at_first;  // token of a fold

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    const Index n = step::statistics_count(norm, channels);
    const P count = static_cast<P>(n);
    Moments<A, 1> moments;
    PreciseMomentsTask<Norm::centred, A, X>{x, n, norm.epsilon, moments}.template run<Level>();
    const P rstd = moments.wide_rstd[0];
    P mean_g = 0, mean_gx = 0, size_g = 0, size_gx = 0;
    for (Index c = 0; c < channels; ++c) {
      const P g = gradient(c), gx = g * (deviation(x.template at<A>(c), moments, 0) * rstd);
      mean_g += g;
      mean_gx += gx;
      size_g += std::fabs(g);
      size_gx += std::fabs(gx);
    }
    mean_g = Norm::centred ? mean_g / count : P(0);
    mean_gx /= count;
    size_g /= count;
    size_gx /= count;
    // What the roundings of the sums and of x̂ are at most, in parts of what is added up.
    const P rounding = static_cast<P>(channels + 64) * std::numeric_limits<P>::epsilon();
    for (Index c = 0; c < channels; ++c) {
      const P normalized = deviation(x.template at<A>(c), moments, 0) * rstd;
      const P inner = c < n ? normalized * mean_gx : P(0);
      P result = rstd * (gradient(c) - mean_g - inner);
      const P size = std::fabs(gradient(c)) + size_g + std::fabs(normalized) * size_gx;
      const A out = dy.template at<A>(c);
      if constexpr (is_present<DSum>) result += static_cast<P>(dsum.template at<A>(c));
      dx.set(c, finite_if_it_may_be(result, rounding * rstd * size));
      if (scale_sums.wanted()) {
        scale_sums.add(c, static_cast<P>(out) * normalized, scale_sums.is_empty(at_first));
      }
      if (shift_sums.wanted()) {
        shift_sums.add(c, static_cast<P>(out), shift_sums.is_empty(at_first));
      }
    }
  }

 private:
  /// The result in A; the largest number of its memory where it is beyond that by no more than its
  /// error: a finite gradient is not to become infinite by rounding.
  TOKENNORM_INLINE static A finite_if_it_may_be(Precise<A> result, Precise<A> error) {
    using P = Precise<A>;
    using Stored = std::remove_cvref_t<decltype(*dx.data)>;
    const A largest = static_cast<A>(Eigen::NumTraits<Stored>::highest());
    const A narrow = static_cast<A>(result);
    const auto magnitude = magnitude_bits(opaque(narrow));
    const bool is_beyond = magnitude > magnitude_bits(largest) &&
                           magnitude <= magnitude_bits(std::numeric_limits<A>::infinity());
    const bool may_be_finite = std::fabs(result) - error <= static_cast<P>(largest);
    return is_beyond && may_be_finite ? std::copysign(largest, narrow) : narrow;
  }

  TOKENNORM_INLINE Precise<A> gradient(Index c) const {
    using P = Precise<A>;
    const P factor = norm.scale == nullptr ? P(1)
                                           : static_cast<P>(static_cast<A>(norm.scale[c])) +
                                                 static_cast<P>(norm.scale_offset);
    return static_cast<P>(dy.template at<A>(c)) * factor;
  }
};

}  // namespace backward

/// Σ dy·x̂ and Σ dy of tokens [first, last) in double, for sums that float does not hold: rare.
/// Written to the totals, or added to what is there.
template <class X, class DY, class Norm>
void take_precise_sums(const X& tokens, const DY& gradients, const Norm& norm, Index first,
                       Index last, double* scale_total, double* shift_total,
                       bool is_added) noexcept {
  const Index channels = tokens.channels;
  const Index n = step::statistics_count(norm, channels);
  for (Index t = first; t < last; ++t) {
    const auto x = column_of(tokens, t, 1);
    const auto dy = column_of(gradients, t, 1);
    using Token = std::remove_const_t<decltype(x)>;
    Moments<float, 1> moments;
    Baseline::call(PreciseMomentsTask<Norm::centred, float, Token>{x, n, norm.epsilon, moments});
    const auto put = [is_empty = !is_added && t == first](double& total, double value) {
      total = is_empty ? value : total + value;
    };
    for (Index c = 0; c < channels; ++c) {
      const auto out = static_cast<double>(dy.template at<float>(c));
      const double normalized =
          deviation(x.template at<float>(c), moments, 0) * moments.wide_rstd[0];
      if (scale_total != nullptr) put(scale_total[c], out * normalized);
      if (shift_total != nullptr) put(shift_total[c], out);
    }
  }
}

/// Runs the chunks [begin, end): f(first token, token after the last, sums) for a few at a time.
/// Whoever has the first chunks adds them up on the way, so that they share their memory.
///
/// Sums of float may overflow where dy is huge. They are taken again in double at the end, unless
/// what they are taken from is overwritten: then HugeTask looks at dy first, and those of huge
/// tokens are taken in double before.
template <class Level, class A, class HugeTask, class Arguments, class F>
TOKENNORM_INLINE void for_each_fold(const Arguments& args, Index begin, Index end, const F& f) {
  const Index channels = args.channels.get();
  const bool looks_first = std::is_same_v<A, float> && args.is_in_place() &&
                           (args.scale_sums.wanted() || args.shift_sums.wanted()) &&
                           !args.scale_sums.is_gradient && !args.shift_sums.is_gradient;
  const bool adds_up = begin == 0 && end > 0 && std::is_same_v<Precise<A>, double>;
  for (Index chunk = begin; chunk < end; ++chunk) {
    const Index slot = adds_up ? std::min<Index>(chunk, 1) : chunk;
    const auto scale_sums = args.scale_sums.at(begin, slot, channels);
    const auto shift_sums = args.shift_sums.at(begin, slot, channels);
    const Index first = chunk * tokens_per_chunk;
    const Index last = std::min(args.x.tokens, first + tokens_per_chunk);
    for (Index t = first; t < last; t += tokens_per_fold) {
      const Index stop = std::min(last, t + tokens_per_fold);
      ChannelSums<A> scale_fold = scale_sums, shift_fold = shift_sums;
      bool is_folded = args.x.tokens <= tokens_per_fold;
      if constexpr (std::is_same_v<A, float>) {
        bool is_huge = false;
        if (looks_first) Level::call(HugeTask{args, t, stop, is_huge});
        if (is_huge) [[unlikely]] {
          take_precise_sums(args.x, args.dy, args.norm, t, stop,
                            scale_sums.wanted() ? scale_sums.total : nullptr,
                            shift_sums.wanted() ? shift_sums.total : nullptr, t > first);
          if (is_folded) args.progress->is_total = true;
          is_folded = true;
          scale_fold = shift_fold = {};
        }
      }
      f(t, stop, scale_fold, shift_fold);
      if (!is_folded) {
        scale_sums.template fold<Level>(channels, t == first);
        shift_sums.template fold<Level>(channels, t == first);
      }
    }
    if (adds_up && chunk > 0) {
      args.scale_sums.template add_next<Level>(channels);
      args.shift_sums.template add_next<Level>(channels);
    }
  }
  if (adds_up) args.progress->added_up = end;
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
