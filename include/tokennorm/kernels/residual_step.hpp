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

/// What is Absent by type is not compiled. A sum that is NotStored has the same bits as if it were;
/// with `post` it is stored.
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

/// Names its types: two calls that want the same are one kernel.
template <class A, int Channels, class Stream, class Update, class Post, class Out, class Pre,
          class Summed, class Streamed, class Normed>
auto residual_step(Extent<Channels> channels, const Stream& stream, const Update& update, A alpha,
                   const Post& post, const Out& out, const Pre& pre, const Summed& sum,
                   const Streamed& stream_out, const Normed& normed) {
  return ResidualStep<A, Channels, Stream, Update, Summed, Streamed, Normed, Post, Out, Pre>{
      channels, stream, update, alpha, post, out, pre, sum, stream_out, normed};
}

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
  using type = void;
};
template <class Sum>
inline constexpr bool is_stored = SumTraits<std::remove_cv_t<Sum>>::stored;
template <class Sum>
using StoredAs = typename SumTraits<std::remove_cv_t<Sum>>::type;

template <class Norm>
TOKENNORM_INLINE Index statistics_count(const Norm& norm, Index channels) {
  return Norm::centred || norm.statistics_channels == 0 ? channels : norm.statistics_channels;
}

template <class A, int N, class Norm>
TOKENNORM_INLINE void store_statistics(const Norm& norm, const Moments<A, N>& moments, Index token,
                                       Index count) {
  using S = std::remove_cvref_t<decltype(*norm.rstd)>;
  if (norm.rstd == nullptr) return;
  for (Index i = 0; i < count; ++i) {
    norm.rstd[token + i] = static_cast<S>(moments.precise_rstd[i]);
    if constexpr (Norm::centred) norm.mean[token + i] = static_cast<S>(moments.mean[i]);
  }
}

/// Statistics of `source`, which is stored into `sink` in the same sweep where there is one.
template <class Level, class A, class Norm, class Source, class Sink, class Again>
TOKENNORM_INLINE void moments_of(const Norm& norm, const Group<Source>& source,
                                 const Group<Sink>& sink, const Group<Again>& again,
                                 const Group<Ahead>& ahead, Index token, int count, Index channels,
                                 Moments<A, rows_together>& moments) {
  const Index n = statistics_count(norm, channels);
  row_moments<Level, Norm::centred>(source, sink, again, ahead, count, n, norm.epsilon, moments);
  if constexpr (is_present<Sink>) {
    if (n < channels) [[unlikely]] {
      for (int r = 0; r < count; ++r) {
        transfer<Level, A>(source.row[r], sink.row[r], n, channels);
      }
    }
  }
  store_statistics(norm, moments, token, count);
}

template <class T>
TOKENNORM_INLINE Index bytes_of(const TokenView<T>& view) {
  return view.tokens * view.channels * Index{sizeof(T)};
}
/// Whether a result as large as this one is not in L2 when it is written.
template <class T>
TOKENNORM_INLINE bool is_far(const TokenView<T>& view) {
  return bytes_of(view) >= 12 << 20;
}

/// The statistics of rows, in a function of its own for the steps that need those of several norms.
template <class A, class Norm, class Source>
struct MomentsTask {
  const Norm& norm;
  const Group<Source>& rows;
  Index token;
  int count;
  Index channels;
  Moments<A, rows_together>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    moments_of<Level>(norm, rows, Group<Absent>{}, rows, Group<Ahead>{}, token, count, channels,
                      moments);
  }
};

/// Where results are before they are written: a cache; farther away, so that they are fetched
/// ahead; or so far that they had better not pass through the caches at all, where they would only
/// drive out what is read again.
enum class Reach { cache, far, beyond };

/// The same, then the normalized rows into `normed`.
template <class Level, class A, class Norm, class Affine, class Source, class Sink, class Again,
          class Normed>
TOKENNORM_INLINE void norm_rows(const Norm& norm, const Affine& affine, const Group<Source>& source,
                                const Group<Sink>& sink, const Group<Again>& again,
                                const Group<Normed>& normed, Reach reach,
                                const Group<Upcoming>& upcoming, Index token, int count,
                                Index channels) {
  Moments<A, rows_together> moments;
  Group<Ahead> ahead;
  if (reach == Reach::far) {
    for (int r = 0; r < rows_together; ++r) ahead.row[r] = kernels::ahead(normed.row[r]);
  }
  moments_of<Level>(norm, source, sink, again, ahead, token, count, channels, moments);
  normalize_group<Level>(norm, again, count, moments, affine, normed, channels,
                         reach == Reach::beyond, upcoming);
}

