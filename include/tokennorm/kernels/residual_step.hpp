// SPDX-License-Identifier: MIT
/// The one forward kernel: everything between two sublayers, of which a norm alone is a case.
///
///     h ← α·h + post(update);    h ← out(h);    n ← pre(h)
///
/// Each row is read once from memory, normalized up to three times while it is in L1, and each
/// result is written once. The results have the bits of the same steps done one by one.
#pragma once

#include "tokennorm/kernels/normalize.hpp"

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// What is Absent by type is not compiled. A sum that is NotStored has the same bits as if it were.
template <class A, int Channels, class Stream, class Update, class Summed, class Streamed,
          class Normed, class Post, class Out, class Pre>
struct ResidualStep {
  Extent<Channels> channels;
  Stream stream;  // TokenView<const …>: h
  Update update;  // TokenView<const …> or Absent
  A alpha;
  Post post;  // NormArguments or Absent, like the next two
  Out out;
  Pre pre;
  Summed sum;           // TokenView or NotStored: α·h + post(update); the new h without `out`
  Streamed stream_out;  // TokenView or Absent: out(h)
  Normed normed;        // TokenView or Absent: n
};

namespace step {

template <class View>
using Element = std::remove_cvref_t<decltype(*View::data)>;

template <class Sum>
struct SumTraits {
  static constexpr bool stored = true;
  using type = Element<Sum>;
};
template <class T>
struct SumTraits<NotStored<T>> {
  static constexpr bool stored = false;
  using type = T;
};
template <>
struct SumTraits<Absent> {
  static constexpr bool stored = false;
};
template <class Sum>
inline constexpr bool is_stored = SumTraits<std::remove_cv_t<Sum>>::stored;
template <class Sum>
using StoredAs = typename SumTraits<std::remove_cv_t<Sum>>::type;

template <class Norm>
TOKENNORM_INLINE Index statistics_count(const Norm& norm, Index channels) {
  return Norm::centred || norm.statistics_channels == 0 ? channels : norm.statistics_channels;
}

template <class A, class Norm>
TOKENNORM_INLINE void store_statistics(const Norm& norm, const Moments<A>& moments, Index token) {
  using S = std::remove_cvref_t<decltype(*norm.rstd)>;
  if (norm.rstd == nullptr) return;
  norm.rstd[token] = static_cast<S>(moments.precise_rstd);
  if constexpr (Norm::centred) norm.mean[token] = static_cast<S>(moments.mean);
}

/// Statistics of `source`, which is stored into `sink` in the same sweep where there is one.
template <class Level, class A, class Norm, class Source, class Sink, class Again>
TOKENNORM_INLINE Moments<A> moments_of(const Norm& norm, const Source& source, const Sink& sink,
                                       const Again& again, Index token, Index channels) {
  const Index count = statistics_count(norm, channels);
  const auto moments =
      row_moments<Level, Norm::centred, A>(source, sink, again, count, norm.epsilon);
  if constexpr (is_present<Sink>) {
    if (count < channels) transfer<Level, A>(source, sink, count, channels);
  }
  store_statistics(norm, moments, token);
  return moments;
}

/// The same, then the normalized row into `normed`.
template <class Level, class A, class Norm, class Affine, class Source, class Sink, class Again,
          class Normed>
TOKENNORM_INLINE void norm_row(const Norm& norm, const Affine& affine, const Source& source,
                               const Sink& sink, const Again& again, const Normed& normed,
                               Index token, Index channels) {
  const auto moments = moments_of<Level, A>(norm, source, sink, again, token, channels);
  normalize_row<Level, A>(norm, again, moments, affine, normed, channels);
}

struct NoAffine {
  TOKENNORM_INLINE explicit NoAffine(Absent) {}
};

template <class Level, class A, class Norm>
struct AffineOf {
  using type = Affine<Level, A, typename Norm::Param>;
};
template <class Level, class A>
struct AffineOf<Level, A, Absent> {
  using type = NoAffine;
};

/// The parameters of the step's norms, ready for lanes.
template <class Level, class A, class Step>
struct Affines {
  typename AffineOf<Level, A, decltype(Step::post)>::type post;
  typename AffineOf<Level, A, decltype(Step::out)>::type out;
  typename AffineOf<Level, A, decltype(Step::pre)>::type pre;

