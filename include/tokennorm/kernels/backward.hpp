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

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <new>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// Tokens whose parameter gradients make one partial result; the partial results are added in the
/// wider type. Within a chunk the rounding of equal terms must not add up either: every few tokens
/// the sums move from the arithmetic type into double.
inline constexpr Index tokens_per_chunk = 64;
inline constexpr Index tokens_per_fold = 16;

inline Index chunk_count(Index tokens) {
  return (tokens + tokens_per_chunk - 1) / tokens_per_chunk;
}

/// Memory for a call, not initialized, at the start of a cache line: a store that crosses lines
/// costs two. A little of it is on the stack.
template <class T>
class Scratch {
 public:
  explicit Scratch(Index count)
      : data_(count <= few ? few_
                           : static_cast<T*>(::operator new(
                                 static_cast<std::size_t>(count) * sizeof(T), line))) {}
  ~Scratch() {
    if (data_ != few_) ::operator delete(data_, line);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return data_; }

 private:
  static constexpr Index few = 2048;
  static constexpr std::align_val_t line{64};
  alignas(64) Array<T, int{few}> few_;
  T* data_;
};

/// Sums over the tokens of a chunk, one for each channel.
template <class A>
struct ChannelSums {
  A* recent = nullptr;       // of up to tokens_per_fold tokens
  double* total = nullptr;   // of those before, in a chunk of more
  bool is_gradient = false;  // recent is what the sums are to be added to in the end

  TOKENNORM_INLINE bool wanted() const { return recent != nullptr; }
  TOKENNORM_INLINE ChannelSums of_chunk(Index chunk, Index channels) const {
    if (!wanted()) return {};
    return {recent + chunk * channels, total + chunk * channels, is_gradient};
  }
  /// To what is there, unless the sums start here.
  template <int W>
  TOKENNORM_INLINE void add(Index c, const Lanes<A, W>& v, bool start) const {
    store(recent + c,
          start && !is_gradient ? v : load<A, W>(static_cast<const A*>(recent + c)) + v);
  }
  template <int W>
  TOKENNORM_INLINE void add_first(Index c, const Lanes<A, W>& v, Index n, bool start) const {
    store_first(
        recent + c,
        start && !is_gradient ? v : load_first<A, W>(static_cast<const A*>(recent + c), n) + v, n);
  }
  TOKENNORM_INLINE void add(Index c, A value, bool start) const {
    recent[c] = start && !is_gradient ? value : recent[c] + value;
  }
  template <class Level>
  TOKENNORM_INLINE void fold(Index channels, bool start) const {
    if (!wanted()) return;
    constexpr int W = Level::template lanes<double>;
    Index c = 0;
    for (; c + W <= channels; c += W) {
      auto v = load<double, W>(static_cast<const A*>(recent + c));
      if (!start) v += load<double, W>(static_cast<const double*>(total + c));
      store(total + c, v);
    }
    for (; c < channels; ++c) {
      total[c] = static_cast<double>(recent[c]) + (start ? 0.0 : total[c]);
    }
  }
};

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

