// SPDX-License-Identifier: MIT
/// The backward kernel for operands with contiguous channels. The equations are those of
/// backward.hpp. The parameter gradients are gathered over a few rows before they touch memory.
///
/// Stores to several places in turn are slow where they miss the first cache; see Grouping for what
/// is done about it.
#pragma once

#include "tokennorm/kernels/backward.hpp"
#include "tokennorm/kernels/steering.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// Vectors of a row that are added up in the arithmetic type.
inline constexpr Index vectors_per_total = 16;

/// How the rows of an operand are worked on. The sums of four are taken together and gathered
/// before they touch memory. But rows that fit into the first cache are faster alone if x, dy and
/// dx are far away: not in the second, where memory is steered, and not in the third elsewhere.
/// Where it is steered, so are those whose borders are not those of cache lines; elsewhere, nearer
/// rows of middle length are faster in turn, beyond the second cache shorter ones as well.
template <class A>
struct Grouping {
  bool in_turn;  // row by row, both sweeps together, the first one row ahead
  bool alone;    // row by row
  bool in_two;   // the first sweep of a single row reads it in two places in turn
  bool apart;    // of a single row, one that is left over included, dx of some channels is written
                 // and then their sums are touched; the other way round where dx is written over
                 // what the sums are taken from
  bool streams;  // dx goes past the caches

  template <class Arguments>
  TOKENNORM_INLINE explicit Grouping(const Arguments& args) {
    constexpr Index kib = 1024, line = 64;
    const Index row = args.channels.get() * Index{sizeof(A)};
    const bool is_long = row > 6 * kib;  // all that belongs to it does not fit into the first cache
    const bool steers = detail::steers_memory();
    const std::int64_t bytes = step::bytes_of(args.x);
    const bool is_far = bytes >= (steers ? 512 : 4096) * kib;
    const Index shortest_in_turn = (bytes < 2048 * kib ? 2 : 1) * kib;
    const bool is_partial =
        step::statistics_count(args.norm, args.channels.get()) != args.channels.get();
    const void* const dx = args.dx.data;
    // Of rows that are aligned at one channel only, and not for the few whole lines of short ones.
    streams = steers && std::is_same_v<step::Element<decltype(args.dx)>, A> && row >= 2 * kib &&
              !is_partial && step::bytes_of(args.dx) >= 64 * kib * kib && !is_in(dx, args.x) &&
              !is_in(dx, args.dy) && !is_in(dx, args.dsum);
    alone = streams ||
            (!is_long && ((is_far && row >= kib / 2) || (steers && row % line != 0 && row >= kib)));
    in_two = steers;
    // In L1 at once: x and dy of two rows, dx, the scale and two sums.
    in_turn =
        !steers && !alone && !is_partial && row >= shortest_in_turn && 8 * row <= step::l1_bytes;
    apart = (steers && alone) || is_long;
  }
};

/// The channels that are worked on apart.
inline constexpr Index channels_apart = 512;

/// Rows of operands with contiguous channels, one or a few at a time.
template <class Arguments, class A>
struct BackwardRows {
  const Arguments& args;
  Grouping<A> grouping = Grouping<A>(args);
  bool in_place = args.is_in_place();

  /// Rows from t on; `at_first` of the tokens whose sums come together.
  template <class Level, int rows, class Affine>
  TOKENNORM_INLINE void run(const Affine& affine, Index t, bool at_first,
                            const ChannelSums<A>& scale_sums,
                            const ChannelSums<A>& shift_sums) const {
    backward::Tokens<A, rows> tokens;
    begin<Level>(affine, t, tokens);
    finish<Level>(affine, t, at_first, scale_sums, shift_sums, tokens);
  }

  /// The first sweep.
  template <class Level, int rows, class Affine>
  TOKENNORM_INLINE void begin(const Affine& affine, Index t,
                              backward::Tokens<A, rows>& tokens) const {
    tokens.read(args.norm, t, rows);
    first_sweep<Level, rows>(args, affine, t, grouping.in_two, tokens);
  }

