// SPDX-License-Identifier: MIT
/// The sweeps of the backward kernel over rows, their channels contiguous. First and second sweep,
/// alone and together, over one row or four, are one loop: what is known about its parts at compile
/// time is not compiled. The equations are those of backward/call.hpp.
#pragma once

#include "tokennorm/kernels/backward/call.hpp"

#include <algorithm>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

namespace backward {

/// Vectors of a row that are added up in the arithmetic type.
inline constexpr Index vectors_per_total = 16;

/// A vector of channels; or the first n lanes of one, of which the others are read as zero.
template <class A, int W, bool is_whole>
struct Vector {
  using V = Lanes<A, W>;
  Index n = W;

  template <class T>
  TOKENNORM_INLINE V get(const Row<T>& row, Index c) const {
    if constexpr (is_whole) return row.template get<A, W>(c);
    return row.template get_first<A, W>(c, n);
  }
  template <class T>
  TOKENNORM_INLINE void put(const Row<T>& row, Index c, const V& v, bool streams = false) const {
    if constexpr (!is_whole) return row.put_first(c, v, n);
    if (streams) return row.put_streaming(c, v);
    row.put(c, v);
  }
  TOKENNORM_INLINE V scale(const auto& affine, Index c) const {
    if constexpr (is_whole) return affine.scale(c);
    return affine.scale_first(c, n);
  }
  TOKENNORM_INLINE V only(const V& v) const {
    if constexpr (is_whole) return v;
    return first_lanes(v, n);
  }
};

/// What is done in a sweep: of the rows, and of those that are next.
struct Parts {
  bool next = false;  // the sums over their channels
  bool now = false;   // something of these rows:
  bool dx = false;
  bool scale_sums = false;  // their part of the sums for the gradients
  bool shift_sums = false;
  bool dsum = false;     // is added to dx
  bool streams = false;  // dx
};

template <class Level, class Arguments>
struct Sweeps {
  using A = typename Arguments::A;
  using Norm = typename Arguments::Norm;
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  const Arguments& args;
  const ChannelSums<A>& scale_sums;
  const ChannelSums<A>& shift_sums;
  AffineOf<Level, A, Norm> affine{args.norm};
  std::remove_const_t<decltype(Arguments::dy)> gradient = args.gradient();

  /// All that can be done of rows whose sums are there.
  TOKENNORM_INLINE Parts all() const {
    return {.now = true,
            .dx = true,
            .scale_sums = scale_sums.wanted(),
            .shift_sums = shift_sums.wanted(),
            .dsum = args.has_dsum()};
  }

  /// The first sweep over N rows.
  template <int N>
  TOKENNORM_INLINE void take_sums(Index t, Tokens<A, N>& tokens) const {
    tokens.read(args.norm, t, N);
    if (args.divided != nullptr) [[unlikely]]
      return finish<Level, Norm::centred>(*args.divided, t, tokens);
    sweep<N>({.next = true}, t, tokens, t, tokens, 0, args.channels);
  }

  /// A sweep over all of a row: a loop for each, with dsum and without.
  TOKENNORM_INLINE void sweep_row(Parts parts, Index t, const Tokens<A, 1>& now, Index next_t,
                                  Tokens<A, 1>& next) const {
    if (parts.dsum) {
      parts.dsum = true;
      sweep(parts, t, now, next_t, next, 0, args.channels);
    } else {
      parts.dsum = false;
      sweep(parts, t, now, next_t, next, 0, args.channels);
    }
  }

