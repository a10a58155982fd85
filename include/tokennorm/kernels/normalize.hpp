// SPDX-License-Identifier: MIT
/// The second sweep: y = x̂·(o + γ) + β with x̂ = (x − center)·rstd + correction, of one row or of
/// four rows at once so that γ and β are loaded once.
#pragma once

#include "tokennorm/kernels/moments.hpp"

#include <algorithm>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// x̂ of one row, in lanes.
template <class Level, bool Centred, class A>
class RowNormalizer {
 public:
  using V = Lanes<A, Level::template lanes<A>>;

  template <int N>
  TOKENNORM_INLINE void set(const Moments<A, N>& moments, int row) {
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

/// x̂·(o + γ) + β of one value of a slow token.
template <class A, int N, class Affine>
TOKENNORM_INLINE A precise_result(A x, const Moments<A, N>& moments, int token,
                                  const Affine& affine, Index c) {
  using P = Precise<A>;
  const P normalized = deviation(x, moments, token) * moments.wide_rstd[token];
  return static_cast<A>(normalized * static_cast<P>(affine.scale_at(c)) +
                        static_cast<P>(affine.shift_at(c)));
}

/// Stores channels [begin, end) of a source into a row.
template <class Level, class A, class Source, class Sink>
TOKENNORM_INLINE void transfer(const Source source, const Sink sink, Index begin, Index end) {
  constexpr int width = Level::template lanes<A>;
  Index c = begin;
  for (; c + width <= end; c += width) sink.put(c, source.template get<A, width>(c));
  if (c < end) sink.put_first(c, source.template get_first<A, width>(c, end - c), end - c);
}

/// Copies a row past the caches.
template <class Level, class A, class T>
TOKENNORM_INLINE void stream_row(const Row<const T> from, const Row<T> to, Index channels) {
  constexpr int width = Level::template lanes<A>;
  Index c = std::min(to.unaligned(width), channels);
  if (c != 0) to.put_first(0, from.template get_first<A, width>(0, c), c);
  for (; c + width <= channels; c += width) to.put_streaming(c, from.template get<A, width>(c));
  if (c < channels) {
    to.put_first(c, from.template get_first<A, width>(c, channels - c), channels - c);
  }
}

/// Writes the results of one row, at once or in turn with something else, four vectors at a time;
/// from where the row is aligned on: a store that crosses cache lines costs two.
template <class Level, class A, class Norm, class Source, class Sink>
class RowWriter {
 public:
  using Scaling = Affine<Level, A, typename Norm::Param>;

  /// Nothing to write.
  TOKENNORM_INLINE RowWriter() { normalizer_.set(Moments<A, 1>{}, 0); }

  /// Takes the row; next() writes of it where that is done `in_turn` (and not if it has a shift
  /// that norms of this kind hardly ever have).
  TOKENNORM_INLINE void start(const Source& source, const Moments<A, 1>& moments,
                              const Scaling& affine, const Sink& sink, Index channels,
                              bool in_turn = false) {
    source_ = source;
    sink_ = sink;
    channels_ = channels;
    normalizer_.set(moments, 0);
    c_ = std::min(sink.unaligned(width), channels);
    if (c_ != 0) {
      const V x = source.template get_first<A, width>(0, c_);
      sink.put_first(
          0, multiply_add(normalizer_(x), affine.scale_first(0, c_), affine.shift_first(0, c_)),
          c_);
    }
    at_ = affine.begin(c_);
    if (in_turn && (adds_shift || !at_.has_shift())) steps_in_turn_ = (channels - c_) / step;
  }

  TOKENNORM_INLINE void next() {
    if (steps_in_turn_ == 0) [[unlikely]]
      return;
    --steps_in_turn_;
    write_four_vectors<adds_shift, false>();
  }

  /// What is left.
  TOKENNORM_INLINE void finish(bool streaming = false) {
    if (streaming) [[unlikely]] {
      write_fours<true, true>();
    } else if (at_.has_shift()) {
      write_fours<true, false>();
    } else {  // two loads for a store, not three
      write_fours<false, false>();
    }
    for (; c_ + width <= channels_; c_ += width, at_.advance()) {
      const V x = source_.template get<A, width>(c_);
      sink_.put(c_, multiply_add(normalizer_(x), at_.scale(), at_.shift()));
    }
    if (c_ < channels_) {
      const Index n = channels_ - c_;
      const V x = source_.template get_first<A, width>(c_, n);
      sink_.put_first(c_, multiply_add(normalizer_(x), at_.scale_first(n), at_.shift_first(n)), n);
    }
  }

 private:
  static constexpr int width = Level::template lanes<A>;
  static constexpr Index step = 4 * width;
  static constexpr bool adds_shift = Norm::centred;  // in turn: an RMSNorm does not wait for one
  using V = Lanes<A, width>;

  template <bool has_shift, bool streaming>
  TOKENNORM_INLINE void write_fours() {
    while (c_ + step <= channels_) write_four_vectors<has_shift, streaming>();
  }
  template <bool has_shift, bool streaming>
  TOKENNORM_INLINE void write_four_vectors() {
    const V no_shift = opaque(V(A(0)));  // is added as well: −0 becomes 0 wherever it stands
    constexpr int together = Sink::template put_together<A, width>;
    TOKENNORM_UNROLL
    for (int k = 0; k < 4; k += together) {
      Array<V, together> y;
      TOKENNORM_UNROLL
      for (int i = 0; i < together; ++i, at_.advance()) {
        V x;  // assigned, not initialized: GCC would store it on the stack as well
        x = source_.template get<A, width>(c_ + (k + i) * width);
        y[i] = multiply_add(normalizer_(x), at_.scale(), has_shift ? at_.shift() : no_shift);
      }
      if constexpr (together > 1) {  // of half the size, which are not streamed
        sink_.put(c_ + k * width, y);
      } else if constexpr (streaming) {
        sink_.put_streaming(c_ + k * width, y[0]);
      } else {
        sink_.put(c_ + k * width, y[0]);
      }
    }
    c_ += step;
  }

  Source source_{};
  Sink sink_{};
  typename Scaling::Iterator at_;
  RowNormalizer<Level, Norm::centred, A> normalizer_;
  Index c_ = 0, channels_ = 0, steps_in_turn_ = 0;
};

/// Stores a vector of each of some rows.
template <class Sink, int N, class V>
TOKENNORM_INLINE void put(const Group<Sink, N>& rows, Index c, const Array<V, N>& y) {
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) rows.row[r].put(c, y[r]);
}
template <class Sink, int N, class V>
TOKENNORM_INLINE void put_first(const Group<Sink, N>& rows, Index c, const Array<V, N>& y,
                                Index n) {
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) rows.row[r].put_first(c, y[r], n);
}
/// The same of results that are added to a stream.
template <class... Types, int N, class A, int W>
TOKENNORM_INLINE void put(const Group<AddedRow<Types...>, N>& rows, Index c,
                          const Array<Lanes<A, W>, N>& y) {
  Array<Lanes<A, W>, N> h;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) h[r] = rows.row[r].stream.template get<A, W>(c);
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) rows.row[r].sum.put(c, rows.row[r].added(h[r], y[r]));
}
template <class... Types, int N, class A, int W>
TOKENNORM_INLINE void put_first(const Group<AddedRow<Types...>, N>& rows, Index c,
                                const Array<Lanes<A, W>, N>& y, Index n) {
  Array<Lanes<A, W>, N> h;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) h[r] = rows.row[r].stream.template get_first<A, W>(c, n);
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) rows.row[r].sum.put_first(c, rows.row[r].added(h[r], y[r]), n);
}