/// Rows [token, token + count) of a view.
template <class View>
TOKENNORM_INLINE auto rows_of(const View& view, Index token, int count) {
  Group<decltype(row_of(view, token))> rows;
  if constexpr (is_present<View>) {
    auto* data = view.row(token);
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; ++r) {
      rows.row[r] = {data};
      if (r + 1 < count) data += view.token_stride;
    }
  }
  return rows;
}

template <class Operand>
TOKENNORM_INLINE Group<Stored<Operand>> stored(const Group<Operand>& rows) {
  return {{{rows.row[0]}, {rows.row[1]}, {rows.row[2]}, {rows.row[3]}}};
}

/// What a step needs to know of the scale and shift of one of its norms.
template <class Level, class A, class Norm>
struct ReadyAffine {
  using Type = Affine<Level, A, typename Norm::Param>;
  typename Type::Constants constants;
  Type affine;
  TOKENNORM_INLINE explicit ReadyAffine(const Norm& norm) : affine(norm, constants) {}
};
template <class Level, class A>
struct ReadyAffine<Level, A, Absent> {
  Absent affine;
  TOKENNORM_INLINE explicit ReadyAffine(Absent) {}
};

template <class Level, class A, class Step>
struct Affines {
  ReadyAffine<Level, A, decltype(Step::post)> post;
  ReadyAffine<Level, A, decltype(Step::out)> out;
  ReadyAffine<Level, A, decltype(Step::pre)> pre;

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
    const Index group = rows_in_l1(step.channels.get());
    const step::Reach reach = reach_of(step);
    for (Index t = begin; t < end; t += group) {
      Rows<Level, step::Affines<Level, A, Step>>{step, affines, t,
                                                 static_cast<int>(std::min(group, end - t)), reach}
          .run();
    }
    if (reach == step::Reach::beyond) finish_streaming();
  }

 private:
  /// Rows that stay in L1 from their sums to their results; long ones pay little for the latency of
  /// their sums.
  TOKENNORM_INLINE static Index rows_in_l1(Index channels) {
    constexpr Index elements = is_present<decltype(Step::update)> ? 2048 : 4096;
    return channels * rows_together <= elements ? rows_together : channels * 2 <= elements ? 2 : 1;
  }

  TOKENNORM_INLINE static step::Reach reach_of(const Step& step) {
    if constexpr (is_present<decltype(step.pre)>) {
      return reach_of(step, step.normed);
    } else if constexpr (is_present<decltype(step.out)>) {
      return reach_of(step, step.stream_out);
    } else {
      return step::Reach::cache;
    }
  }
  template <class Result>
  TOKENNORM_INLINE static step::Reach reach_of(const Step& step, const Result& result) {
    const void* const read = step.stream.data;
    if (!step::is_far(result) || read == static_cast<const void*>(result.data)) {
      return step::Reach::cache;
    }
    return step::bytes_of(result) < 64 << 20 ? step::Reach::far : step::Reach::beyond;
  }

  /// Up to four rows at once.
  template <class Level, class Affines>
  struct Rows {
    const Step& step;
    const Affines& affines;
    Index t;
    int count;
    step::Reach reach;

    TOKENNORM_INLINE void run() const {
      const auto stream = step::rows_of(step.stream, t, count);
      if constexpr (!is_present<decltype(step.update)>) {
        finish(step::stored(stream));
      } else if constexpr (!is_present<decltype(step.post)>) {
        finish(sum_of(stream, step::rows_of(step.update, t, count)));
      } else {
        static_assert(step::is_stored<decltype(step.sum)>);
        const auto update = step::stored(step::rows_of(step.update, t, count));
        using Post = std::remove_cvref_t<decltype(step.post)>;
        using Source = std::remove_cvref_t<decltype(update.row[0])>;
        Moments<A, rows_together> moments;
        Level::call(step::MomentsTask<A, Post, Source>{step.post, update, t, count,
                                                       step.channels.get(), moments});
        if (moments.slow == 0) [[likely]] {
          finish(sum_of(stream, normalized<false>(update, moments)));
        } else {
          Level::call(SlowPostTask{*this, moments});
        }
      }
    }

   private:
    template <class Stream, class Added>
    TOKENNORM_INLINE auto sum_of(const Group<Stream>& stream, const Group<Added>& added) const {
      using Source = Sum<step::StoredAs<decltype(Step::sum)>, A, Stream, Added>;
      const A alpha = step.alpha;
      const auto sum = [&](int r) __attribute__((always_inline)) {
        return Source{stream.row[r], added.row[r], alpha};
      };
      return Group<Source>{{sum(0), sum(1), sum(2), sum(3)}};
    }

    /// post(update), of rows that need the wider type or of those that do not.
    template <bool Slow, class Source>
    TOKENNORM_INLINE auto normalized(const Group<Source>& update,
                                     const Moments<A, rows_together>& moments) const {
      using Post = std::remove_cvref_t<decltype(step.post)>;
      using Posted = Normalized<Level, Post::centred, A, Source, typename Post::Param, Slow,
                                step::Element<decltype(step.update)>>;
      const auto row = [&](int r) __attribute__((always_inline)) {
        return Posted(update.row[r], moments, r, affines.post.affine);
      };
      return Group<Posted>{{row(0), row(1), row(2), row(3)}};
    }

    /// A group of which a row needs the wider type in its norm on the update: first the sums, one
    /// by one, so that the other rows have the bits that they always have; then what follows.
    struct SlowPostTask {
      const Rows& rows;
      const Moments<A, rows_together>& moments;

      template <class>
      TOKENNORM_INLINE void run() const {
        const Step& whole = rows.step;
        const Index channels = whole.channels.get();
        const auto stream = step::rows_of(whole.stream, rows.t, rows.count);
        const auto update = step::stored(step::rows_of(whole.update, rows.t, rows.count));
        const auto fast = rows.sum_of(stream, rows.template normalized<false>(update, moments));
        const auto slow = rows.sum_of(stream, rows.template normalized<true>(update, moments));
        for (int r = 0; r < rows.count; ++r) {
          const auto sum = row_of(whole.sum, rows.t + r);
          if (moments.is_slow(r)) {
            transfer<Level, A>(slow.row[r], sum, 0, channels);
          } else {
            transfer<Level, A>(fast.row[r], sum, 0, channels);
          }
        }
        if constexpr (is_present<decltype(whole.out)> || is_present<decltype(whole.pre)>) {
          const auto rest = residual_step(whole.channels, detail::as_const(whole.sum), Absent{},
                                          whole.alpha, Absent{}, whole.out, whole.pre, Absent{},
                                          whole.stream_out, whole.normed);
          using Rest = std::remove_const_t<decltype(rest)>;
          Level::call(RowsTask<Rest, A>{rest, rows.t, rows.t + rows.count});
        }
      }
    };

    /// What follows once `source` yields the sum: store it, normalize it, normalize that.
    template <class Source>
    TOKENNORM_INLINE void finish(const Group<Source>& source) const {
      if constexpr (is_present<decltype(step.out)>) {
        first_norm(step.out, affines.out.affine, source, step::rows_of(step.stream_out, t, count));
        if constexpr (is_present<decltype(step.pre)>) {
          const auto again =
              step::stored(step::rows_of(detail::as_const(step.stream_out), t, count));
          step::norm_rows<Level, A>(step.pre, affines.pre.affine, again, Group<Absent>{}, again,
                                    step::rows_of(step.normed, t, count), reach, upcoming(), t,
                                    count, step.channels.get());
        }
      } else if constexpr (is_present<decltype(step.pre)>) {
        first_norm(step.pre, affines.pre.affine, source, step::rows_of(step.normed, t, count));
      } else {
        for (int r = 0; r < count; ++r) {
          transfer<Level, A>(source.row[r], row_of(step.sum, t + r), 0, step.channels.get());
        }
      }
    }

    /// The rows after these, where they are far away.
    TOKENNORM_INLINE Group<Upcoming> upcoming() const {
      Group<Upcoming> next;
      if (reach != step::Reach::cache) {
        for (int r = 0; r < count; ++r) {
          next.row[r] = {ahead(row_of(step.stream, t + count + r)),
                         ahead(row_of(step.update, t + count + r))};
        }
      }
      return next;
    }

    /// The norm of the sum, which is stored on the way if the caller wants it.
    template <class Norm, class Affine, class Source, class Normed>
    TOKENNORM_INLINE void first_norm(const Norm& norm, const Affine& affine,
                                     const Group<Source>& source,
                                     const Group<Normed>& normed) const {
      const Index channels = step.channels.get();
      constexpr bool is_read_again =
          is_present<decltype(step.out)> && is_present<decltype(step.pre)>;
      const step::Reach to = is_read_again ? step::Reach::cache : reach;
      if constexpr (is_present<decltype(step.update)> && step::is_stored<decltype(step.sum)>) {
        const auto again = step::stored(step::rows_of(detail::as_const(step.sum), t, count));
        step::norm_rows<Level, A>(norm, affine, source, step::rows_of(step.sum, t, count), again,
                                  normed, to, upcoming(), t, count, channels);
      } else {
        step::norm_rows<Level, A>(norm, affine, source, Group<Absent>{}, source, normed, to,
                                  upcoming(), t, count, channels);
      }
    }
  };
};

template <class A, int Channels, class... Operands>
void run_rows(const ResidualStep<A, Channels, Operands...>& step, Index begin, Index end) noexcept {
  dispatch(RowsTask<ResidualStep<A, Channels, Operands...>, A>{step, begin, end});
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
