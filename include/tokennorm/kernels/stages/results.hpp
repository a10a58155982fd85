// SPDX-License-Identifier: MIT
/// The last stage: y = x̂·(o + γ) + β with x̂ = (x − center)·rstd + correction, of one row, or of
/// four at once so that γ and β are loaded once. Where the result is added to a residual stream h,
/// what is stored is α·h + y.
#pragma once

#include "tokennorm/kernels/affine.hpp"
#include "tokennorm/kernels/stages/statistics.hpp"

#include <algorithm>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

/// x̂ of one row, in lanes.
template <class Level, bool Centred, class A>
class RowNormalizer {
 public:
  using V = Lanes<A, Level::template lanes<A>>;

  template <int N>
  TOKENNORM_INLINE void set(const Statistics<A, N>& moments, int row) {
    rstd_ = V(moments.rstd[row]);
    if constexpr (Centred) {
      center_ = V(moments.center[row]);
      correction_ = V(moments.correction[row]);
    }
  }

  TOKENNORM_INLINE V operator()(const V& x) const {
    if constexpr (Centred) {
      return multiply_add(guarded(x - center_), rstd_, correction_);
    } else {
      return x * rstd_;
    }
  }

 private:
  V center_, rstd_, correction_;
};

/// x̂·(o + γ) + β of one value of a token that is redone in the wider type.
template <class A, int N, class Affine>
TOKENNORM_INLINE A precise_result(A x, const Statistics<A, N>& moments, int token,
                                  const Affine& affine, Index c) {
  using P = Precise<A>;
  const P normalized = deviation(x, moments, token) * moments.wide_rstd[token];
  return static_cast<A>(normalized * static_cast<P>(affine.scale_at(c)) +
                        static_cast<P>(affine.shift_at(c)));
}

/// Stores channels [begin, end) of a source into a row.
template <class Level, class A, class Source, class Row>
TOKENNORM_INLINE void store_row(const Source source, const Row row, Index begin, Index end) {
  constexpr int width = Level::template lanes<A>;
  for_each_vector<width>(
      begin, end, [&](Index c, auto n) __attribute__((always_inline)) {
        put(row, c, get<A, width>(source, c, n), n);
      });
}

/// Copies a row past the caches.
template <class Level, class A, class T>
TOKENNORM_INLINE void stream_row(const Row<const T> from, const Row<T> to, Index channels) {
  constexpr int width = Level::template lanes<A>;
  const Index head = std::min(to.unaligned(width), channels);
  const Index tail = head + (channels - head) / width * width;
  store_row<Level, A>(from, to, 0, head);
  for (Index c = head; c < tail; c += width) to.put_streaming(c, from.template get<A, width>(c));
  store_row<Level, A>(from, to, tail, channels);
}

/// Writes the results of one row, at once or pipelined with the sums of the next one, four vectors
/// at a time; from where the row is aligned on: a store that crosses cache lines costs two.
template <class Level, class A, class Call>
class RowWriter {
 public:
  using Scaling = Affine<Level, A, typename Call::Norm::Param>;
  using From = Row<const typename Call::Normalized>;
  using To = Row<typename Call::Output>;

  /// Nothing to write.
  TOKENNORM_INLINE RowWriter() { normalizer_.set(Statistics<A, 1>{}, 0); }

  /// Takes the row; next() writes of it where that is `pipelined` (and not if it has a shift that
  /// norms of this kind hardly ever have).
  TOKENNORM_INLINE void start(const From& from, const Statistics<A, 1>& moments,
                              const Scaling& affine, const To& to, Index channels, bool pipelined) {
    from_ = from;
    to_ = to;
    channels_ = channels;
    normalizer_.set(moments, 0);
    c_ = std::min(to.unaligned(width), channels);
    if (c_ != 0) {
      const V x = from.template get_first<A, width>(0, c_);
      to.put_first(
          0, multiply_add(normalizer_(x), affine.scale_first(0, c_), affine.shift_first(0, c_)),
          c_);
    }
    at_ = affine.begin(c_);
    if (pipelined && (adds_shift || !at_.has_shift())) pipelined_steps_ = (channels - c_) / step;
  }

  TOKENNORM_INLINE void next() {
    if (pipelined_steps_ == 0) [[unlikely]]
      return;
    --pipelined_steps_;
    write_four_vectors<adds_shift>(false);
  }

  /// What is left.
  TOKENNORM_INLINE void finish(bool streaming = false) {
    if (adds_shift || at_.has_shift()) {
      while (c_ + step <= channels_) write_four_vectors<true>(streaming);
    } else {  // two loads for a store, not three
      while (c_ + step <= channels_) write_four_vectors<false>(streaming);
    }
    for_each_vector<width>(
        c_, channels_, [&](Index c, auto n) __attribute__((always_inline)) {
          const V x = get<A, width>(from_, c, n);
          put(to_, c, multiply_add(normalizer_(x), at_.scale_of(n), at_.shift_of(n)), n);
          at_.advance();
        });
  }

