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
/// Stores to several places in turn are slow where they miss the first cache; see Grouping for what
/// is done about it.
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

/// How the rows of an operand are worked on. The sums of four are taken together and gathered
/// before they touch memory. But rows that fit into the first cache are faster alone where x, dy
/// and dx do not fit into the second, or where their borders are not those of cache lines.
template <class A>
struct Grouping {
  bool alone;  // no four rows together
  bool apart;  // where a row is alone, the only one that is left included, dx of some channels is
               // written and then their sums are touched; the other way round where dx is written
               // over what the sums are taken from

  template <class T>
  TOKENNORM_INLINE explicit Grouping(const TokenView<T>& x) {
    constexpr Index kib = 1024, line = 64;
    const Index row = x.channels * Index{sizeof(A)};
    const bool is_long = row > 6 * kib;  // all that belongs to it does not fit into the first cache
    const bool is_far = step::bytes_of(x) >= 512 * kib;
    alone = !is_long && ((is_far && row >= kib / 2) || (row % line != 0 && row >= kib));
    apart = alone || is_long;
  }
};

/// The channels that are worked on apart.
inline constexpr Index channels_apart = 512;

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
  Index* added_up;            // chunks of which the sums are added up in the first slot, if any are
};

template <class A, int Channels, class... Operands>
TOKENNORM_INLINE auto in_registers(const Backward<A, Channels, Operands...>& args) {
  return Backward<A, Channels, Operands...>{
      in_registers(args.channels),   in_registers(args.x),          in_registers(args.dy),
      in_registers(args.dsum),       in_registers(args.dx),         in_registers(args.norm),
      in_registers(args.scale_sums), in_registers(args.shift_sums), args.added_up};
}

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
      if constexpr (!Norm::centred) offset[i] = mean_g[i] = A(0);
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
  bool at_first;  // token of a fold

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
        scale_sums.add(c, static_cast<A>(static_cast<P>(out) * normalized),
                       scale_sums.is_empty(at_first));
      }
      if (shift_sums.wanted()) shift_sums.add(c, out, shift_sums.is_empty(at_first));
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
/// Whoever has the first chunks adds them up on the way, so that they share their memory.
template <class Level, class A, class Arguments, class F>
TOKENNORM_INLINE void for_each_fold(const Arguments& args, Index begin, Index end, const F& f) {
  const Index channels = args.channels.get();
  const bool adds_up = begin == 0 && end > 0 && std::is_same_v<Precise<A>, double>;
  for (Index chunk = begin; chunk < end; ++chunk) {
    const Index slot = adds_up ? std::min<Index>(chunk, 1) : chunk;
    const auto scale_sums = args.scale_sums.at(begin, slot, channels);
    const auto shift_sums = args.shift_sums.at(begin, slot, channels);
    const Index first = chunk * tokens_per_chunk;
    const Index last = std::min(args.x.tokens, first + tokens_per_chunk);
    for (Index t = first; t < last; t += tokens_per_fold) {
      f(t, std::min(last, t + tokens_per_fold), scale_sums, shift_sums);
      if (args.x.tokens > tokens_per_fold) {
        scale_sums.template fold<Level>(channels, t == first);
        shift_sums.template fold<Level>(channels, t == first);
      }
    }
    if (adds_up && chunk > 0) {
      args.scale_sums.template add_next<Level>(channels);
      args.shift_sums.template add_next<Level>(channels);
    }
  }
  if (adds_up) *args.added_up = end;
}