  /// What follows it.
  template <class Level, int rows, class Affine>
  TOKENNORM_INLINE void finish(const Affine& affine, Index t, bool at_first,
                               const ChannelSums<A>& scale_sums, const ChannelSums<A>& shift_sums,
                               const backward::Tokens<A, rows>& tokens) const {
    const Index channels = args.channels.get();
    const auto sweep = [&](auto part, const auto& of_tokens, Index token, bool first, Index from,
                           Index to) __attribute__((always_inline)) {
      second_sweep<part(), Level>(args, affine, of_tokens, token, scale_sums, shift_sums, first,
                                  from, to, grouping.streams);
    };
    if (tokens.slow != 0) [[unlikely]] {
      for (int r = 0; r < rows; ++r) {
        const bool first = at_first && r == 0;
        if (tokens.is_slow(r)) {
          precise_row(args, t + r, scale_sums, shift_sums, first);
        } else {
          backward::Tokens<A, 1> token;
          token.copy(tokens, r);
          sweep(all, token, t + r, first, 0, channels);
        }
      }
    } else if (rows > 1 || !grouping.apart) {
      sweep(all, tokens, t, at_first, 0, channels);
    } else if constexpr (rows == 1) {
      const bool wants_sums = scale_sums.wanted() || shift_sums.wanted();
      // What is streamed is aligned.
      const Index head =
          grouping.streams ? row_of(args.dx, t).unaligned(Level::template lanes<A>) : 0;
      for (Index from = 0, to; from < channels; from = to) {
        to = std::min(channels, from < head ? head : from + channels_apart);
        for (const bool is_dx : {!in_place, in_place}) {
          if (is_dx) {
            sweep(only_dx, tokens, t, at_first, from, to);
          } else if (wants_sums) {
            sweep(only_sums, tokens, t, at_first, from, to);
          }
        }
      }
    }
  }

