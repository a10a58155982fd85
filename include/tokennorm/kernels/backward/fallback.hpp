// SPDX-License-Identifier: MIT
/// Backward in the wider type, for what the arithmetic type does not hold: tokens whose sums
/// overflow or whose rstd is out of range, and gradients so large that their sums over tokens do.
/// Rare, any strides, at the baseline. The equations are those of backward/call.hpp.
#pragma once

#include "tokennorm/kernels/backward/call.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

namespace backward {

/// The statistics of a token in the wider type.
template <class Arguments, class Source, class A>
TOKENNORM_INLINE void take_statistics(const Arguments& args, Index token, const Source& x,
                                      Statistics<A, 1>& moments) {
  if (args.divided != nullptr) {
    moments = args.divided->statistics[token];
    return;
  }
  const Index n = statistics_count(args.norm, args.channels);
  Baseline::call(FallbackStatisticsTask<Arguments::Norm::centred, A, Source>{
      x, n, args.norm.epsilon, moments});
}

/// A token, its statistics included.
template <class Arguments>
struct FallbackTask {
  using A = typename Arguments::A;
  const Arguments& args;
  Index token;
  ChannelSums<A> scale_sums, shift_sums;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using std::fabs;
    using P = Precise<A>;
    using Norm = typename Arguments::Norm;
    const Index n = statistics_count(args.norm, args.channels);
    const P count = static_cast<P>(n);
    const auto x = column_of(args.x, token, 1);
    const auto gradient = args.gradient();
    const auto dx = column_of(args.dx, token, 1);
    Statistics<A, 1> moments;
    take_statistics(args, token, x, moments);
    const P rstd = moments.wide_rstd[0];
    P mean_g = 0, mean_gx = 0, size_g = 0, size_gx = 0;
    for (Index c = 0; c < args.channels; ++c) {
      const P g = factor(c) * at(gradient, c);
      const P gx = g * (deviation(x.template at<A>(c), moments, 0) * rstd);
      mean_g += g;
      mean_gx += gx;
      size_g += fabs(g);
      size_gx += fabs(gx);
    }
    mean_g = Norm::centred ? mean_g / count : P(0);
    mean_gx /= count;
    size_g /= count;
    size_gx /= count;
    if (args.divided != nullptr) take_means(mean_g, mean_gx);
    // What the roundings of the sums and of x̂ are at most, in parts of what is added up.
    const P rounding = static_cast<P>(args.channels + 64) * std::numeric_limits<P>::epsilon();
    for (Index c = 0; c < args.channels; ++c) {
      const P out = at(gradient, c), g = factor(c) * out;
      const P normalized = deviation(x.template at<A>(c), moments, 0) * rstd;
      const P inner = c < n ? normalized * mean_gx : P(0);
      P result = rstd * (g - mean_g - inner);
      const P size = fabs(g) + size_g + fabs(normalized) * size_gx;
      if (args.has_dsum()) result += at(args.dsum, c);
      dx.set(c, finite_if_it_may_be(result, rounding * rstd * size));
      scale_sums.add(c, out * normalized);
      shift_sums.add(c, out);
    }
  }

 private:
  /// The result in A; the largest number of its memory where it is beyond that by no more than its
  /// error: a finite gradient is not to become infinite by rounding.
  TOKENNORM_INLINE static A finite_if_it_may_be(Precise<A> result, Precise<A> error) {
    using std::fabs;
    using P = Precise<A>;
    using Stored = Element<decltype(Arguments::dx)>;
    const A largest = static_cast<A>(Eigen::NumTraits<Stored>::highest());
    const A narrow = static_cast<A>(result);
    const auto magnitude = magnitude_bits(opaque(narrow));
    const bool is_beyond = magnitude > magnitude_bits(largest) &&
                           magnitude <= magnitude_bits(std::numeric_limits<A>::infinity());
    const bool may_be_finite = fabs(result) - error <= static_cast<P>(largest);
    return is_beyond && may_be_finite ? std::copysign(largest, narrow) : narrow;
  }

  /// The means over all channels of a divided token.
  TOKENNORM_INLINE void take_means(Precise<A>& mean_g, Precise<A>& mean_gx) const {
    const DividedTokens<A>& all = *args.divided;
    const auto mean = [&](const PreciseSum<A>* sums) {
      using P = Precise<A>;
      const P count = static_cast<P>(all.channels);
      if constexpr (std::is_same_v<A, float>) {
        return sums[token] / count;
      } else {
        return (static_cast<P>(sums[token].high) + static_cast<P>(sums[token].low)) / count;
      }
    };
    mean_gx = mean(all.sums_gx);
    if constexpr (Arguments::Norm::centred) {
      mean_g = mean(all.sums_g);
      mean_gx = mean_gx - mean(all.sums_x) * mean_g;
    }
  }

  TOKENNORM_INLINE Precise<A> at(const auto& view, Index c) const {
    return static_cast<Precise<A>>(column_of(view, token, 1).template at<A>(c));
  }
  TOKENNORM_INLINE Precise<A> factor(Index c) const {
    using P = Precise<A>;
    if (args.norm.scale == nullptr) return P(1);
    return static_cast<P>(static_cast<A>(args.norm.scale[c])) +
           static_cast<P>(args.norm.scale_offset);
  }
};