/// Chunks [begin, end) of operands with contiguous channels.
template <class Arguments, class A>
struct BackwardRowsTask {
  const Arguments& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Arguments args = in_registers(arguments);
    const step::ReadyAffine<Level, A, Norm> ready(args.norm);
    const auto affine = ready.affine;
    const Index channels = args.channels.get();
    const Grouping<A> grouping(args.x);
    const bool in_place = is_in(args.dx.data, args.x) || is_in(args.dx.data, args.dy);
    const bool wants_sums = args.scale_sums.wanted() || args.shift_sums.wanted();
    const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) __attribute__((always_inline)) {
      const auto run_rows = [&](auto rows, Index t) __attribute__((always_inline)) {
        backward::Tokens<A, rows> tokens;
        tokens.read(args.norm, t, rows);
        first_sweep<Level, rows>(args, affine, t, tokens);
        const auto sweep = [&](auto part, const auto& of_tokens, Index token, Index from, Index to)
            __attribute__((always_inline)) {
          second_sweep<part(), Level>(args, affine, of_tokens, token, scale_sums, shift_sums,
                                      token == first, from, to);
        };
        if (tokens.slow != 0) [[unlikely]] {
          for (int r = 0; r < rows; ++r) {
            if (tokens.is_slow(r)) {
              precise_row(args, t + r, scale_sums, shift_sums, t + r == first);
            } else {
              backward::Tokens<A, 1> token;
              token.copy(tokens, r);
              sweep(all, token, t + r, 0, channels);
            }
          }
        } else if (rows > 1 || !grouping.apart) {
          sweep(all, tokens, t, 0, channels);
        } else if constexpr (rows == 1) {
          for (Index from = 0; from < channels; from += channels_apart) {
            const Index to = std::min(channels, from + channels_apart);
            for (const bool is_dx : {!in_place, in_place}) {
              if (is_dx) {
                sweep(only_dx, tokens, t, from, to);
              } else if (wants_sums) {
                sweep(only_sums, tokens, t, from, to);
              }
            }
          }
        }
      };
      Index t = first;
      if (!grouping.alone) {
        for (; t + rows_together <= last; t += rows_together)
          run_rows(std::integral_constant<int, rows_together>{}, t);
      }
      for (; t < last; ++t) run_rows(std::integral_constant<int, 1>{}, t);
    };
    for_each_fold<Level, A>(args, begin, end, run_fold);
  }

 private:
  using Norm = std::remove_const_t<decltype(Arguments::norm)>;
  static constexpr bool has_dsum = is_present<decltype(Arguments::dsum)>;

  /// What the second sweep writes: dx, the sums for the parameter gradients, or both.
  enum class Part { all, dx, sums };
  static constexpr std::integral_constant<Part, Part::all> all{};
  static constexpr std::integral_constant<Part, Part::dx> only_dx{};
  static constexpr std::integral_constant<Part, Part::sums> only_sums{};

  static void precise_row(const Arguments& args, Index t, const ChannelSums<A>& scale_sums,
                          const ChannelSums<A>& shift_sums, bool at_first) {
    using Task =
        backward::PreciseTask<A, Norm, decltype(row_of(args.x, t)), decltype(row_of(args.dy, t)),
                              decltype(row_of(args.dsum, t)), decltype(row_of(args.dx, t))>;
    Baseline::call(Task{args.norm, row_of(args.x, t), row_of(args.dy, t), row_of(args.dsum, t),
                        row_of(args.dx, t), args.channels.get(), scale_sums, shift_sums, at_first});
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
    struct Sums {
      V x{A(0)}, g{A(0)}, gx{A(0)};

      TOKENNORM_INLINE void add(const V& deviation, const V& rstd, const V& out, const V& scale) {
        const V normalized = deviation * rstd, g_here = out * scale;
        if constexpr (Norm::centred) {
          x += normalized;
          g += g_here;
        }
        gx = multiply_add(g_here, normalized, gx);
      }
    };
    const auto add_to_totals = [&](int r, const Sums& sums) __attribute__((always_inline)) {
      if constexpr (Norm::centred) {
        total_x[r].add(sums.x);
        total_g[r].add(sums.g);
      }
      total_gx[r].add(sums.gx);
    };
    constexpr Index block = vectors_per_total * width;
    Index c = 0;
    if constexpr (Rows == 1) {
      // Two blocks in turn: one alone would wait for its additions.
      for (; c + 2 * block <= channels; c += 2 * block) {
        Sums sums[2];
        auto first = affine.begin(c), second = affine.begin(c + block);
        for (Index at = c; at < c + block; at += width) {
          sums[0].add(guarded(x.row[0].template get<A, width>(at) - centers[0]), rstds[0],
                      dy.row[0].template get<A, width>(at), first.scale());
          sums[1].add(guarded(x.row[0].template get<A, width>(at + block) - centers[0]), rstds[0],
                      dy.row[0].template get<A, width>(at + block), second.scale());
          first.advance();
          second.advance();
        }
        add_to_totals(0, sums[0]);
        add_to_totals(0, sums[1]);
      }
    }
    auto at = affine.begin(c);
    while (c < channels) {
      Array<Sums, Rows> sums;
      const Index stop = std::min(channels, c + block);
      for (; c + width <= stop; c += width) {
        const V scale = at.scale();
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          sums[r].add(guarded(x.row[r].template get<A, width>(c) - centers[r]), rstds[r],
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
          sums[r].add(first_lanes(guarded(value - centers[r]), n), rstds[r],
                      dy.row[r].template get_first<A, width>(c, n), scale);
        }
        c = stop;
      }
      TOKENNORM_UNROLL
      for (int r = 0; r < Rows; ++r) add_to_totals(r, sums[r]);
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

  /// The second sweep over the channels [from, to) of the rows from t on.
  template <Part part, class Level, int Rows, class Affine>
  TOKENNORM_INLINE static void second_sweep(const Arguments& args, const Affine affine,
                                            const backward::Tokens<A, Rows>& tokens, Index t,
                                            const ChannelSums<A> scale_sums,
                                            const ChannelSums<A> shift_sums, bool at_first,
                                            Index from, Index to) {
    constexpr bool wants_dx = part != Part::sums, wants_sums = part != Part::dx;
    const bool no_scale_sums = scale_sums.is_empty(at_first);
    const bool no_shift_sums = shift_sums.is_empty(at_first);
    const Index counted = step::statistics_count(args.norm, args.channels.get());
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
    // One vector of row r: its part of the sums, and dx before the factor rstd.
    const auto one = [&](int r, const V& value, const V& out, const V& scale, V& scale_sum,
                         V& shift_sum) __attribute__((always_inline)) {
      V normalized, inner;
      if constexpr (Norm::centred) {
        normalized = multiply_add(guarded(value - centers[r]), rstds[r], offsets[r]);
      } else {
        normalized = value * rstds[r];
      }
      if constexpr (wants_sums) {
        scale_sum = multiply_add(out, normalized, scale_sum);
        shift_sum += out;
      }
      if constexpr (Norm::centred) {
        inner = multiply_add(out, scale, means_g[r]);
      } else {
        inner = out * scale;
      }
      return multiply_add(normalized, means_gx[r], inner);
    };
    // Channels outside the statistics of a partial RMSNorm have no part in mean(g·x̂).
    for (Index c = from, end = std::min(counted, to); c < to; end = to) {
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
          if constexpr (!wants_dx) continue;
          if constexpr (has_dsum) {
            dx.row[r].put(c, multiply_add(inner, rstds[r], dsum.row[r].template get<A, width>(c)));
          } else {
            dx.row[r].put(c, inner * rstds[r]);
          }
        }
        if (wants_sums && scale_sums.wanted()) scale_sums.add(c, scale_sum, no_scale_sums);
        if (wants_sums && shift_sums.wanted()) shift_sums.add(c, shift_sum, no_shift_sums);
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
          if constexpr (!wants_dx) continue;
          if constexpr (has_dsum) {
            const V skip = dsum.row[r].template get_first<A, width>(c, n);
            dx.row[r].put_first(c, multiply_add(inner, rstds[r], skip), n);
          } else {
            dx.row[r].put_first(c, inner * rstds[r], n);
          }
        }
        if (wants_sums && scale_sums.wanted()) scale_sums.add_first(c, scale_sum, n, no_scale_sums);
        if (wants_sums && shift_sums.wanted()) shift_sums.add_first(c, shift_sum, n, no_shift_sums);
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
    const Arguments args = in_registers(arguments);
    const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) __attribute__((always_inline)) {
      for (Index t = first; t < last; t += width) {
        const Index count = std::min<Index>(width, last - t);
        Level::call(Columns{args, t, count, scale_sums, shift_sums, t == first});
      }
    };
    for_each_fold<Level, A>(args, begin, end, run_fold);
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
