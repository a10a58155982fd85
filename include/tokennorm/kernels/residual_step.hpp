// SPDX-License-Identifier: MIT
/// What the forward kernels are given: everything between two sublayers, of which a norm alone is a
/// case.
///
///     h ← α·h + post(update);    h ← out(h);    n ← pre(h)
///
/// forward_rows.hpp works it out where channels are contiguous, forward_columns.hpp where they are
/// not.
#pragma once

#include "tokennorm/kernels/normalize.hpp"

#include <cstdint>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

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

}  // namespace step

/// What is Absent by type is not compiled. A sum that is NotStored has the same bits as if it were;
/// with `post` it is stored. The last norm is always `pre`: there is no `out` without it.
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
  Normed normed;        // TokenView or Absent: n; or AddedView, for results that make an h
  bool is_read_next = false;  // n, at once: it is to stay in a cache

  static constexpr bool has_update = is_present<Update>;
  static constexpr bool has_post = is_present<Post>;
  static constexpr bool has_out = is_present<Out>;
  static constexpr bool has_pre = is_present<Pre>;
  static constexpr bool has_sum = has_update && step::is_stored<Summed>;
  static constexpr bool is_added = is_added_view<Normed>;
  static constexpr Index element_bytes = sizeof(step::Element<Stream>);
  static_assert(has_sum || !has_post);
  static_assert(has_pre || !has_out);
};

/// Names its types: two calls that want the same are one kernel, as are a norm that leaves the new
/// h and one that leaves n.
template <class A, int Channels, class Stream, class Update, class Post, class Out, class Pre,
          class Summed, class Streamed, class Normed>
TOKENNORM_INLINE auto residual_step(const Extent<Channels>& channels, const Stream& stream,
                                    const Update& update, A alpha, const Post& post, const Out& out,
                                    const Pre& pre, const Summed& sum, const Streamed& stream_out,
                                    const Normed& normed) {
  if constexpr (is_present<Out> && !is_present<Pre>) {
    return residual_step(channels, stream, update, alpha, post, Absent{}, out, sum, Absent{},
                         stream_out);
  } else {
    return ResidualStep<A, Channels, Stream, Update, Summed, Streamed, Normed, Post, Out, Pre>{
        in_registers(channels),   in_registers(stream), in_registers(update), in_register(alpha),
        in_registers(post),       in_registers(out),    in_registers(pre),    in_registers(sum),
        in_registers(stream_out), in_registers(normed)};
  }
}

/// A norm alone: n = pre(h).
template <class A, int Channels, class Stream, class Pre, class Normed>
TOKENNORM_INLINE auto norm_step(const Extent<Channels>& channels, const Stream& stream,
                                const Pre& pre, const Normed& normed) {
  return residual_step(channels, stream, Absent{}, A(1), Absent{}, Absent{}, pre, Absent{},
                       Absent{}, normed);
}

namespace step {

template <class Norm>
TOKENNORM_INLINE Index statistics_count(const Norm& norm, Index channels) {
  return Norm::centred || norm.statistics_channels == 0 ? channels : norm.statistics_channels;
}

template <class A, int N, class Norm>
TOKENNORM_INLINE void store_statistics(const Norm& norm, const Moments<A, N>& moments, Index token,
                                       int count = N) {
  using S = std::remove_cvref_t<decltype(*norm.rstd)>;
  if (norm.rstd == nullptr) return;
  for (int i = 0; i < count; ++i) {
    norm.rstd[token + i] = static_cast<S>(moments.precise_rstd[i]);
    if constexpr (Norm::centred) norm.mean[token + i] = static_cast<S>(moments.mean[i]);
  }
}

inline constexpr Index l1_bytes = 32 << 10;     // of the smallest first cache that counts
inline constexpr Index most_at_hand = 8 << 10;  // of rows that leave room in it for others

template <class T>
TOKENNORM_INLINE std::int64_t bytes_of(const TokenView<T>& view) {
  return std::int64_t{view.tokens} * view.channels * std::int64_t{sizeof(T)};
}

}  // namespace step

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