/// From the sums over rows of x̂' = (x − mean)·rstd, g and g·x̂'.
template <class Level, bool Centred, class A, int N>
TOKENNORM_INLINE void finish(const Precise<A>* sum_x, const Precise<A>* sum_g,
                             const Precise<A>* sum_gx, Index n, int count, Tokens<A, N>& tokens) {
  using P = Precise<A>;
  const P inverse_count = 1 / static_cast<P>(n);
  constexpr P huge = P(1) / Limits<A>::smallest;
  tokens.slow = 0;
  for (int i = 0; i < N; ++i) {
    P offset = 0, mean_g = 0, mean_gx = sum_gx[i] * inverse_count;
    if constexpr (Centred) {
      offset = sum_x[i] * inverse_count;
      mean_g = sum_g[i] * inverse_count;
      mean_gx -= offset * mean_g;
    }
    tokens.offset[i] = static_cast<A>(-offset);
    tokens.mean_g[i] = static_cast<A>(-mean_g);
    tokens.mean_gx[i] = static_cast<A>(-mean_gx);
    // Sums that overflowed, an rstd that float does not hold well, a mean that is not the row's.
    const P rstd = static_cast<P>(tokens.rstd[i]);
    const bool fast = in_range(rstd * rstd, P(1) / Limits<A>::largest, huge) &&
                      in_range(std::abs(mean_gx), P(0), huge) &&
                      in_range(std::abs(mean_g), P(0), huge) &&
                      in_range(std::abs(offset), P(0), P(1) / 4);
    tokens.slow |= (fast || i >= count ? 0u : 1u) << i;
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
    PreciseMomentsTask<Norm::centred, A, X, 1>{x, n, norm.epsilon, moments, 0}
        .template run<Level>();
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
      for (Index t = first; t < last; t += rows_together) {
        const int count = static_cast<int>(std::min<Index>(rows_together, last - t));
        backward::Tokens<A, rows_together> tokens;
        tokens.read(args.norm, t, count);
        if (is_far) {
          for (int r = 0; r < count; ++r) {
            ahead(row_of(args.dx, t + r)).template fetch<1>(0, args.channels.get());
          }
        }
        first_sweep<Level>(args, affine, t, count, tokens);
        if (tokens.slow == 0 && count == rows_together) [[likely]] {
          second_sweep<Level, rows_together>(args, affine, tokens, 0, t, scale_sums, shift_sums,
                                             t == first);
          continue;
        }
        for (int r = 0; r < count; ++r) {
          if (tokens.is_slow(r)) [[unlikely]] {
            precise_row(args, t + r, scale_sums, shift_sums, t + r == first);
          } else {
            second_sweep<Level, 1>(args, affine, tokens, r, t + r, scale_sums, shift_sums,
                                   t + r == first);
          }
        }
      }
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

  template <class Level, class Affine>
  TOKENNORM_INLINE static void first_sweep(const Arguments& args, const Affine affine, Index t,
                                           int count, backward::Tokens<A, rows_together>& tokens) {
    constexpr int width = Level::template lanes<A>;
    const Index channels = args.channels.get();
    RowTotals<A, width> total_x, total_g, total_gx;
    for (int r = 0; r < rows_together; ++r) {
      Total<A, width> sums[3];
      if (r < count) {
        sum_row<Level>(row_of(args.x, t + r), row_of(args.dy, t + r), affine, channels,
                       tokens.center[r], tokens.rstd[r], sums);
      }
      total_x.set(r, sums[0]);
      total_g.set(r, sums[1]);
      total_gx.set(r, sums[2]);
    }
    alignas(32) Precise<A> sum_x[rows_together], sum_g[rows_together], sum_gx[rows_together];
    if constexpr (Norm::centred) {
      total_x.write(sum_x);
      total_g.write(sum_g);
    }
    total_gx.write(sum_gx);
    backward::finish<Level, Norm::centred, A>(
        sum_x, sum_g, sum_gx, step::statistics_count(args.norm, channels), count, tokens);
  }

  /// The sums of x̂', g and g·x̂' over a row.
  template <class Level, class X, class DY, class Affine, int W>
  TOKENNORM_INLINE static void sum_row(const X x, const DY dy, const Affine& affine, Index channels,
                                       A center, A rstd, Total<A, W> (&totals)[3]) {
    constexpr int chains = 2;
    using V = Lanes<A, W>;
    const V centers(center), rstds(rstd);
    auto at = affine.begin();
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
      const Index stop = std::min(channels, c + chains * vectors_per_fold * W);
      for (; c + chains * W <= stop; c += chains * W) {
        TOKENNORM_UNROLL
        for (int k = 0; k < chains; ++k) {
          add(k, guarded(x.template get<A, W>(c + k * W) - centers) * rstds,
              dy.template get<A, W>(c + k * W) * at.scale());
          at.advance();
        }
      }
      if (stop == channels) {
        if (c + W <= channels) {
          add(0, guarded(x.template get<A, W>(c) - centers) * rstds,
              dy.template get<A, W>(c) * at.scale());
          at.advance();
          c += W;
        }
        if (c < channels) {
          const Index n = channels - c;
          add(1, first_lanes(guarded(x.template get_first<A, W>(c, n) - centers), n) * rstds,
              dy.template get_first<A, W>(c, n) * at.scale_first(n));
          c = channels;
        }
      }
      if constexpr (Norm::centred) {
        totals[0].add(sum_x[0] + sum_x[1]);
        totals[1].add(sum_g[0] + sum_g[1]);
      }
      totals[2].add(sum_gx[0] + sum_gx[1]);
    }
  }

  /// dx of the rows from t on, whose numbers are tokens[first] and so on.
  template <class Level, int Rows, class Affine>
  TOKENNORM_INLINE static void second_sweep(const Arguments& args, const Affine affine,
                                            const backward::Tokens<A, rows_together>& tokens,
                                            int first, Index t, const ChannelSums<A> scale_sums,
                                            const ChannelSums<A> shift_sums, bool start) {
    const Index channels = args.channels.get();
    const Index counted = step::statistics_count(args.norm, channels);
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const auto x = step::rows_of(args.x, t, Rows);
    const auto dy = step::rows_of(args.dy, t, Rows);
    const auto dsum = step::rows_of(args.dsum, t, Rows);
    const auto dx = step::rows_of(args.dx, t, Rows);
    Array<V, Rows> centers, rstds, offsets, means_g, means_gx;
    TOKENNORM_UNROLL
    for (int r = 0; r < Rows; ++r) {
      centers[r] = V(tokens.center[first + r]);
      rstds[r] = V(tokens.rstd[first + r]);
      offsets[r] = V(tokens.offset[first + r]);
      means_g[r] = V(tokens.mean_g[first + r]);
      means_gx[r] = V(tokens.mean_gx[first + r]);
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
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          const V inner = one(r, x.row[r].template get<A, width>(c),
                              dy.row[r].template get<A, width>(c), scale, scale_sum, shift_sum);
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
      backward::finish<Level, Norm::centred, A>(sums_x, sums_g, sums_gx, counted,
                                                static_cast<int>(count), tokens);
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

/// gradient[c] += the sum of the partial results, in their order.
template <class A, class G>
struct AddPartialsTask {
  ChannelSums<A> sums;
  Index tokens, channels;
  G* gradient;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    const Index chunks = chunk_count(tokens);
    // The last chunk has no total where it is short.
    const Index tokens_of_last = tokens - (chunks - 1) * tokens_per_chunk;
    const Index totals = tokens_of_last > tokens_per_fold ? chunks : chunks - 1;
    Index c = 0;
    if constexpr (std::is_same_v<P, double> && !std::is_same_v<G, long double>) {
      constexpr int W = Level::template lanes<double>;
      for (; c + W <= channels; c += W) {
        auto total = load<double, W>(static_cast<const G*>(gradient + c));
        for (Index chunk = 0; chunk < totals; ++chunk) {
          total += load<double, W>(static_cast<const double*>(sums.total + chunk * channels + c));
        }
        if (totals < chunks) {
          total += load<double, W>(static_cast<const A*>(sums.recent + totals * channels + c));
        }
        store(gradient + c, total);
      }
    }
    for (; c < channels; ++c) {
      P total = static_cast<P>(gradient[c]);
      for (Index chunk = 0; chunk < totals; ++chunk) {
        total += static_cast<P>(sums.total[chunk * channels + c]);
      }
      if (totals < chunks) total += static_cast<P>(sums.recent[totals * channels + c]);
      gradient[c] = static_cast<G>(total);
    }
  }
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
