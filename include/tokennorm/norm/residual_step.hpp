// SPDX-License-Identifier: MIT
/// What happens between two sublayers, with up to three norms, over contiguous rows:
///
///     h ← α·h + post(update);    h ← out(h);    n ← pre(h)
///
/// Each row is read once, normalized while it is in L1 or L2, and each result is written once.
#pragma once

#include "tokennorm/norm/norm_calls.hpp"

#include <algorithm>
#include <type_traits>

namespace tokennorm::detail {

/// Leaves a norm out of a step.
struct NoNormArguments {};

template <class Norm>
inline constexpr bool is_in_step = !std::is_same_v<Norm, NoNormArguments>;

/// S is the scalar of the stream. A norm is NormArguments, or NoNormArguments.
template <class S, class Post, class Out, class Pre>
struct ResidualStep {
  static constexpr bool has_post = is_in_step<Post>;
  static constexpr bool has_out = is_in_step<Out>;
  static constexpr bool has_pre = is_in_step<Pre>;

  TokenView<const S> h;
  TokenView<const S> update;  // null: none
  double alpha;
  Post post;
  Out out;
  Pre pre;
  TokenView<S> sum;     // α·h + post(update): the new h without `out`; null: not wanted
  TokenView<S> stream;  // out(h)
  TokenView<S> normed;  // n
};
template <class S, class Post, class Out, class Pre>
ResidualStep(TokenView<const S>, TokenView<const S>, double, Post, Out, Pre, TokenView<S>,
             TokenView<S>, TokenView<S>) -> ResidualStep<S, Post, Out, Pre>;

/// Rows [begin, end) of a norm in a step: y = N(s), s = α·residual + x; or, where the result is
/// added, y = α·residual + N(x). A null residual is none, a sum that is null is not wanted.
template <class S, class Norm>
void run_norm(const TokenView<const S>& x, const TokenView<const S>& residual, double alpha,
              const TokenView<S>& sum, const Norm& norm, const TokenView<S>& y, bool adds_result,
              bool is_read_next, Index begin, Index end) {
  using A = Accumulator<S>;
  const kernels::Forward<Norm::centred, A, S, S, S, S, typename Norm::Param,
                         typename Norm::Statistic>
      call{x.tokens, x.channels, x, residual, A(alpha), sum, norm, y, adds_result, is_read_next};
  kernels::normalize_rows(call, begin, end);
}

/// Rows [begin, end) of a step. Within a row two norms are one long chain, in which each waits for
/// the one before: several are done one after the other over some rows, which stay in L2.
template <class S, class Post, class Out, class Pre>
void run_rows(const ResidualStep<S, Post, Out, Pre>& step, Index begin, Index end) {
  using Step = ResidualStep<S, Post, Out, Pre>;
  constexpr bool has_next = Step::has_out || Step::has_pre;
  constexpr TokenView<const S> none{};
  const auto run_all = [&](Index first, Index last) {
    TokenView<const S> x = step.update, residual = step.h;
    TokenView<S> sum = step.sum;
    if (step.update.data == nullptr) {
      x = step.h;
      residual = none;
    } else if constexpr (Step::has_post) {
      run_norm(x, residual, step.alpha, {}, step.post, sum, true, has_next, first, last);
      x = as_const(sum);
      residual = none;
      sum = {};
    } else if constexpr (!has_next) {
      kernels::add_rows(residual, x, Accumulator<S>(step.alpha), sum, first, last);
    }
    if constexpr (Step::has_out) {
      run_norm(x, residual, step.alpha, sum, step.out, step.stream, false, Step::has_pre, first,
               last);
      x = as_const(step.stream);
      residual = none;
      sum = {};
    }
    if constexpr (Step::has_pre) {
      run_norm(x, residual, step.alpha, sum, step.pre, step.normed, false, false, first, last);
    }
  };
  if constexpr (Step::has_post + Step::has_out + Step::has_pre < 2) {
    run_all(begin, end);
  } else {
    constexpr Index block_bytes = 64 << 10;
    const Index row_bytes = step.h.channels * Index{sizeof(S)};
    Index rows = std::max<Index>(block_bytes / row_bytes, 1);
    if (rows > kernels::rows_together) rows -= rows % kernels::rows_together;
    for (Index t = begin; t < end; t += rows) run_all(t, std::min(end, t + rows));
  }
}

/// The same in any other scalar.
template <class S, class Post, class Out, class Pre>
void run_generic(const ResidualStep<S, Post, Out, Pre>& step, Index begin, Index end) {
  using Step = ResidualStep<S, Post, Out, Pre>;
  TokenMatrix<S> buffer;
  TokenView<const S> h = step.h;
  if (step.update.data != nullptr) {
    TokenView<const S> update = step.update;
    TokenView<S> sum = step.sum;
    TokenMatrix<S> posted;
    if constexpr (Step::has_post) {
      posted.resize(h.tokens, h.channels);
      kernels::generic::normalize(update, view_of(posted), step.post, begin, end);
      update = as_const(view_of(posted));
    }
    if (sum.data == nullptr) {
      buffer.resize(h.tokens, h.channels);
      sum = view_of(buffer);
    }
    kernels::generic::add(h, update, S(step.alpha), sum, begin, end);
    h = as_const(sum);
  }
  if constexpr (Step::has_out) {
    kernels::generic::normalize(h, step.stream, step.out, begin, end);
    h = as_const(step.stream);
  }
  if constexpr (Step::has_pre) {
    kernels::generic::normalize(h, step.normed, step.pre, begin, end);
  }
}

template <class S, class Post, class Out, class Pre, class E>
void run_step(const ResidualStep<S, Post, Out, Pre>& step, E& executor) {
  executor.parallel_for(step.h.tokens, token_grain(step.h.channels), [&](Index begin, Index end) {
    if constexpr (NativeScalar<S>) {
      run_rows(step, begin, end);
    } else {
      run_generic(step, begin, end);
    }
  });
}

}  // namespace tokennorm::detail