  /// A sweep over the channels [from, to) of N rows from t on and of those from next_t on, whose
  /// statistics are in `now` and `next`. (By value: what is elsewhere in memory would be read again
  /// after every store.)
  template <int N>
  TOKENNORM_INLINE void sweep(const Parts parts, Index t, const Tokens<A, N>& now, Index next_t,
                              Tokens<A, N>& next, Index from, Index to) const {
    const auto gamma = affine;
    const Index counted = statistics_count(args.norm, args.channels);
    const auto x = rows_of<N>(args.x, t), next_x = rows_of<N>(args.x, next_t);
    const auto dy = rows_of<N>(gradient, t), next_dy = rows_of<N>(gradient, next_t);
    const auto dsum = rows_of<N>(args.dsum, t);
    const auto dx = rows_of<N>(args.dx, t);
    const Row<A> sums_of_scale{scale_sums.recent}, sums_of_shift{shift_sums.recent};

    Array<V, N> centers, rstds, offsets, means_g, means_gx, next_centers, next_rstds;
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      centers[r] = V(now.center[r]);
      rstds[r] = V(now.rstd[r]);
      offsets[r] = V(now.offset[r]);
      means_g[r] = V(now.mean_g[r]);
      means_gx[r] = V(now.mean_gx[r]);
      next_centers[r] = V(next.center[r]);
      next_rstds[r] = V(next.rstd[r]);
    }
    Array<RowTotal<A, width>, N> total_x, total_g, total_gx;
    Array<V, N> sum_x, sum_g, sum_gx;

    const auto one_vector = [&](Index c, const auto& vector) __attribute__((always_inline)) {
      const V scale = vector.scale(gamma, c);
      if (parts.next) {
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) {
          V value = vector.get(next_x.row[r], c);
          if constexpr (Norm::centred) value = vector.only(guarded(value - next_centers[r]));
          const V normalized = value * next_rstds[r];
          const V g = vector.get(next_dy.row[r], c) * scale;
          if constexpr (Norm::centred) {
            sum_x[r] += normalized;
            sum_g[r] += g;
          }
          sum_gx[r] = multiply_add(g, normalized, sum_gx[r]);
        }
      }
      if (!parts.now) return;
      Array<V, N> outs, normalized;
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) {
        const V value = vector.get(x.row[r], c);
        outs[r] = vector.get(dy.row[r], c);
        if constexpr (Norm::centred) {
          normalized[r] = multiply_add(guarded(value - centers[r]), rstds[r], offsets[r]);
        } else {
          normalized[r] = value * rstds[r];
        }
      }
      if (parts.scale_sums) [[likely]] {
        V sum = vector.get(sums_of_scale, c);
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) sum = multiply_add(outs[r], normalized[r], sum);
        vector.put(sums_of_scale, c, sum);
      }
      if (__builtin_expect(parts.shift_sums, Norm::centred)) {
        V sum = vector.get(sums_of_shift, c);
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) sum += outs[r];
        vector.put(sums_of_shift, c, sum);
      }
      if (!parts.dx) return;
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) {
        V inner = outs[r] * scale, result;
        if constexpr (Norm::centred) inner = multiply_add(outs[r], scale, means_g[r]);
        inner = multiply_add(normalized[r], means_gx[r], inner);
        if (parts.dsum) [[unlikely]] {
          result = multiply_add(inner, rstds[r], vector.get(dsum.row[r], c));
        } else {
          result = inner * rstds[r];
        }
        vector.put(dx.row[r], c, result, parts.streams);
      }
    };

    constexpr Index block = vectors_per_total * width;
    // rstd does not depend on the channels outside the statistics of a partial RMSNorm: their dx
    // has no term x̂·mean(g·x̂), though they count in the sum.
    for (Index c = from, end = std::min(counted, to); c < to; end = to) {
      while (c < end) {
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) sum_x[r] = sum_g[r] = sum_gx[r] = V(A(0));
        const Index stop = std::min(end, c + block);
        for (; c + width <= stop; c += width) one_vector(c, Vector<A, width, true>{});
        if (c < stop) {
          one_vector(c, Vector<A, width, false>{stop - c});
          c = stop;
        }
        if (!parts.next) continue;
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) {
          if constexpr (Norm::centred) {
            total_x[r].add(sum_x[r]);
            total_g[r].add(sum_g[r]);
          }
          total_gx[r].add(sum_gx[r]);
        }
      }
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) means_gx[r] = V(A(0));
    }
    if (!parts.next) return;
    alignas(32) Array<PreciseSum<A>, N> sums_x, sums_g, sums_gx;
    if constexpr (Norm::centred) {
      write_sums(total_x, sums_x);
      write_sums(total_g, sums_g);
    }
    write_sums(total_gx, sums_gx);
    finish<Level, Norm::centred>(sums_x, sums_g, sums_gx, counted, next);
  }
};

}  // namespace backward

TOKENNORM_END_KERNELS
