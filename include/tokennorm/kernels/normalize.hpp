// SPDX-License-Identifier: MIT
/// The second sweep: y = x̂·(o + γ) + β with x̂ = (x − center)·rstd − correction, as a source of
/// values that can be stored, or added to something else on the way.
#pragma once

#include "tokennorm/kernels/moments.hpp"

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// Which parameters a loop may take for granted; `any` reads constants in place of missing ones.
enum class Parameters { any, scale, scale_and_shift };

/// How x̂ is formed: in the arithmetic type, or in the wider one, for rows whose numbers do not fit;
/// `either` looks at the row.
enum class Arithmetic { fast, precise, either };

/// A source: the normalized, scaled and shifted values of another source. With RoundAs, rounded to
/// the type they would have been stored in.
template <class Level, bool Centred, class A, class Source, class Param,
          Parameters parameters = Parameters::any, Arithmetic arithmetic = Arithmetic::fast,
          class RoundAs = void>
class Normalized {
 public:
  TOKENNORM_INLINE Normalized(const Source& source, const Moments<A>& moments,
                              const Affine<Level, A, Param>& affine)
      : source_(source),
        affine_(affine),
        center_(moments.center),
        rstd_(moments.rstd),
        correction_(-moments.correction),
        moments_(moments) {}

  template <class, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    constexpr bool known = parameters != Parameters::any;
    const auto x = source_.template get<A, W>(c);
    if constexpr (parameters == Parameters::scale) {
      return finish(x, affine_.template scale<known>(c), Lanes<A, W>(A(0)));
    } else {
      return finish(x, affine_.template scale<known>(c), affine_.template shift<known>(c));
    }
  }
  template <class, int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n) const {
    return finish(source_.template get_first<A, W>(c, n), affine_.scale_first(c, n),
                  affine_.shift_first(c, n));
  }

 private:
  template <int W>
  TOKENNORM_INLINE Lanes<A, W> finish(const Lanes<A, W>& x, const Lanes<A, W>& scale,
                                      const Lanes<A, W>& shift) const {
    Lanes<A, W> y;
    if (arithmetic == Arithmetic::precise || (arithmetic == Arithmetic::either && !moments_.fast)) {
      Lanes<A, W> precise;
      Level::call(PreciseLanes<W>{*this, x, scale, shift, precise});
      y = precise;
    } else {
      Lanes<A, W> normalized;
      if constexpr (Centred) {
        normalized = multiply_add(guarded(x - center_), rstd_, correction_);
      } else {
        normalized = x * rstd_;
      }
      if constexpr (parameters == Parameters::scale) {
        y = normalized * scale;
      } else {
        y = multiply_add(normalized, scale, shift);
      }
    }
    if constexpr (std::is_void_v<RoundAs>) {
      return y;
    } else {
      return rounded_to<RoundAs>(y);
    }
  }

  template <int W>
  struct PreciseLanes {
    const Normalized& row;
    const Lanes<A, W>& x;
    const Lanes<A, W>& scale;
    const Lanes<A, W>& shift;
    Lanes<A, W>& y;

    template <class>
    TOKENNORM_INLINE void run() const {
      using P = Precise<A>;
      alignas(64) Array<A, W> values, scales, shifts;
      store(values, x);
      store(scales, scale);
      store(shifts, shift);
      for (int i = 0; i < W; ++i) {
        const P normalized = deviation(values[i], row.moments_) * row.moments_.precise_rstd;
        values[i] =
            static_cast<A>(normalized * static_cast<P>(scales[i]) + static_cast<P>(shifts[i]));
      }
      y = load<A, W>(static_cast<const A*>(values));
    }
  };

  const Source& source_;
  const Affine<Level, A, Param>& affine_;
  Lanes<A, Level::template lanes<A>> center_, rstd_, correction_;
  const Moments<A>& moments_;
};

/// Stores channels [begin, end) of a source into a row.
template <class Level, class A, class Source, class Sink>
TOKENNORM_INLINE void transfer(const Source& source, const Sink& sink, Index begin, Index end) {
  constexpr int width = Level::template lanes<A>;
  constexpr int unrolled = 2;
  Index c = begin;
  for (; c + unrolled * width <= end; c += unrolled * width) {
    TOKENNORM_UNROLL
    for (int k = 0; k < unrolled; ++k) {
      sink.put(c + k * width, source.template get<A, width>(c + k * width));
    }
  }
  for (; c + width <= end; c += width) sink.put(c, source.template get<A, width>(c));
  if (c < end) sink.put_first(c, source.template get_first<A, width>(c, end - c), end - c);
}

/// The rare rows, in a function of their own so that the fast path stays small.
template <bool Centred, class A, class Source, class Sink, class Norm>
struct PreciseNormalizeTask {
  const Source& source;
  const Moments<A>& moments;
  const Norm& norm;
  const Sink& sink;
  Index channels;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using Param = typename Norm::Param;
    const Affine<Level, A, Param> affine(norm);
    constexpr int width = Level::template lanes<A>;
    const Normalized<Level, Centred, A, Source, Param, Parameters::any, Arithmetic::precise>
        normalized(source, moments, affine);
    for (Index c = 0; c < channels; c += width) {
      const Index count = std::min<Index>(width, channels - c);
      if (count == width) {
        sink.put(c, normalized.template get<A, width>(c));
      } else {
        sink.put_first(c, normalized.template get_first<A, width>(c, count), count);
      }
    }
  }
};

/// Normalizes one row into the sink.
template <class Level, class A, class Norm, class Source, class Sink>
TOKENNORM_INLINE void normalize_row(const Norm& norm, const Source& source,
                                    const Moments<A>& moments,
                                    const Affine<Level, A, typename Norm::Param>& affine,
                                    const Sink& sink, Index channels) {
  using Param = typename Norm::Param;
  constexpr bool centred = Norm::centred;
  if (!moments.fast) [[unlikely]] {
    Level::call(PreciseNormalizeTask<centred, A, Source, Sink, Norm>{source, moments, norm, sink,
                                                                     channels});
  } else if (affine.has_scale() && affine.has_shift()) {
    transfer<Level, A>(Normalized<Level, centred, A, Source, Param, Parameters::scale_and_shift>(
                           source, moments, affine),
                       sink, 0, channels);
  } else if (affine.has_scale()) {
    transfer<Level, A>(
        Normalized<Level, centred, A, Source, Param, Parameters::scale>(source, moments, affine),
        sink, 0, channels);
  } else {
    transfer<Level, A>(Normalized<Level, centred, A, Source, Param>(source, moments, affine), sink,
                       0, channels);
  }
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