  /// The second sweep over row t, and the first over the next one, which is then in `tokens`.
  template <class Level, class Affine>
  TOKENNORM_INLINE void run_in_turn(const Affine affine, Index t, bool at_first,
                                    const ChannelSums<A> scale_sums,
                                    const ChannelSums<A> shift_sums,
                                    backward::Tokens<A, 1>& tokens) const {
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const Index channels = args.channels.get();
    const bool no_scale_sums = scale_sums.is_empty(at_first);
    const bool no_shift_sums = shift_sums.is_empty(at_first);
    const auto x = row_of(args.x, t), next_x = row_of(args.x, t + 1);
    const auto dy = row_of(args.dy, t), next_dy = row_of(args.dy, t + 1);
    const auto dsum = row_of(args.dsum, t);
    const auto dx = row_of(args.dx, t);
    const V center(tokens.center[0]), rstd(tokens.rstd[0]), offset(tokens.offset[0]),
        mean_g(tokens.mean_g[0]), mean_gx(tokens.mean_gx[0]);
    tokens.read(args.norm, t + 1, 1);
    const V next_center(tokens.center[0]), next_rstd(tokens.rstd[0]);
    Array<RowTotal<A, width>, 1> total_x, total_g, total_gx;
    constexpr Index block = vectors_per_total * width;
    auto at = affine.begin();
    for (Index c = 0; c < channels;) {
      V sum_x(A(0)), sum_g(A(0)), sum_gx(A(0));
      const Index stop = std::min(channels, c + block);
      for (; c + width <= stop; c += width) {
        const V scale = at.scale();
        at.advance();
        add_to_sums(guarded(next_x.template get<A, width>(c) - next_center), next_rstd,
                    next_dy.template get<A, width>(c), scale, sum_x, sum_g, sum_gx);
        V scale_sum = scale_sums.template get<width>(c, no_scale_sums);
        V shift_sum = shift_sums.template get<width>(c, no_shift_sums);
        const V inner =
            inner_gradient<true>(x.template get<A, width>(c), dy.template get<A, width>(c), scale,
                                 center, rstd, offset, mean_g, mean_gx, scale_sum, shift_sum);
        if constexpr (has_dsum) {
          dx.put(c, multiply_add(inner, rstd, dsum.template get<A, width>(c)));
        } else {
          dx.put(c, inner * rstd);
        }
        scale_sums.put(c, scale_sum);
        shift_sums.put(c, shift_sum);
      }
      if (c < stop) {
        const Index n = stop - c;
        const V scale = at.scale_first(n);
        const V deviation = guarded(next_x.template get_first<A, width>(c, n) - next_center);
        add_to_sums(first_lanes(deviation, n), next_rstd,
                    next_dy.template get_first<A, width>(c, n), scale, sum_x, sum_g, sum_gx);
        V scale_sum = scale_sums.template get_first<width>(c, n, no_scale_sums);
        V shift_sum = shift_sums.template get_first<width>(c, n, no_shift_sums);
        const V inner = inner_gradient<true>(x.template get_first<A, width>(c, n),
                                             dy.template get_first<A, width>(c, n), scale, center,
                                             rstd, offset, mean_g, mean_gx, scale_sum, shift_sum);
        if constexpr (has_dsum) {
          dx.put_first(c, multiply_add(inner, rstd, dsum.template get_first<A, width>(c, n)), n);
        } else {
          dx.put_first(c, inner * rstd, n);
        }
        scale_sums.put_first(c, scale_sum, n);
        shift_sums.put_first(c, shift_sum, n);
        c = stop;
      }
      if constexpr (Norm::centred) {
        total_x[0].add(sum_x);
        total_g[0].add(sum_g);
      }
      total_gx[0].add(sum_gx);
    }
    finish_sums<Level>(total_x, total_g, total_gx, channels, tokens);
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

  /// A vector of the first sweep.
  template <class V>
  TOKENNORM_INLINE static void add_to_sums(const V& deviation, const V& rstd, const V& out,
                                           const V& scale, V& sum_x, V& sum_g, V& sum_gx) {
    const V normalized = deviation * rstd, g = out * scale;
    if constexpr (Norm::centred) {
      sum_x += normalized;
      sum_g += g;
    }
    sum_gx = multiply_add(g, normalized, sum_gx);
  }

  /// A vector of the second sweep: dx before the factor rstd, and its part of the sums.
  template <bool wants_sums, class V>
  TOKENNORM_INLINE static V inner_gradient(const V& value, const V& out, const V& scale,
                                           const V& center, const V& rstd, const V& offset,
                                           const V& mean_g, const V& mean_gx, V& scale_sum,
                                           V& shift_sum) {
    V normalized, inner;
    if constexpr (Norm::centred) {
      normalized = multiply_add(guarded(value - center), rstd, offset);
    } else {
      normalized = value * rstd;
    }
    if constexpr (wants_sums) {
      scale_sum = multiply_add(out, normalized, scale_sum);
      shift_sum += out;
    }
    if constexpr (Norm::centred) {
      inner = multiply_add(out, scale, mean_g);
    } else {
      inner = out * scale;
    }
    return multiply_add(normalized, mean_gx, inner);
  }

  /// The sums of x̂', g and g·x̂' over the rows from t on.
  template <class Level, int Rows, class Affine>
  TOKENNORM_INLINE static void first_sweep(const Arguments& args, const Affine affine, Index t,
                                           bool in_two, backward::Tokens<A, Rows>& tokens) {
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const Index channels = args.channels.get();
    const auto x = rows_of<Rows>(args.x, t);
    const auto dy = rows_of<Rows>(args.dy, t);
    Array<V, Rows> centers, rstds;
    Array<RowTotal<A, width>, Rows> total_x, total_g, total_gx;
    TOKENNORM_UNROLL
    for (int r = 0; r < Rows; ++r) {
      centers[r] = V(tokens.center[r]);
      rstds[r] = V(tokens.rstd[r]);
    }
    const auto add_to_totals = [&](int r, const V& sum_x, const V& sum_g, const V& sum_gx)
        __attribute__((always_inline)) {
      if constexpr (Norm::centred) {
        total_x[r].add(sum_x);
        total_g[r].add(sum_g);
      }
      total_gx[r].add(sum_gx);
    };
    constexpr Index block = vectors_per_total * width;
    Index c = 0;
    if constexpr (Rows == 1) {
      // Two blocks in turn: one alone would wait for its additions.
      for (; in_two && c + 2 * block <= channels; c += 2 * block) {
        Array<V, 2> sums_x, sums_g, sums_gx;
        TOKENNORM_UNROLL
        for (int k = 0; k < 2; ++k) sums_x[k] = sums_g[k] = sums_gx[k] = V(A(0));
        auto first = affine.begin(c), second = affine.begin(c + block);
        for (Index at = c; at < c + block; at += width) {
          add_to_sums(guarded(x.row[0].template get<A, width>(at) - centers[0]), rstds[0],
                      dy.row[0].template get<A, width>(at), first.scale(), sums_x[0], sums_g[0],
                      sums_gx[0]);
          add_to_sums(guarded(x.row[0].template get<A, width>(at + block) - centers[0]), rstds[0],
                      dy.row[0].template get<A, width>(at + block), second.scale(), sums_x[1],
                      sums_g[1], sums_gx[1]);
          first.advance();
          second.advance();
        }
        add_to_totals(0, sums_x[0], sums_g[0], sums_gx[0]);
        add_to_totals(0, sums_x[1], sums_g[1], sums_gx[1]);
      }
    }
    auto at = affine.begin(c);
    while (c < channels) {
      // Not one array of structs, which GCC would keep in memory.
      Array<V, Rows> sums_x, sums_g, sums_gx;
      TOKENNORM_UNROLL
      for (int r = 0; r < Rows; ++r) sums_x[r] = sums_g[r] = sums_gx[r] = V(A(0));
      const Index stop = std::min(channels, c + block);
      for (; c + width <= stop; c += width) {
        const V scale = at.scale();
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          add_to_sums(guarded(x.row[r].template get<A, width>(c) - centers[r]), rstds[r],
                      dy.row[r].template get<A, width>(c), scale, sums_x[r], sums_g[r], sums_gx[r]);
        }
        at.advance();
      }
      if (c < stop) {
        const Index n = stop - c;
        const V scale = at.scale_first(n);
        TOKENNORM_UNROLL
        for (int r = 0; r < Rows; ++r) {
          const V value = x.row[r].template get_first<A, width>(c, n);
          add_to_sums(first_lanes(guarded(value - centers[r]), n), rstds[r],
                      dy.row[r].template get_first<A, width>(c, n), scale, sums_x[r], sums_g[r],
                      sums_gx[r]);
        }
        c = stop;
      }
      TOKENNORM_UNROLL
      for (int r = 0; r < Rows; ++r) add_to_totals(r, sums_x[r], sums_g[r], sums_gx[r]);
    }
    finish_sums<Level>(total_x, total_g, total_gx, step::statistics_count(args.norm, channels),
                       tokens);
  }

