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

#include "tokennorm/kernels/channel_sums.hpp"
#include "tokennorm/kernels/columns.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// Vectors of a row that are added up in the arithmetic type.
inline constexpr Index vectors_per_total = 16;

template <class A, int Channels, class X, class DY, class DSum, class DX, class Norm>
struct Backward {
  Extent<Channels> channels;
  X x;                        // TokenView<const …>
  DY dy;                      // TokenView<const …>
  DSum dsum;                  // TokenView<const …> or Absent
  DX dx;                      // TokenView
  Norm norm;                  // mean and rstd are read
  ChannelSums<A> scale_sums;  // Σ dy·x̂, chunks × channels, if wanted
  ChannelSums<A> shift_sums;  // Σ dy
};

namespace backward {

/// What the second sweep needs to know of N tokens.
template <class A, int N>
struct Tokens {
  alignas(64) Array<A, N> center, rstd;  // x̂ = (x − center)·rstd + offset
  alignas(64) Array<A, N> offset, mean_g;
  alignas(64) Array<A, N> mean_gx;  // of g·x̂ over the channels of the statistics
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
      if (i >= count) continue;
      rstd[i] = static_cast<A>(norm.rstd[token + i]);
      if constexpr (Norm::centred) center[i] = opaque(static_cast<A>(norm.mean[token + i]));
    }
  }
};

/// From the sums over rows of x̂' = (x − mean)·rstd, g and g·x̂'. Slow are the tokens of which sums
/// overflowed, float does not hold rstd well, or the mean is not the row's.
template <class Level, bool Centred, int N>
TOKENNORM_INLINE void finish(const double* sums_x, const double* sums_g, const double* sums_gx,
                             Index n, Tokens<float, N>& tokens) {
  using T = TokenLanes<Level, N>;
  using V = typename T::V;
  const V inverse_count(1 / static_cast<double>(n)), zero(0.0);
  constexpr double huge = 1 / Limits<float>::smallest;
  tokens.slow = 0;
  TOKENNORM_UNROLL
  for (int i = 0; i < N; i += T::width) {
    const V rstd = T::get(static_cast<const float*>(tokens.rstd + i));
    V mean_gx = zero - T::get(sums_gx + i) * inverse_count;
    auto fast =
        T::at_least(rstd * rstd, 1 / Limits<float>::largest) & T::at_most(rstd * rstd, huge);
    if constexpr (Centred) {
      const V offset = zero - T::get(sums_x + i) * inverse_count;
      const V mean_g = zero - T::get(sums_g + i) * inverse_count;
      mean_gx = multiply_add(offset, mean_g, mean_gx);
      fast = fast & T::magnitude_at_most(offset, 0.25) & T::magnitude_at_most(mean_g, huge);
      T::put(tokens.offset + i, offset);
      T::put(tokens.mean_g + i, mean_g);
    }
    fast = fast & T::magnitude_at_most(mean_gx, huge);
    T::put(tokens.mean_gx + i, mean_gx);
    tokens.slow |= T::failed(fast) << i;
  }
}