/// Normalizes a group of rows.
template <class Level, class A, class Norm, int N, class Source, class Affine, class Sink>
TOKENNORM_INLINE void normalize_rows(const Group<Source, N> source, const Moments<A, N>& moments,
                                     const Affine affine, const Group<Sink, N> sink,
                                     Index channels) {
  constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;
  Array<RowNormalizer<Level, Norm::centred, A>, N> normalizer;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) {
    normalizer[r].set(moments, r);
  }
  auto at = affine.begin();
  Index c = 0;
  for (; c + width <= channels; c += width) {
    const V scale = at.scale(), shift = at.shift();
    Array<V, N> x;
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) x[r] = source.row[r].template get<A, width>(c);
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) x[r] = multiply_add(normalizer[r](x[r]), scale, shift);
    put(sink, c, x);
    at.advance();
  }
  if (c < channels) {
    const Index n = channels - c;
    const V scale = at.scale_first(n), shift = at.shift_first(n);
    Array<V, N> x;
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) x[r] = source.row[r].template get_first<A, width>(c, n);
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) x[r] = multiply_add(normalizer[r](x[r]), scale, shift);
    put_first(sink, c, x, n);
  }
}

/// A slow row.
template <class A, class Norm, class Source, class Sink>
struct PreciseNormalizeTask {
  Source source;
  Moments<A, 1> moments;
  Norm norm;
  Sink sink;
  Index channels;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    using Scaling = Affine<Level, A, typename Norm::Param>;
    const Scaling affine(norm);
    for (Index c = 0; c < channels; ++c) {
      sink.template set<A, width>(
          c, precise_result(source.template at<A, width>(c), moments, 0, affine, c));
    }
  }
};

/// A row that is not slow, out of a group with slow ones.
template <class A, class Norm, class Source, class Sink>
struct NormalizeRowTask {
  Source source;
  Moments<A, 1> moments;
  Norm norm;
  Sink sink;
  Index channels;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    RowWriter<Level, A, Norm, Source, Sink> writer;
    writer.start(source, moments, Affine<Level, A, typename Norm::Param>(norm), sink, channels);
    writer.finish();
  }
};

/// A group of rows of which some are slow, one by one.
template <class Level, class A, class Norm, int N, class Source, class Sink>
TOKENNORM_INLINE void normalize_one_by_one(const Norm& norm, const Group<Source, N>& source,
                                           const Moments<A, N>& moments, const Group<Sink, N>& sink,
                                           Index channels) {
  for (int r = 0; r < N; ++r) {
    Moments<A, 1> moments_of_row{};
    moments_of_row.copy(0, moments, r);
    if (N == 1 || moments.is_slow(r)) {
      call_rarely<Level, Source, Sink>(PreciseNormalizeTask<A, Norm, Source, Sink>{
          source.row[r], moments_of_row, norm, sink.row[r], channels});
    } else if constexpr (N > 1) {
      Level::call(NormalizeRowTask<A, Norm, Source, Sink>{source.row[r], moments_of_row, norm,
                                                          sink.row[r], channels});
    }
  }
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