  template <class Level, class Total, std::size_t N, int Rows>
  TOKENNORM_INLINE static void finish_sums(const Total (&total_x)[N], const Total (&total_g)[N],
                                           const Total (&total_gx)[N], Index counted,
                                           backward::Tokens<A, Rows>& tokens) {
    alignas(32) Array<PreciseSum<A>, Rows> sums_x, sums_g, sums_gx;
    if constexpr (Norm::centred) {
      write_sums(total_x, sums_x);
      write_sums(total_g, sums_g);
    }
    write_sums(total_gx, sums_gx);
    backward::finish<Level, Norm::centred>(sums_x, sums_g, sums_gx, counted, tokens);
  }

  /// The second sweep over the channels [from, to) of the rows from t on.
  template <Part part, class Level, int Rows, class Affine>
  TOKENNORM_INLINE static void second_sweep(const Arguments& args, const Affine affine,
                                            const backward::Tokens<A, Rows>& tokens, Index t,
                                            const ChannelSums<A> scale_sums,
                                            const ChannelSums<A> shift_sums, bool at_first,
                                            Index from, Index to, bool streams) {
    constexpr bool wants_dx = part != Part::sums, wants_sums = part != Part::dx;
    const bool no_scale_sums = scale_sums.is_empty(at_first);
    const bool no_shift_sums = shift_sums.is_empty(at_first);
    const Index counted = step::statistics_count(args.norm, args.channels.get());
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const auto x = rows_of<Rows>(args.x, t);
    const auto dy = rows_of<Rows>(args.dy, t);
    const auto dsum = rows_of<Rows>(args.dsum, t);
    const auto dx = rows_of<Rows>(args.dx, t);
    Array<V, Rows> centers, rstds, offsets, means_g, means_gx;
    TOKENNORM_UNROLL
    for (int r = 0; r < Rows; ++r) {
      centers[r] = V(tokens.center[r]);
      rstds[r] = V(tokens.rstd[r]);
      offsets[r] = V(tokens.offset[r]);
      means_g[r] = V(tokens.mean_g[r]);
      means_gx[r] = V(tokens.mean_gx[r]);
    }
    const auto one = [&](int r, const V& value, const V& out, const V& scale, V& scale_sum,
                         V& shift_sum) __attribute__((always_inline)) {
      return inner_gradient<wants_sums>(value, out, scale, centers[r], rstds[r], offsets[r],
                                        means_g[r], means_gx[r], scale_sum, shift_sum);
    };
    // rstd does not depend on the channels outside the statistics of a partial RMSNorm: their dx
    // has no term x̂·mean(g·x̂), though they count in the sum.
    for (Index c = from, end = std::min(counted, to); c < to; end = to) {
      for (; c + width <= end; c += width) {
        const V scale = affine.scale(c);
        V scale_sum, shift_sum;
        if constexpr (wants_sums) {
          scale_sum = scale_sums.template get<width>(c, no_scale_sums);
          shift_sum = shift_sums.template get<width>(c, no_shift_sums);
        }
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
          V result;
          if constexpr (has_dsum) {
            result = multiply_add(inner, rstds[r], dsum.row[r].template get<A, width>(c));
          } else {
            result = inner * rstds[r];
          }
          if (part == Part::dx && streams) {
            dx.row[r].put_streaming(c, result);
          } else {
            dx.row[r].put(c, result);
          }
        }
        if constexpr (wants_sums) {
          scale_sums.put(c, scale_sum);
          shift_sums.put(c, shift_sum);
        }
      }
      if (c < end) {
        const Index n = end - c;
        const V scale = affine.scale_first(c, n);
        V scale_sum, shift_sum;
        if constexpr (wants_sums) {
          scale_sum = scale_sums.template get_first<width>(c, n, no_scale_sums);
          shift_sum = shift_sums.template get_first<width>(c, n, no_shift_sums);
        }
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
        if constexpr (wants_sums) {
          scale_sums.put_first(c, scale_sum, n);
          shift_sums.put_first(c, shift_sum, n);
        }
        c = end;
      }
      TOKENNORM_UNROLL
      for (int r = 0; r < Rows; ++r) means_gx[r] = V(A(0));
    }
  }
};

