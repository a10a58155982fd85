// SPDX-License-Identifier: MIT
/// The backward kernel, with g = (o + γ)·dy:
///
///     dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) + dsum        (RMSNorm: without mean(g))
///     dγ = Σ dy·x̂,   dβ = Σ dy                            over the tokens
///
/// One sweep over x, dy takes the sums, and with them the mean of the x̂ formed with the stored
/// mean: what its rounding left. A second sweep forms dx. The parameter gradients are gathered over
/// a few rows before they touch memory, and over chunks of tokens whose borders do not depend on
/// who computes them.
///
/// Source   Ba, Kiros, Hinton 2016, arXiv:1607.06450, eq. 4, differentiated
#pragma once

#include "tokennorm/kernels/columns.hpp"

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// Tokens whose parameter gradients are summed up in one partial result: few, so that the rounding
/// of equal terms does not add up; the partial results are added in the wider type.
inline constexpr Index tokens_per_chunk = 16;

inline Index chunk_count(Index tokens) {
  return (tokens + tokens_per_chunk - 1) / tokens_per_chunk;
}

template <class A, int Channels, class X, class DY, class DSum, class DX, class Norm>
struct Backward {
  Extent<Channels> channels;
  X x;            // TokenView<const …>
  DY dy;          // TokenView<const …>
  DSum dsum;      // TokenView<const …> or Absent
  DX dx;          // TokenView
  Norm norm;      // mean and rstd are read
  A* scale_sums;  // chunks × channels, or null: Σ dy·x̂ of each chunk
  A* shift_sums;  // the same for Σ dy
};

namespace backward {

/// What the second sweep needs to know of a token.
template <class A>
struct Token {
  A center = 0;  // x̂ = (x − center)·rstd − offset
  A rstd = 0;
  A offset = 0;
  A mean_g = 0;
  A mean_gx = 0;  // mean(g·x̂) over the channels of the statistics
  bool fast = true;
};

/// From the sums over a row of x̂' = (x − mean)·rstd, g and g·x̂'.
template <bool Centred, class A>
TOKENNORM_INLINE Token<A> finish(A center, A rstd, Precise<A> sum_x, Precise<A> sum_g,
                                 Precise<A> sum_gx, Index n) {
  using P = Precise<A>;
  const P count = static_cast<P>(n);
  Token<A> token;
  token.center = center;
  token.rstd = rstd;
  P offset = 0;
  P mean_g = 0;
  P mean_gx = sum_gx / count;
  if constexpr (Centred) {
    offset = sum_x / count;
    mean_g = sum_g / count;
    mean_gx -= offset * mean_g;
  }
  token.offset = static_cast<A>(offset);
  token.mean_g = static_cast<A>(mean_g);
  token.mean_gx = static_cast<A>(mean_gx);
  // Sums that overflowed, an rstd that float does not hold well, a mean that is not the row's.
  const P huge = P(1) / Limits<A>::smallest;
  token.fast =
      in_range(static_cast<P>(rstd), P(1) / std::sqrt(Limits<A>::largest), std::sqrt(huge)) &&
      in_range(std::abs(mean_gx), P(0), huge) && in_range(std::abs(mean_g), P(0), huge) &&
      in_range(std::abs(offset), P(0), P(1) / 4);
  return token;
}

template <class A, class Norm>
TOKENNORM_INLINE A center_of(const Norm& norm, Index token) {
  if constexpr (Norm::centred) {
    return static_cast<A>(norm.mean[token]);
  } else {
    return A(0);
  }
}

/// A token in the wider type, its statistics included: rare.
template <class A, class Norm, class X, class DY, class DSum, class DX>
struct PreciseTask {
  const Norm& norm;
  X x;
  DY dy;
  DSum dsum;
  DX dx;
  Index channels;
  A* scale_sum;
  A* shift_sum;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    const Index n = step::statistics_count(norm, channels);
    const P count = static_cast<P>(n);
    const Moments<A> moments = PreciseRow<Level, Norm::centred, A, X>(x, n).moments(norm.epsilon);
    const P rstd = moments.precise_rstd;
    P mean_g = 0, mean_gx = 0;
    for (Index c = 0; c < channels; ++c) {
      mean_g += gradient(c);
      mean_gx += gradient(c) * (deviation(x.template at<A>(c), moments) * rstd);
    }
    mean_g = Norm::centred ? mean_g / count : P(0);
    mean_gx /= count;
    for (Index c = 0; c < channels; ++c) {
      const P normalized = deviation(x.template at<A>(c), moments) * rstd;
      const P inner = c < n ? normalized * mean_gx : P(0);
      P result = rstd * (gradient(c) - mean_g - inner);
      const A out = dy.template at<A>(c);
      if constexpr (is_present<DSum>) result += static_cast<P>(dsum.template at<A>(c));
      dx.set(c, static_cast<A>(result));
      if (scale_sum != nullptr) {
        scale_sum[c] += static_cast<A>(static_cast<P>(out) * normalized);
      }
      if (shift_sum != nullptr) shift_sum[c] += out;
    }
  }

