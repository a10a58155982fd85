// SPDX-License-Identifier: MIT
/// The backward kernel for tokens whose channels are not contiguous: column-major matrices, and
/// operands with any strides. Several tokens are processed at a time, one in each lane. The
/// equations are those of backward/call.hpp.
#pragma once

#include "tokennorm/kernels/backward/fallback.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

namespace backward {

/// Tokens [first, last), as many at a time as there are lanes.
template <class Arguments>
struct StridedTask {
  using A = typename Arguments::A;
  using Norm = typename Arguments::Norm;
  const Arguments& args;
  Index first, last;
  ChannelSums<A> scale_sums, shift_sums;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    for (Index t = first, count; t < last; t += count) {
      count = std::min<Index>(width, last - t);
      Tokens<A, width> tokens;
      tokens.read(args.norm, t, static_cast<int>(count));
      take_sums<Level>(t, count, tokens);
      tokens.fallbacks &= (1u << count) - 1;
      if (tokens.fallbacks == 0) [[likely]] {
        finish_tokens<Level>(t, count, tokens);
      } else if (count == 1) {
        Baseline::call(FallbackTask<Arguments>{args, t, scale_sums, shift_sums});
      } else {
        // One by one, so that the results of the others do not depend on it.
        for (Index i = t; i < t + count; ++i) {
          Level::call(StridedTask{args, i, i + 1, scale_sums, shift_sums});
        }
      }
    }
  }

 private:
  template <std::size_t W>
  TOKENNORM_INLINE static Lanes<A, int{W}> get(const A (&values)[W]) {
    return load<A, int{W}>(static_cast<const A*>(values));
  }

  /// The first sweep.
  template <class Level, int width>
  TOKENNORM_INLINE void take_sums(Index t, Index count, Tokens<A, width>& tokens) const {
    using V = Lanes<A, width>;
    if (args.divided != nullptr) [[unlikely]]
      return finish<Level, Norm::centred>(*args.divided, t, tokens);
    const AffineOf<Level, A, Norm> affine(args.norm);
    const V center = get(tokens.center), rstd = get(tokens.rstd);
    const auto x = column_of(args.x, t, count);
    const auto dy = column_of(args.gradient(), t, count);
    Total<A, width> total_x, total_g, total_gx;
    for (Index from = 0; from < args.channels; from += vectors_per_fold) {
      const Index to = std::min(args.channels, from + vectors_per_fold);
      V sum_x(A(0)), sum_g(A(0)), sum_gx(A(0));
      for (Index c = from; c < to; ++c) {
        const V normalized = guarded(x.template get<A, width>(c) - center) * rstd;
        const V g = dy.template get<A, width>(c) * affine.scale_of(c);
        sum_x += normalized;
        sum_g += g;
        sum_gx = multiply_add(g, normalized, sum_gx);
      }
      total_x.add(sum_x);
      total_g.add(sum_g);
      total_gx.add(sum_gx);
    }
    Array<PreciseSum<A>, width> sums_x, sums_g, sums_gx;
    total_x.write(sums_x);
    total_g.write(sums_g);
    total_gx.write(sums_gx);
    const Index counted = statistics_count(args.norm, args.channels);
    finish<Level, Norm::centred>(sums_x, sums_g, sums_gx, counted, tokens);
  }

  /// The second sweep.
  template <class Level, int width>
  TOKENNORM_INLINE void finish_tokens(Index t, Index count, const Tokens<A, width>& tokens) const {
    using V = Lanes<A, width>;
    const AffineOf<Level, A, Norm> affine(args.norm);
    const Index counted = statistics_count(args.norm, args.channels);
    const V center = get(tokens.center), rstd = get(tokens.rstd);
    const V offset = get(tokens.offset), mean_g = get(tokens.mean_g);
    const V mean_gx = get(tokens.mean_gx);
    const auto x = column_of(args.x, t, count);
    const auto dy = column_of(args.gradient(), t, count);
    const auto dsum = column_of(args.dsum, t, count);
    const auto dx = column_of(args.dx, t, count);
    for (Index c = 0; c < args.channels; ++c) {
      const V out = dy.template get<A, width>(c);
      V normalized;
      if constexpr (Norm::centred) {
        normalized = multiply_add(guarded(x.template get<A, width>(c) - center), rstd, offset);
      } else {
        normalized = x.template get<A, width>(c) * rstd;
      }
      V inner = out * affine.scale_of(c);
      if constexpr (Norm::centred) inner += mean_g;
      if (c < counted) inner = multiply_add(normalized, mean_gx, inner);
      if (args.has_dsum()) {
        dx.put(c, multiply_add(inner, rstd, dsum.template get<A, width>(c)));
      } else {
        dx.put(c, inner * rstd);
      }
      scale_sums.add(c, horizontal_sum(out * normalized));
      shift_sums.add(c, horizontal_sum(out));
    }
  }
};

}  // namespace backward

/// Chunks [begin, end) of operands with any strides.
template <bool Centred, class A, class... Types>
void run_backward_columns(const Backward<Centred, A, Types...>& call, Index begin,
                          Index end) noexcept {
  using Task = backward::StridedTask<Backward<Centred, A, Types...>>;
  backward::for_each_fold(call, begin, end,
                          [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) {
                            dispatch(Task{call, first, last, scale_sums, shift_sums});
                          });
}

TOKENNORM_END_KERNELS