/// For for_each_fold: whether a sum of dy may overflow, as the sum of its squares does.
template <class Arguments, class A>
struct HugeRowsTask {
  const Arguments& args;
  Index first, last;
  bool& is_huge;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const Index channels = args.channels.get();
    V even(A(0)), odd(A(0));
    const auto add = [](const V& out, V& squares) __attribute__((always_inline)) {
      squares = multiply_add(out, out, squares);
    };
    for (Index t = first; t < last; ++t) {
      const auto dy = row_of(args.dy, t);
      Index c = 0;
      for (; c + 2 * width <= channels; c += 2 * width) {
        add(dy.template get<A, width>(c), even);
        add(dy.template get<A, width>(c + width), odd);
      }
      for (; c < channels; c += width) {
        const Index n = channels - c;
        add(n < width ? dy.template get_first<A, width>(c, n) : dy.template get<A, width>(c), even);
      }
    }
    is_huge = !is_finite(even + odd);
  }
};

/// A single row.
template <class Arguments, class A>
struct BackwardRowTask {
  const Arguments& args;
  Index row;
  bool at_first;
  const ChannelSums<A>& scale_sums;
  const ChannelSums<A>& shift_sums;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const AffineOf<Level, A, std::remove_const_t<decltype(Arguments::norm)>> affine(args.norm);
    const BackwardRows<Arguments, A> rows{args};
    rows.template run<Level, 1>(affine, row, at_first, scale_sums, shift_sums);
    if (rows.grouping.streams) finish_streaming();
  }
};