 private:
  TOKENNORM_INLINE Precise<A> gradient(Index c) const {
    using P = Precise<A>;
    const P factor = norm.scale == nullptr ? P(1)
                                           : static_cast<P>(static_cast<A>(norm.scale[c])) +
                                                 static_cast<P>(norm.scale_offset);
    return static_cast<P>(dy.template at<A>(c)) * factor;
  }
};

}  // namespace backward

/// Chunks [begin, end) of operands with contiguous channels.
template <class Arguments, class A>
struct BackwardRowsTask {
  const Arguments& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Arguments args = arguments;
    const Affine<Level, A, typename Norm::Param> affine(args.norm);
    const Index channels = args.channels.get();
    for (Index chunk = begin; chunk < end; ++chunk) {
      A* scale_sum = args.scale_sums == nullptr ? nullptr : args.scale_sums + chunk * channels;
      A* shift_sum = args.shift_sums == nullptr ? nullptr : args.shift_sums + chunk * channels;
      if (scale_sum != nullptr) std::fill_n(scale_sum, channels, A(0));
      if (shift_sum != nullptr) std::fill_n(shift_sum, channels, A(0));
      const Index last = std::min(args.x.tokens, (chunk + 1) * tokens_per_chunk);
      Index t = chunk * tokens_per_chunk;
      while (t < last) {
        backward::Token<A> tokens[rows];
        const int count = static_cast<int>(std::min<Index>(rows, last - t));
        bool together = count == rows;
        for (int r = 0; r < count; ++r) {
          tokens[r] = sums<Level>(args, affine, t + r);
          together = together && tokens[r].fast;
        }
        if (together) [[likely]] {
          second_sweep<Level, rows>(args, affine, tokens, t, scale_sum, shift_sum);
        } else {
          for (int r = 0; r < count; ++r) {
            one_row<Level>(args, affine, tokens[r], t + r, scale_sum, shift_sum);
          }
        }
        t += count;
      }
    }
  }

 private:
  using Norm = decltype(Arguments::norm);
  static constexpr int rows = 4;  // whose parameter gradients are gathered in registers

  template <class Level, class Affine>
  TOKENNORM_INLINE static void one_row(const Arguments& args, const Affine& affine,
                                       const backward::Token<A>& token, Index t, A* scale_sum,
                                       A* shift_sum) {
    if (token.fast) [[likely]] {
      const backward::Token<A> tokens[1] = {token};
      second_sweep<Level, 1>(args, affine, tokens, t, scale_sum, shift_sum);
    } else {
      using X = decltype(row_of(args.x, t));
      using DY = decltype(row_of(args.dy, t));
      using DSum = decltype(row_of(args.dsum, t));
      using DX = decltype(row_of(args.dx, t));
      Level::call(backward::PreciseTask<A, Norm, X, DY, DSum, DX>{
          args.norm, row_of(args.x, t), row_of(args.dy, t), row_of(args.dsum, t),
          row_of(args.dx, t), args.channels.get(), scale_sum, shift_sum});
    }
  }

  template <class Level, class Affine>
  TOKENNORM_INLINE static backward::Token<A> sums(const Arguments& args, const Affine& affine,
                                                  Index t) {
    constexpr int width = Level::template lanes<A>;
    constexpr int chains = 2;
    using V = Lanes<A, width>;
    const Index channels = args.channels.get();
    const A center = opaque(backward::center_of<A>(args.norm, t));
    const A rstd = static_cast<A>(args.norm.rstd[t]);
    const V centers(center), rstds(rstd);
    const auto x = row_of(args.x, t);
    const auto dy = row_of(args.dy, t);
    Total<A, width> total_x, total_g, total_gx;
    Index c = 0;
    while (c < channels) {
      V sum_x[chains], sum_g[chains], sum_gx[chains];
      TOKENNORM_UNROLL
      for (int k = 0; k < chains; ++k) sum_x[k] = sum_g[k] = sum_gx[k] = V(A(0));
      const auto add = [&](int k, const V& normalized, const V& g) __attribute__((always_inline)) {
        if constexpr (Norm::centred) {
          sum_x[k] += normalized;
          sum_g[k] += g;
        }
        sum_gx[k] = multiply_add(g, normalized, sum_gx[k]);
      };
      const Index stop = std::min(channels, c + chains * vectors_per_fold * width);
      for (; c + chains * width <= stop; c += chains * width) {
        TOKENNORM_UNROLL
        for (int k = 0; k < chains; ++k) {
          const Index at = c + k * width;
          add(k, guarded(x.template get<A, width>(at) - centers) * rstds,
              dy.template get<A, width>(at) * affine.scale(at));
        }
      }
      if (stop == channels) {
        if (c + width <= channels) {
          add(0, guarded(x.template get<A, width>(c) - centers) * rstds,
              dy.template get<A, width>(c) * affine.scale(c));
          c += width;
        }
        if (c < channels) {
          const Index n = channels - c;
          add(1, first_lanes(guarded(x.template get_first<A, width>(c, n) - centers), n) * rstds,
              dy.template get_first<A, width>(c, n) * affine.scale_first(c, n));
          c = channels;
        }
      }
      if constexpr (Norm::centred) {
        total_x.add(sum_x[0] + sum_x[1]);
        total_g.add(sum_g[0] + sum_g[1]);
      }
      total_gx.add(sum_gx[0] + sum_gx[1]);
    }
    return backward::finish<Norm::centred, A>(center, rstd, total_x.sum(), total_g.sum(),
                                              total_gx.sum(),
                                              step::statistics_count(args.norm, channels));
  }

  template <int W>
  TOKENNORM_INLINE static void add_to(A* sums, const Lanes<A, W>& v) {
    store(sums, load<A, W>(static_cast<const A*>(sums)) + v);
  }
  template <int W>
  TOKENNORM_INLINE static void add_to_first(A* sums, const Lanes<A, W>& v, Index n) {
    store_first(sums, load_first<A, W>(static_cast<const A*>(sums), n) + v, n);
  }

  template <class Level, int Rows, class Affine>
  TOKENNORM_INLINE static void second_sweep(const Arguments& args, const Affine& affine,
                                            const backward::Token<A>* tokens, Index t, A* scale_sum,
                                            A* shift_sum) {
    const Index channels = args.channels.get();
    const Index counted = step::statistics_count(args.norm, channels);
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    Array<V, Rows> centers, rstds, offsets, means_g, means_gx;
    TOKENNORM_UNROLL
    for (int r = 0; r < Rows; ++r) {
      centers[r] = V(tokens[r].center);
      rstds[r] = V(tokens[r].rstd);
      offsets[r] = V(-tokens[r].offset);
      means_g[r] = V(tokens[r].mean_g);
      means_gx[r] = V(-tokens[r].mean_gx);
    }
    // dx of one vector of row r; gathers the parameter gradients.
    const auto one = [&](int r, const V& x, const V& dy, const V& scale, V& scale_total,
                         V& shift_total) __attribute__((always_inline)) {
      V normalized;
      if constexpr (Norm::centred) {
        normalized = multiply_add(guarded(x - centers[r]), rstds[r], offsets[r]);
      } else {
        normalized = x * rstds[r];
      }
      scale_total = multiply_add(dy, normalized, scale_total);
      shift_total += dy;
      V inner = dy * scale;
      if constexpr (Norm::centred) inner = inner - means_g[r];
      inner = multiply_add(normalized, means_gx[r], inner);
      return inner * rstds[r];
    };
    // Channels outside the statistics of a partial RMSNorm have no part in mean(g·x̂).
    for (Index c = 0, end = counted; c < channels; end = channels) {
      for (; c + width <= end; c += width) {
        const V scale = affine.scale(c);
        V scale_total(A(0)), shift_total(A(0));
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          V dx = one(r, row_of(args.x, t + r).template get<A, width>(c),
                     row_of(args.dy, t + r).template get<A, width>(c), scale, scale_total,
                     shift_total);
          if constexpr (is_present<decltype(args.dsum)>) {
            dx += row_of(args.dsum, t + r).template get<A, width>(c);
          }
          row_of(args.dx, t + r).put(c, dx);
        }
        if (scale_sum != nullptr) add_to(scale_sum + c, scale_total);
        if (shift_sum != nullptr) add_to(shift_sum + c, shift_total);
      }
      if (c < end) {
        const Index n = end - c;
        const V scale = affine.scale_first(c, n);
        V scale_total(A(0)), shift_total(A(0));
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          V dx = one(r, row_of(args.x, t + r).template get_first<A, width>(c, n),
                     row_of(args.dy, t + r).template get_first<A, width>(c, n), scale, scale_total,
                     shift_total);
          if constexpr (is_present<decltype(args.dsum)>) {
            dx += row_of(args.dsum, t + r).template get_first<A, width>(c, n);
          }
          row_of(args.dx, t + r).put_first(c, dx, n);
        }
        if (scale_sum != nullptr) add_to_first(scale_sum + c, scale_total, n);
        if (shift_sum != nullptr) add_to_first(shift_sum + c, shift_total, n);
        c = end;
      }
      TOKENNORM_UNROLL
      for (int r = 0; r < Rows; ++r) means_gx[r] = V(A(0));
    }
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
    const Arguments args = arguments;
    const Index channels = args.channels.get();
    for (Index chunk = begin; chunk < end; ++chunk) {
      A* scale_sum = args.scale_sums == nullptr ? nullptr : args.scale_sums + chunk * channels;
      A* shift_sum = args.shift_sums == nullptr ? nullptr : args.shift_sums + chunk * channels;
      if (scale_sum != nullptr) std::fill_n(scale_sum, channels, A(0));
      if (shift_sum != nullptr) std::fill_n(shift_sum, channels, A(0));
      const Index last = std::min(args.x.tokens, (chunk + 1) * tokens_per_chunk);
      for (Index t = chunk * tokens_per_chunk; t < last; t += width) {
        const Index count = std::min<Index>(width, last - t);
        Level::call(Group{args, t, count, scale_sum, shift_sum});
      }
    }
  }

 private:
  using Norm = decltype(Arguments::norm);

  /// A vector of tokens.
  struct Group {
    const Arguments& args;
    Index t, count;
    A* scale_sum;
    A* shift_sum;

    template <class Level>
    TOKENNORM_INLINE void run() const {
      constexpr int width = Level::template lanes<A>;
      using V = Lanes<A, width>;
      const Index channels = args.channels.get();
      const Index counted = step::statistics_count(args.norm, channels);
      const Affine<Level, A, typename Norm::Param> affine(args.norm);
      alignas(64) Array<A, width> centers = {}, rstds = {}, offsets = {}, means_g = {},
                                  means_gx = {};
      for (Index i = 0; i < count; ++i) {
        centers[i] = backward::center_of<A>(args.norm, t + i);
        rstds[i] = static_cast<A>(args.norm.rstd[t + i]);
      }
      const V center = opaque(get(centers)), rstd = get(rstds);
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
      Array<Precise<A>, width> sums_x, sums_g, sums_gx;
      total_x.write(sums_x);
      total_g.write(sums_g);
      total_gx.write(sums_gx);
      bool all_fast = true;
      for (Index i = 0; i < count; ++i) {
        const auto token = backward::finish<Norm::centred, A>(centers[i], rstds[i], sums_x[i],
                                                              sums_g[i], sums_gx[i], counted);
        offsets[i] = -token.offset;
        means_g[i] = token.mean_g;
        means_gx[i] = -token.mean_gx;
        all_fast = all_fast && token.fast;
      }
      if (!all_fast && count > 1) [[unlikely]] {
        // One by one, so that the results of the others do not depend on it.
        for (Index i = 0; i < count; ++i) {
          Level::call(Group{args, t + i, 1, scale_sum, shift_sum});
        }
        return;
      }
      if (!all_fast) [[unlikely]] {
        using Task = backward::PreciseTask<
            A, Norm, decltype(column_of(args.x, t, 1)), decltype(column_of(args.dy, t, 1)),
            decltype(column_of(args.dsum, t, 1)), decltype(column_of(args.dx, t, 1))>;
        Level::call(Task{args.norm, x, dy, dsum, dx, channels, scale_sum, shift_sum});
        return;
      }
      const V offset = get(offsets), mean_g = get(means_g), mean_gx = get(means_gx);
      for (Index c = 0; c < channels; ++c) {
        const V out = dy.template get<A, width>(c);
        V normalized;
        if constexpr (Norm::centred) {
          normalized = multiply_add(guarded(x.template get<A, width>(c) - center), rstd, offset);
        } else {
          normalized = x.template get<A, width>(c) * rstd;
        }
        V inner = out * affine.scale_of(c);
        if constexpr (Norm::centred) inner = inner - mean_g;
        if (c < counted) inner = multiply_add(normalized, mean_gx, inner);
        V result = inner * rstd;
        if constexpr (is_present<decltype(args.dsum)>) {
          result += dsum.template get<A, width>(c);
        }
        dx.put(c, result);
        if (scale_sum != nullptr) scale_sum[c] += horizontal_sum(out * normalized);
        if (shift_sum != nullptr) shift_sum[c] += horizontal_sum(out);
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
void run_backward_rows(const Backward<A, Channels, Operands...>& arguments, Index begin,
                       Index end) noexcept {
  dispatch(BackwardRowsTask<Backward<A, Channels, Operands...>, A>{arguments, begin, end});
}

template <class A, int Channels, class... Operands>
void run_backward_columns(const Backward<A, Channels, Operands...>& arguments, Index begin,
                          Index end) noexcept {
  dispatch(BackwardColumnsTask<Backward<A, Channels, Operands...>, A>{arguments, begin, end});
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