/// Σ dy·x̂ and Σ dy of tokens [first, last) in double, for sums that float does not hold. Written to
/// the totals that are not null, or added to what is there.
template <class Arguments>
void take_precise_sums(const Arguments& args, Index first, Index last, double* scale_total,
                       double* shift_total, bool is_added) noexcept {
  if (!is_added) {
    for (double* const total : {scale_total, shift_total}) {
      if (total != nullptr) std::fill_n(total, args.channels, 0.0);
    }
  }
  for (Index t = first; t < last; ++t) {
    const auto x = column_of(args.x, t, 1);
    const auto dy = column_of(args.gradient(), t, 1);
    Statistics<float, 1> moments;
    take_statistics(args, t, x, moments);
    for (Index c = 0; c < args.channels; ++c) {
      const auto out = static_cast<double>(dy.template at<float>(c));
      const double normalized =
          deviation(x.template at<float>(c), moments, 0) * moments.wide_rstd[0];
      if (scale_total != nullptr) scale_total[c] += out * normalized;
      if (shift_total != nullptr) shift_total[c] += out;
    }
  }
}

/// Before the tokens [first, last) are worked on: adds dy_addend, if there is one, and says whether
/// some numbers are so large that a sum of a few of them times x̂ might overflow; NaN is one. Lanes
/// are channels or tokens, whatever is contiguous.
template <class Arguments>
struct PrepareTask {
  const Arguments& args;
  Index first, last;
  bool& is_huge;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using A = typename Arguments::A;
    using DY = Element<decltype(Arguments::dy)>;
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    using Bits = Lanes<BitsOf<A>, width>;
    constexpr BitsOf<A> all = std::numeric_limits<BitsOf<A>>::max();
    const bool are_rows = args.dy.channel_stride == 1;
    const Index tokens = last - first;
    const Index outer = are_rows ? tokens : args.channels;
    const Index inner = are_rows ? args.channels : tokens;
    Bits largest(0);
    for (Index i = 0; i < outer; ++i) {
      for (Index k = 0; k < inner; k += width) {
        const auto at = [&]<class T>(const TokenView<T>& view) __attribute__((always_inline)) {
          T* const data = view.row(first + (are_rows ? i : k)) +
                          std::ptrdiff_t{are_rows ? k : i} * view.channel_stride;
          return Column<T>{data, are_rows ? view.channel_stride : view.token_stride, 0,
                           std::min<Index>(width, inner - k)};
        };
        V out = at(args.dy).template get<A, width>(0);
        if (args.has_addend()) {
          out = rounded_to<DY>(out + at(args.dy_addend).template get<A, width>(0));
          at(args.dx).put(0, out);
        }
        // In terms of bits: also where the compiler was told that there is no NaN.
        const Bits magnitude = bit_cast_lanes<Bits>(opaque(out)) & Bits(all);
        largest = largest | Bits(magnitude.native > Bits(magnitude_bits(A(0x1p64f))).native);
      }
    }
    TOKENNORM_UNROLL
    for (int i = 0; i < width; ++i) is_huge = is_huge || largest[i] != 0;
    if constexpr (!Arguments::Norm::centred) {
      if (statistics_count(args.norm, args.channels) != args.channels) look_at_normalized();
    }
  }

 private:
  /// Outside the channels that an RMSNorm counts, x̂ may be huge as well.
  TOKENNORM_INLINE void look_at_normalized() const {
    using A = typename Arguments::A;
    for (Index t = first; t < last; ++t) {
      const auto x = column_of(args.x, t, 1);
      const A rstd = static_cast<A>(args.norm.rstd[t]);
      for (Index c = 0; c < args.channels; ++c) {
        const A normalized = x.template at<A>(c) * rstd;
        is_huge = is_huge || magnitude_bits(opaque(normalized)) > magnitude_bits(A(0x1p32f));
      }
    }
  }
};

/// Runs the chunks [begin, end), a fold of a few tokens at a time: f(first token, token after the
/// last, sums). Whoever has the first chunks adds them up on the way, so that they share memory.
///
/// Sums of float may overflow where dy is huge. They are taken again in double at the end, unless
/// what they are taken from is overwritten: then those of huge tokens are taken in double before.
template <class Arguments>
void for_each_fold(const Arguments& args, Index begin, Index end, const auto& f) {
  using A = typename Arguments::A;
  const Index channels = args.channels;
  const bool looks_first =
      std::is_same_v<A, float> && args.is_in_place() && args.has_sums() && !args.goes_straight();
  const bool adds_up = begin == 0 && end > 0 && std::is_same_v<Precise<A>, double>;
  for (Index chunk = begin; chunk < end; ++chunk) {
    const Index slot = adds_up ? std::min<Index>(chunk, 1) : chunk;
    const auto scale_sums = args.scale_sums.at(begin, slot, channels);
    const auto shift_sums = args.shift_sums.at(begin, slot, channels);
    const Index first = chunk * tokens_per_chunk;
    const Index last = std::min(args.x.tokens, first + tokens_per_chunk);
    for (Index t = first; t < last; t += tokens_per_fold) {
      const Index stop = std::min(last, t + tokens_per_fold);
      const bool is_folded = args.x.tokens <= tokens_per_fold;
      bool is_huge = false;
      if (looks_first || args.has_addend()) {
        dispatch(PrepareTask<Arguments>{args, t, stop, is_huge});
      }
      if (looks_first && is_huge) [[unlikely]] {
        if constexpr (std::is_same_v<A, float>) {
          take_precise_sums(args, t, stop, scale_sums.total, shift_sums.total, t > first);
        }
        if (is_folded) args.progress->is_total = true;
        f(t, stop, ChannelSums<A>{}, ChannelSums<A>{});
        continue;
      }
      scale_sums.start(channels);
      shift_sums.start(channels);
      f(t, stop, scale_sums, shift_sums);
      if (!is_folded) {
        scale_sums.fold(channels, t == first);
        shift_sums.fold(channels, t == first);
      }
    }
    if (adds_up && chunk > 0) {
      args.scale_sums.add_next(channels);
      args.shift_sums.add_next(channels);
    }
  }
  if (adds_up) args.progress->added_up = end;
}

}  // namespace backward

TOKENNORM_END_KERNELS
