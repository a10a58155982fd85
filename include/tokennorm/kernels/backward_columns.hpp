// SPDX-License-Identifier: MIT
/// The backward kernel for tokens whose channels are not contiguous: column-major matrices, and
/// operands with any strides. Several tokens are processed at a time, one in each lane. The
/// equations are those of backward.hpp.
#pragma once

#include "tokennorm/kernels/backward.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// For for_each_fold: whether a sum of dy may overflow, as the sum of its squares does.
template <class Arguments, class A>
struct HugeColumnsTask {
  const Arguments& args;
  Index first, last;
  bool& is_huge;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    Lanes<A, width> squares(A(0));
    for (Index t = first; t < last; t += width) {
      const auto dy = column_of(args.dy, t, std::min<Index>(width, last - t));
      for (Index c = 0; c < args.channels.get(); ++c) {
        const auto out = dy.template get<A, width>(c);
        squares = multiply_add(out, out, squares);
      }
    }
    is_huge = !is_finite(squares);
  }
};

/// Chunks [begin, end) of operands with any strides: tokens in lanes.
template <class Arguments, class A>
struct BackwardColumnsTask {
  const Arguments& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    const Arguments args = in_registers(arguments);
    const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) __attribute__((always_inline)) {
      for (Index t = first; t < last; t += width) {
        const Index count = std::min<Index>(width, last - t);
        Level::call(Columns{args, t, count, scale_sums, shift_sums, t == first});
      }
    };
    for_each_fold<Level, A, HugeColumnsTask<Arguments, A>>(args, begin, end, run_fold);
  }

 private:
  using Norm = std::remove_const_t<decltype(Arguments::norm)>;

  /// A vector of tokens.
  struct Columns {
    const Arguments& args;
    Index t, count;
    ChannelSums<A> scale_sums, shift_sums;
    bool at_first;

    template <class Level>
    TOKENNORM_INLINE void run() const {
      constexpr int width = Level::template lanes<A>;
      using V = Lanes<A, width>;
      const Index channels = args.channels.get();
      const Index counted = step::statistics_count(args.norm, channels);
      const AffineOf<Level, A, Norm> affine(args.norm);
      backward::Tokens<A, width> tokens;
      tokens.read(args.norm, t, static_cast<int>(count));
      const V center = get(tokens.center), rstd = get(tokens.rstd);
      const auto x = column_of(args.x, t, count);
      const auto dy = column_of(args.dy, t, count);
      const auto dsum = column_of(args.dsum, t, count);
      const auto dx = column_of(args.dx, t, count);

      Total<A, width> total_x, total_g, total_gx;
      for (Index from = 0; from < channels; from += vectors_per_fold) {
        const Index to = std::min(channels, from + vectors_per_fold);
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
      backward::finish<Level, Norm::centred>(sums_x, sums_g, sums_gx, counted, tokens);
      tokens.slow &= (1u << count) - 1;
      if (tokens.slow != 0) [[unlikely]] {
        if (count == 1) {
          using Task = backward::PreciseTask<
              A, Norm, decltype(column_of(args.x, t, 1)), decltype(column_of(args.dy, t, 1)),
              decltype(column_of(args.dsum, t, 1)), decltype(column_of(args.dx, t, 1))>;
          Baseline::call(
              Task{args.norm, x, dy, dsum, dx, channels, scale_sums, shift_sums, at_first});
          return;
        }
        // One by one, so that the results of the others do not depend on it.
        for (Index i = 0; i < count; ++i) {
          Level::call(Columns{args, t + i, 1, scale_sums, shift_sums, at_first && i == 0});
        }
        return;
      }
      const V offset = get(tokens.offset), mean_g = get(tokens.mean_g);
      const V mean_gx = get(tokens.mean_gx);
      for (Index c = 0; c < channels; ++c) {
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
        if constexpr (is_present<decltype(args.dsum)>) {
          dx.put(c, multiply_add(inner, rstd, dsum.template get<A, width>(c)));
        } else {
          dx.put(c, inner * rstd);
        }
        if (scale_sums.wanted()) {
          scale_sums.add(c, horizontal_sum(out * normalized), scale_sums.is_empty(at_first));
        }
        if (shift_sums.wanted()) {
          shift_sums.add(c, horizontal_sum(out), shift_sums.is_empty(at_first));
        }
      }
    }

   private:
    template <std::size_t W>
    TOKENNORM_INLINE static Lanes<A, int{W}> get(const A (&values)[W]) {
      return load<A, int{W}>(static_cast<const A*>(values));
    }
  };
};

template <class A, int Channels, class... Operands>
void run_backward_columns(const Backward<A, Channels, Operands...>& arguments, Index begin,
                          Index end) noexcept {
  dispatch(BackwardColumnsTask<Backward<A, Channels, Operands...>, A>{arguments, begin, end});
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