template <class Level, bool Centred, int N>
TOKENNORM_INLINE void finish(const long double* sums_x, const long double* sums_g,
                             const long double* sums_gx, Index n, Tokens<double, N>& tokens) {
  using P = long double;
  const P inverse_count = 1 / static_cast<P>(n);
  constexpr P huge = P(1) / Limits<double>::smallest;
  tokens.slow = 0;
  for (int i = 0; i < N; ++i) {
    P offset = 0, mean_g = 0, mean_gx = sums_gx[i] * inverse_count;
    if constexpr (Centred) {
      offset = sums_x[i] * inverse_count;
      mean_g = sums_g[i] * inverse_count;
      mean_gx -= offset * mean_g;
    }
    tokens.offset[i] = static_cast<double>(-offset);
    tokens.mean_g[i] = static_cast<double>(-mean_g);
    tokens.mean_gx[i] = static_cast<double>(-mean_gx);
    const P rstd = static_cast<P>(tokens.rstd[i]);
    const bool fast = in_range(rstd * rstd, P(1) / Limits<double>::largest, huge) &&
                      in_range(std::abs(mean_gx), P(0), huge) &&
                      in_range(std::abs(mean_g), P(0), huge) &&
                      in_range(std::abs(offset), P(0), P(1) / 4);
    tokens.slow |= (fast ? 0u : 1u) << i;
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
  bool start;  // of the sums

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    const Index n = step::statistics_count(norm, channels);
    const P count = static_cast<P>(n);
    Moments<A, 1> moments;
    PreciseMomentsTask<Norm::centred, A, X>{x, n, norm.epsilon, moments}.template run<Level>();
    const P rstd = moments.precise_rstd[0];
    P mean_g = 0, mean_gx = 0;
    for (Index c = 0; c < channels; ++c) {
      mean_g += gradient(c);
      mean_gx += gradient(c) * (deviation(x.template at<A>(c), moments, 0) * rstd);
    }
    mean_g = Norm::centred ? mean_g / count : P(0);
    mean_gx /= count;
    for (Index c = 0; c < channels; ++c) {
      const P normalized = deviation(x.template at<A>(c), moments, 0) * rstd;
      const P inner = c < n ? normalized * mean_gx : P(0);
      P result = rstd * (gradient(c) - mean_g - inner);
      const A out = dy.template at<A>(c);
      if constexpr (is_present<DSum>) result += static_cast<P>(dsum.template at<A>(c));
      dx.set(c, static_cast<A>(result));
      if (scale_sums.wanted()) {
        scale_sums.add(c, static_cast<A>(static_cast<P>(out) * normalized), start);
      }
      if (shift_sums.wanted()) shift_sums.add(c, out, start);
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

/// Runs the chunks [begin, end): f(first token, token after the last, sums) for a few at a time.
template <class Level, class Arguments, class F>
TOKENNORM_INLINE void for_each_fold(const Arguments& args, Index begin, Index end, const F& f) {
  const Index channels = args.channels.get();
  for (Index chunk = begin; chunk < end; ++chunk) {
    const auto scale_sums = args.scale_sums.of_chunk(chunk, channels);
    const auto shift_sums = args.shift_sums.of_chunk(chunk, channels);
    const Index first = chunk * tokens_per_chunk;
    const Index last = std::min(args.x.tokens, first + tokens_per_chunk);
    for (Index t = first; t < last; t += tokens_per_fold) {
      f(t, std::min(last, t + tokens_per_fold), scale_sums, shift_sums);
      if (last - first > tokens_per_fold) {
        scale_sums.template fold<Level>(channels, t == first);
        shift_sums.template fold<Level>(channels, t == first);
      }
    }
  }
}

/// Chunks [begin, end) of operands with contiguous channels.
template <class Arguments, class A>
struct BackwardRowsTask {
  const Arguments& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Arguments args = arguments;
    const step::ReadyAffine<Level, A, Norm> ready(args.norm);
    const auto affine = ready.affine;
    const bool is_far = step::is_far(args.x);
    const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) __attribute__((always_inline)) {
      const auto run_rows = [&](auto rows, Index t) __attribute__((always_inline)) {
        backward::Tokens<A, rows> tokens;
        tokens.read(args.norm, t, rows);
        if (is_far) {
          for (int r = 0; r < rows; ++r) {
            ahead(row_of(args.dx, t + r)).template fetch<1>(0, args.channels.get());
          }
        }
        first_sweep<Level, rows>(args, affine, t, tokens);
        if (tokens.slow == 0) [[likely]] {
          second_sweep<Level, rows>(args, affine, tokens, t, scale_sums, shift_sums, t == first);
        } else {
          for (int r = 0; r < rows; ++r) {
            if (tokens.is_slow(r)) {
              precise_row(args, t + r, scale_sums, shift_sums, t + r == first);
            } else {
              backward::Tokens<A, 1> token;
              token.copy(tokens, r);
              second_sweep<Level, 1>(args, affine, token, t + r, scale_sums, shift_sums,
                                     t + r == first);
            }
          }
        }
      };
      Index t = first;
      for (; t + rows_together <= last; t += rows_together)
        run_rows(std::integral_constant<int, rows_together>{}, t);
      for (; t < last; ++t) run_rows(std::integral_constant<int, 1>{}, t);
    };
    for_each_fold<Level>(args, begin, end, run_fold);
  }

 private:
  using Norm = std::remove_const_t<decltype(Arguments::norm)>;
  static constexpr bool has_dsum = is_present<decltype(Arguments::dsum)>;

  static void precise_row(const Arguments& args, Index t, const ChannelSums<A>& scale_sums,
                          const ChannelSums<A>& shift_sums, bool start) {
    using Task =
        backward::PreciseTask<A, Norm, decltype(row_of(args.x, t)), decltype(row_of(args.dy, t)),
                              decltype(row_of(args.dsum, t)), decltype(row_of(args.dx, t))>;
    Baseline::call(Task{args.norm, row_of(args.x, t), row_of(args.dy, t), row_of(args.dsum, t),
                        row_of(args.dx, t), args.channels.get(), scale_sums, shift_sums, start});
  }

  /// The sums of x̂', g and g·x̂' over the rows from t on.
  template <class Level, int Rows, class Affine>
  TOKENNORM_INLINE static void first_sweep(const Arguments& args, const Affine affine, Index t,
                                           backward::Tokens<A, Rows>& tokens) {
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const Index channels = args.channels.get();
    const auto x = step::rows_of<Rows>(args.x, t);
    const auto dy = step::rows_of<Rows>(args.dy, t);
    Array<V, Rows> centers, rstds;
    Array<RowTotal<A, width>, Rows> total_x, total_g, total_gx;
    TOKENNORM_UNROLL
    for (int r = 0; r < Rows; ++r) {
      centers[r] = V(tokens.center[r]);
      rstds[r] = V(tokens.rstd[r]);
    }
    auto at = affine.begin();
    Index c = 0;
    while (c < channels) {
      Array<V, Rows> sum_x, sum_g, sum_gx;
      TOKENNORM_UNROLL
      for (int r = 0; r < Rows; ++r) sum_x[r] = sum_g[r] = sum_gx[r] = V(A(0));
      const auto add = [&](int r, const V& deviation, const V& out, const V& scale)
          __attribute__((always_inline)) {
        const V normalized = deviation * rstds[r], g = out * scale;
        if constexpr (Norm::centred) {
          sum_x[r] += normalized;
          sum_g[r] += g;
        }
        sum_gx[r] = multiply_add(g, normalized, sum_gx[r]);
      };
      const Index stop = std::min(channels, c + vectors_per_total * width);
      for (; c + width <= stop; c += width) {
        const V scale = at.scale();
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          add(r, guarded(x.row[r].template get<A, width>(c) - centers[r]),
              dy.row[r].template get<A, width>(c), scale);
        }
        at.advance();
      }
      if (c < stop) {
        const Index n = stop - c;
        const V scale = at.scale_first(n);
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          const V value = x.row[r].template get_first<A, width>(c, n);
          add(r, first_lanes(guarded(value - centers[r]), n),
              dy.row[r].template get_first<A, width>(c, n), scale);
        }
        c = stop;
      }
      TOKENNORM_UNROLL
      for (int r = 0; r < Rows; ++r) {
        if constexpr (Norm::centred) {
          total_x[r].add(sum_x[r]);
          total_g[r].add(sum_g[r]);
        }
        total_gx[r].add(sum_gx[r]);
      }
    }
    alignas(32) Array<Precise<A>, Rows> sums_x, sums_g, sums_gx;
    if constexpr (Norm::centred) {
      write_sums(total_x, sums_x);
      write_sums(total_g, sums_g);
    }
    write_sums(total_gx, sums_gx);
    backward::finish<Level, Norm::centred>(sums_x, sums_g, sums_gx,
                                           step::statistics_count(args.norm, channels), tokens);
  }

  /// dx of the rows from t on.
  template <class Level, int Rows, class Affine>
  TOKENNORM_INLINE static void second_sweep(const Arguments& args, const Affine affine,
                                            const backward::Tokens<A, Rows>& tokens, Index t,
                                            const ChannelSums<A> scale_sums,
                                            const ChannelSums<A> shift_sums, bool start) {
    const Index channels = args.channels.get();
    const Index counted = step::statistics_count(args.norm, channels);
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const auto x = step::rows_of<Rows>(args.x, t);
    const auto dy = step::rows_of<Rows>(args.dy, t);
    const auto dsum = step::rows_of<Rows>(args.dsum, t);
    const auto dx = step::rows_of<Rows>(args.dx, t);
    Array<V, Rows> centers, rstds, offsets, means_g, means_gx;
    TOKENNORM_UNROLL
    for (int r = 0; r < Rows; ++r) {
      centers[r] = V(tokens.center[r]);
      rstds[r] = V(tokens.rstd[r]);
      offsets[r] = V(tokens.offset[r]);
      means_g[r] = V(tokens.mean_g[r]);
      means_gx[r] = V(tokens.mean_gx[r]);
    }
    // dx of one vector of row r; gathers the parameter gradients.
    const auto one = [&](int r, const V& value, const V& out, const V& scale, V& scale_sum,
                         V& shift_sum) __attribute__((always_inline)) {
      V normalized, inner;
      if constexpr (Norm::centred) {
        normalized = multiply_add(guarded(value - centers[r]), rstds[r], offsets[r]);
        inner = multiply_add(out, scale, means_g[r]);
      } else {
        normalized = value * rstds[r];
        inner = out * scale;
      }
      scale_sum = multiply_add(out, normalized, scale_sum);
      shift_sum += out;
      return multiply_add(normalized, means_gx[r], inner);  // dx / rstd
    };
    // Channels outside the statistics of a partial RMSNorm have no part in mean(g·x̂).
    for (Index c = 0, end = counted; c < channels; end = channels) {
      for (; c + width <= end; c += width) {
        const V scale = affine.scale(c);
        V scale_sum(A(0)), shift_sum(A(0));
        Array<V, Rows> values, outs;
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          values[r] = x.row[r].template get<A, width>(c);
          outs[r] = dy.row[r].template get<A, width>(c);
        }
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          const V inner = one(r, values[r], outs[r], scale, scale_sum, shift_sum);
          if constexpr (has_dsum) {
            dx.row[r].put(c, multiply_add(inner, rstds[r], dsum.row[r].template get<A, width>(c)));
          } else {
            dx.row[r].put(c, inner * rstds[r]);
          }
        }
        if (scale_sums.wanted()) scale_sums.add(c, scale_sum, start);
        if (shift_sums.wanted()) shift_sums.add(c, shift_sum, start);
      }
      if (c < end) {
        const Index n = end - c;
        const V scale = affine.scale_first(c, n);
        V scale_sum(A(0)), shift_sum(A(0));
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          const V inner =
              one(r, x.row[r].template get_first<A, width>(c, n),
                  dy.row[r].template get_first<A, width>(c, n), scale, scale_sum, shift_sum);
          if constexpr (has_dsum) {
            const V skip = dsum.row[r].template get_first<A, width>(c, n);
            dx.row[r].put_first(c, multiply_add(inner, rstds[r], skip), n);
          } else {
            dx.row[r].put_first(c, inner * rstds[r], n);
          }
        }
        if (scale_sums.wanted()) scale_sums.add_first(c, scale_sum, n, start);
        if (shift_sums.wanted()) shift_sums.add_first(c, shift_sum, n, start);
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
    const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) __attribute__((always_inline)) {
      for (Index t = first; t < last; t += width) {
        const Index count = std::min<Index>(width, last - t);
        Level::call(Columns{args, t, count, scale_sums, shift_sums, t == first});
      }
    };
    for_each_fold<Level>(args, begin, end, run_fold);
  }

 private:
  using Norm = std::remove_const_t<decltype(Arguments::norm)>;

  /// A vector of tokens.
  struct Columns {
    const Arguments& args;
    Index t, count;
    ChannelSums<A> scale_sums, shift_sums;
    bool start;

    template <class Level>
    TOKENNORM_INLINE void run() const {
      constexpr int width = Level::template lanes<A>;
      using V = Lanes<A, width>;
      const Index channels = args.channels.get();
      const Index counted = step::statistics_count(args.norm, channels);
      const step::ReadyAffine<Level, A, Norm> ready(args.norm);
      const auto affine = ready.affine;
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
      Array<Precise<A>, width> sums_x, sums_g, sums_gx;
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
          Baseline::call(Task{args.norm, x, dy, dsum, dx, channels, scale_sums, shift_sums, start});
          return;
        }
        // One by one, so that the results of the others do not depend on it.
        for (Index i = 0; i < count; ++i) {
          Level::call(Columns{args, t + i, 1, scale_sums, shift_sums, start && i == 0});
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
        if (scale_sums.wanted()) scale_sums.add(c, horizontal_sum(out * normalized), start);
        if (shift_sums.wanted()) shift_sums.add(c, horizontal_sum(out), start);
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