/// Chunks [begin, end), N rows at a time.
template <class Arguments, class A, int N>
struct BackwardGroupsTask {
  const Arguments& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Arguments args = in_registers(arguments);
    const AffineOf<Level, A, std::remove_const_t<decltype(Arguments::norm)>> affine(args.norm);
    const BackwardRows<Arguments, A> rows{args};
    const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) __attribute__((always_inline)) {
      Index t = first;
      for (; t + N <= last; t += N) {
        rows.template run<Level, N>(affine, t, t == first, scale_sums, shift_sums);
      }
      if constexpr (N > 1) {
        for (; t < last; ++t) {
          Level::call(BackwardRowTask<Arguments, A>{args, t, t == first, scale_sums, shift_sums});
        }
      }
    };
    for_each_fold<Level, A, HugeRowsTask<Arguments, A>>(args, begin, end, run_fold);
    if (N == 1 && rows.grouping.streams) finish_streaming();
  }
};

/// What follows the first sweep over a row that does not go in turn.
template <class Arguments, class A>
struct BackwardFinishTask {
  const BackwardRows<Arguments, A>& rows;
  Index row;
  bool at_first;
  const ChannelSums<A>& scale_sums;
  const ChannelSums<A>& shift_sums;
  const backward::Tokens<A, 1>& tokens;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const AffineOf<Level, A, std::remove_const_t<decltype(Arguments::norm)>> affine(rows.args.norm);
    rows.template finish<Level>(affine, row, at_first, scale_sums, shift_sums, tokens);
  }
};

/// Chunks [begin, end), the first sweep over a row in turn with the second over the one before.
template <class Arguments, class A>
struct BackwardInTurnTask {
  const Arguments& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Arguments args = in_registers(arguments);
    const AffineOf<Level, A, std::remove_const_t<decltype(Arguments::norm)>> affine(args.norm);
    const BackwardRows<Arguments, A> rows{args};
    const Index last_row = std::min(args.x.tokens, end * tokens_per_chunk) - 1;
    backward::Tokens<A, 1> tokens;  // of the row that is next, if it went in turn
    bool is_begun = false;
    const auto run_fold = [&](Index first, Index last, const ChannelSums<A>& scale_sums,
                              const ChannelSums<A>& shift_sums) __attribute__((always_inline)) {
      for (Index t = first; t < last; ++t) {
        if (!is_begun) rows.template begin<Level>(affine, t, tokens);
        is_begun = t < last_row && tokens.slow == 0;
        if (is_begun) {
          rows.template run_in_turn<Level>(affine, t, t == first, scale_sums, shift_sums, tokens);
        } else {
          Level::call(BackwardFinishTask<Arguments, A>{rows, t, t == first, scale_sums, shift_sums,
                                                       tokens});
        }
      }
    };
    for_each_fold<Level, A, HugeRowsTask<Arguments, A>>(args, begin, end, run_fold);
  }
};

/// Chunks [begin, end) of operands with contiguous channels. Each way of taking rows is a function
/// of its own: in one with all of them, GCC would run out of registers.
template <class Arguments, class A>
struct BackwardRowsTask {
  const Arguments& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Grouping<A> grouping(arguments);
    if (grouping.alone) {
      Level::call(BackwardGroupsTask<Arguments, A, 1>{arguments, begin, end});
    } else if (grouping.in_turn) {
      Level::call(BackwardInTurnTask<Arguments, A>{arguments, begin, end});
    } else {
      Level::call(BackwardGroupsTask<Arguments, A, rows_together>{arguments, begin, end});
    }
  }
};

template <class A, int Channels, class... Operands>
void run_backward_rows(const Backward<A, Channels, Operands...>& arguments, Index begin,
                       Index end) noexcept {
  using Arguments = Backward<A, Channels, Operands...>;
  // (In place, for_each_fold looks whether the sums fit where they do not go straight to
  // gradients.)
  const bool fits = !arguments.is_in_place() || arguments.scale_sums.is_gradient ||
                    arguments.shift_sums.is_gradient;
  if (arguments.x.tokens == 1 && begin < end && fits) {
    dispatch(BackwardRowTask<Arguments, A>{arguments, 0, true, arguments.scale_sums,
                                           arguments.shift_sums});
  } else {
    dispatch(BackwardRowsTask<Arguments, A>{arguments, begin, end});
  }
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