 private:
  static constexpr int width = Level::template lanes<A>;
  static constexpr Index step = 4 * width;
  static constexpr bool adds_shift = Call::centred;  // an RMSNorm does not wait for one
  using V = Lanes<A, width>;

  template <bool has_shift>
  TOKENNORM_INLINE void write_four_vectors(bool streaming) {
    const V no_shift = opaque(V(A(0)));  // is added as well: −0 becomes 0 wherever it stands
    using T = typename Call::Output;
    constexpr int together = stored_together<T, A, width>;
    TOKENNORM_UNROLL
    for (int k = 0; k < 4; k += together) {
      Array<V, together> y;
      TOKENNORM_UNROLL
      for (int i = 0; i < together; ++i, at_.advance()) {
        V x;  // assigned, not initialized: GCC would store it on the stack as well
        x = from_.template get<A, width>(c_ + (k + i) * width);
        y[i] = multiply_add(normalizer_(x), at_.scale(), has_shift ? at_.shift() : no_shift);
      }
      if constexpr (together > 1) {  // of half the size, which are not streamed
        to_.put(c_ + k * width, y);
      } else if (std::is_same_v<T, A> && streaming) [[unlikely]] {
        to_.put_streaming(c_ + k * width, y[0]);
      } else {
        to_.put(c_ + k * width, y[0]);
      }
    }
    c_ += step;
  }

  From from_{};
  To to_{};
  typename Scaling::Iterator at_;
  RowNormalizer<Level, Call::centred, A> normalizer_;
  Index c_ = 0, channels_ = 0, pipelined_steps_ = 0;
};

/// The results of a group of rows.
template <class Level, bool Centred, class A, int N, class From, class To, class Affine>
TOKENNORM_INLINE void write_rows(const Group<From, N> from, const Statistics<A, N>& moments,
                                 const Affine affine, const Group<To, N> to, Index channels) {
  constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;
  Array<RowNormalizer<Level, Centred, A>, N> normalizer;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) normalizer[r].set(moments, r);
  auto at = affine.begin();
  for_each_vector<width>(
      0, channels, [&](Index c, auto n) __attribute__((always_inline)) {
        const V scale = at.scale_of(n), shift = at.shift_of(n);
        Array<V, N> x;
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) x[r] = get<A, width>(from.row[r], c, n);
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) x[r] = multiply_add(normalizer[r](x[r]), scale, shift);
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) put(to.row[r], c, x[r], n);
        at.advance();
      });
}

/// α·h + y, with y rounded as if it were stored.
template <class Call, class A, int W>
TOKENNORM_INLINE Lanes<A, W> added(const Call& call, const Lanes<A, W>& h, const Lanes<A, W>& y) {
  return scaled_sum<typename Call::Output>(call.alpha, h, rounded_to<typename Call::Normalized>(y));
}

/// The results of a row, added to the residual.
template <class Level, class Call, class From, class Affine, class A>
TOKENNORM_INLINE void write_added_row(const Call& call, const From& from, Index row,
                                      const Statistics<A, 1>& moments, const Affine affine) {
  constexpr int width = Level::template lanes<A>;
  RowNormalizer<Level, Call::centred, A> normalizer;
  normalizer.set(moments, 0);
  const auto h = row_of(call.residual, row);
  const auto to = row_of(call.y, row);
  for_each_vector<width>(
      0, call.channels, [&](Index c, auto n) __attribute__((always_inline)) {
        const auto y = multiply_add(normalizer(get<A, width>(from, c, n)), affine.scale_of(c, n),
                                    affine.shift_of(c, n));
        put(to, c, added(call, get<A, width>(h, c, n), y), n);
      });
}

/// The results of a row that is redone in the wider type.
template <class Call>
struct FallbackResultsTask {
  using A = typename Call::Arithmetic;
  const Call& call;
  const Operand<typename Call::Normalized>& normalized;
  Index row;
  const Statistics<A, 1>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    const Affine<Level, A, typename Call::Norm::Param> affine(call.norm);
    const auto from = row_of(normalized, row);
    const auto to = row_of(call.y, row);
    for (Index c = 0; c < call.channels; ++c) {
      const A y = precise_result(from.template at<A>(c), moments, 0, affine, c);
      if (call.adds_result) {  // through the lanes, so that it has the bits that they have
        const Lanes<A, width> h(row_of(call.residual, row).template at<A>(c));
        to.put_first(c, added(call, h, Lanes<A, width>(y)), 1);
      } else {
        to.set(c, y);
      }
    }
  }
};

TOKENNORM_END_KERNELS