  TOKENNORM_INLINE explicit Affines(const Step& step)
      : post(step.post), out(step.out), pre(step.pre) {}
};

}  // namespace step

/// Rows [begin, end) of a step whose operands all have contiguous channels.
template <class Step, class A>
struct RowsTask {
  const Step& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    const Step step = arguments;  // a copy that no store can change: it stays in registers
    const step::Affines<Level, A, Step> affines(step);
    for (Index t = begin; t < end; ++t) run_row<Level>(step, affines, t);
  }

  template <class Level, class Affines>
  TOKENNORM_INLINE static void run_row(const Step& step, const Affines& affines, Index t) {
    using Stream = decltype(row_of(step.stream, t));
    const Stream stream = row_of(step.stream, t);
    if constexpr (!is_present<decltype(step.update)>) {
      finish_row<Level>(step, affines, Stored<Stream>{stream}, t);
    } else {
      using Update = decltype(row_of(step.update, t));
      const Update update = row_of(step.update, t);
      if constexpr (!is_present<decltype(step.post)>) {
        using S = step::StoredAs<decltype(step.sum)>;
        finish_row<Level>(step, affines, Sum<S, A, Stream, Update>{stream, update, step.alpha}, t);
      } else {
        const Stored<Update> raw{update};
        const auto moments =
            step::moments_of<Level, A>(step.post, raw, Absent{}, raw, t, step.channels.get());
        using Norm = std::remove_cvref_t<decltype(step.post)>;
        using Posted =
            Normalized<Level, Norm::centred, A, Stored<Update>, typename Norm::Param,
                       Parameters::any, Arithmetic::either, step::Element<decltype(step.update)>>;
        const Posted posted(raw, moments, affines.post);
        using S = step::StoredAs<decltype(step.sum)>;
        finish_row<Level>(step, affines, Sum<S, A, Stream, Posted>{stream, posted, step.alpha}, t);
      }
    }
  }

 private:
  /// What follows once `source` yields the sum: store it, normalize it, normalize that.
  template <class Level, class Affines, class Source>
  TOKENNORM_INLINE static void finish_row(const Step& step, const Affines& affines,
                                          const Source& source, Index t) {
    const Index channels = step.channels.get();
    if constexpr (is_present<decltype(step.out)>) {
      first_norm<Level>(step, step.out, affines.out, source, row_of(step.stream_out, t), t);
      if constexpr (is_present<decltype(step.pre)>) {
        using Stream = decltype(row_of(detail::as_const(step.stream_out), t));
        const Stored<Stream> again{row_of(detail::as_const(step.stream_out), t)};
        step::norm_row<Level, A>(step.pre, affines.pre, again, Absent{}, again,
                                 row_of(step.normed, t), t, channels);
      }
    } else if constexpr (is_present<decltype(step.pre)>) {
      first_norm<Level>(step, step.pre, affines.pre, source, row_of(step.normed, t), t);
    } else {
      transfer<Level, A>(source, row_of(step.sum, t), 0, channels);
    }
  }

  /// The norm of the sum, which is stored on the way if the caller wants it.
  template <class Level, class Norm, class Affine, class Source, class Normed>
  TOKENNORM_INLINE static void first_norm(const Step& step, const Norm& norm, const Affine& affine,
                                          const Source& source, const Normed& normed, Index t) {
    const Index channels = step.channels.get();
    if constexpr (is_present<decltype(step.update)> && step::is_stored<decltype(step.sum)>) {
      using Summed = decltype(row_of(detail::as_const(step.sum), t));
      const Stored<Summed> again{row_of(detail::as_const(step.sum), t)};
      step::norm_row<Level, A>(norm, affine, source, row_of(step.sum, t), again, normed, t,
                               channels);
    } else {
      step::norm_row<Level, A>(norm, affine, source, Absent{}, source, normed, t, channels);
    }
  }
};

template <class A, int Channels, class... Operands>
void run_rows(const ResidualStep<A, Channels, Operands...>& step, Index begin, Index end) noexcept {
  dispatch(RowsTask<ResidualStep<A, Channels, Operands...>, A>{step, begin, end});
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
