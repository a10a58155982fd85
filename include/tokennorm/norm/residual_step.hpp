// SPDX-License-Identifier: MIT
/// What happens between two sublayers, forward, over contiguous rows:
///
///     h ← α·h + Σₖ sₖ∘postₖ(updateₖ)
///     h ← out(h)
///     nⱼ ← preⱼ(h)
///
/// s is nothing, or a number, a vector of channels, a number for each token, or several of these.
/// post is a norm on the update, out a norm on the stream, pre the norms before the sublayers that
/// follow; or nothing.
///
/// Each row is read once, normalized while it is in L1 or L2, and each result is written once. What
/// is there and what is not is data: a step is compiled once for each pair of scalars. S is that of
/// the stream, U that of the sublayers.
#pragma once

#include "tokennorm/norm/step_norm.hpp"

#include <algorithm>
#include <array>
#include <type_traits>

namespace tokennorm::detail {

/// What a connection adds to the stream in a step. Not initialized, like all of which there may be
/// two.
template <class S, class U>
struct StepUpdate {
  using A = Accumulator<S, U>;
  StepRows<const U> value;
  kernels::Factors<A> factors;
  StepNorm<A, U, U> post;
  StepRows<U> posted;  // post(value), where it needs a place; it may be value's

  /// Whether the norm's result is not added in the norm.
  bool needs_posted() const {
    return post && (factors.are_given() || !std::is_same_v<S, U> || !NativeScalar<A>);
  }
};

/// The norms that read the stream after a step: one that ends a stack, or those of the connection
/// that follows. In mixed precision a sublayer without a norm is given a copy in its scalar.
template <class S, class U>
struct StepReaders {
  using A = Accumulator<S, U>;
  StepNorm<A, S, S> last{};
  std::array<StepNorm<A, S, U>, 2> pre;
  int count = 0;  // of pre
  bool copies = false;

  StepReaders() {}  // pre stays as it is
  bool has_norms() const { return count > 0 || last; }
  bool is_divided() const {
    return last.is_divided() || (count > 0 && pre[0].is_divided()) ||
           (count > 1 && pre[1].is_divided());
  }
};

template <class S, class U>
struct ResidualStep {
  using A = Accumulator<S, U>;

  Index tokens = 0, channels = 0;
  StepRows<const S> h{};
  double alpha = 1;
  std::array<StepUpdate<S, U>, 2> updates;
  int update_count = 0;
  StepNorm<A, S, S> out{};
  StepReaders<S, U> readers;
  StepRows<S> sum{};                  // α·h + Σ …; null: not wanted, where it is fused
  StepRows<S> stream;                 // out(h)
  StepRows<S> result;                 // of readers.last
  std::array<StepRows<U>, 2> normed;  // of readers.pre, or the copy

  ResidualStep() {}  // what is not used stays as it is

  /// Whether the last update can be added in the norm that reads the sum.
  bool is_fused() const {
    if constexpr (!std::is_same_v<S, U> || !NativeScalar<A>) {
      return false;
    } else {
      if (update_count == 0 || !(out || readers.has_norms())) return false;
      const auto& last = updates[static_cast<std::size_t>(update_count - 1)];
      return !last.post && !last.factors.are_given();
    }
  }
  /// Whether the sum needs a place, to be made in or to be read again.
  bool needs_sum() const {
    return update_count > 0 && !(is_fused() && update_count == 1 && (out || readers.last));
  }
  /// Whether a norm's channels are divided, so that all rows are worked on at once.
  bool is_divided() const {
    bool is_any = out.is_divided() || readers.is_divided();
    for (int i = 0; i < update_count; ++i) {
      is_any = is_any || updates[static_cast<std::size_t>(i)].post.is_divided();
    }
    return is_any;
  }
  bool is_empty() const {
    return update_count == 0 && !out && !readers.has_norms() && !readers.copies;
  }
};

/// sum = α·residual + s∘x; without a residual s∘x.
template <class A, class H, class X, class S>
void add_rows(const TokenView<const H>& residual, double alpha, const TokenView<const X>& x,
              const kernels::Factors<A>& factors, const TokenView<S>& sum, Index begin, Index end) {
  if constexpr (NativeScalar<A>) {
    kernels::add_rows<A>(residual, x, static_cast<A>(alpha), factors, sum, begin, end);
  } else {
    kernels::generic::add(residual, x, A(alpha), factors, sum, begin, end);
  }
}

/// Rows [begin, end) of a step, one sweep after the other.
template <class S, class U>
void run_sweeps(const ResidualStep<S, U>& step, Index begin, Index end) {
  using A = Accumulator<S, U>;
  const Index tokens = step.tokens, channels = step.channels;
  // What is read next: x, or α·residual + x, which is kept in `sum` if that is wanted.
  StepRows<const S> x = step.h, residual{};
  double alpha = step.alpha;
  const bool has_next = step.out || step.readers.has_norms();
  for (int i = 0; i < step.update_count; ++i) {
    const auto& update = step.updates[static_cast<std::size_t>(i)];
    StepRows<const U> value = update.value;
    if (update.post) {
      if constexpr (std::is_same_v<S, U>) {
        if (!update.needs_posted()) {
          update.post.run({tokens, channels, value, x, A(alpha), {}, step.sum, true, has_next},
                          begin, end);
          x = step.sum;
          alpha = 1;
          continue;
        }
      }
      update.post.run({tokens, channels, value, {}, A(1), {}, update.posted, false, true}, begin,
                      end);
      value = update.posted;
    }
    if constexpr (std::is_same_v<S, U>) {
      if (i + 1 == step.update_count && step.is_fused()) {
        residual = x;
        x = value;
        break;
      }
    }
    add_rows<A>(x.view(tokens, channels), alpha, value.view(tokens, channels), update.factors,
                step.sum.view(tokens, channels), begin, end);
    x = step.sum;
    alpha = 1;
  }
  const auto normalize = [&](const auto& norm, const auto& y, bool is_read_next) {
    const StepRows<S> sum = residual.data != nullptr ? step.sum : StepRows<S>{nullptr, 0};
    norm.run({tokens, channels, x, residual, A(alpha), sum, y, false, is_read_next}, begin, end);
    if (residual.data != nullptr) x = step.sum;
    residual = {nullptr, 0};
  };
  if (step.out) {
    normalize(step.out, step.stream, step.readers.has_norms());
    x = step.stream;
  }
  if (step.readers.last) normalize(step.readers.last, step.result, false);
  for (int j = 0; j < step.readers.count; ++j) {
    const auto at = static_cast<std::size_t>(j);
    normalize(step.readers.pre[at], step.normed[at], j + 1 < step.readers.count);
  }
  if constexpr (!std::is_same_v<S, U>) {
    if (step.readers.copies) {
      add_rows<A, S>({}, 1, x.view(tokens, channels), {}, step.normed[0].view(tokens, channels),
                     begin, end);
    }
  }
}

/// Rows [begin, end) of a step. Within a row several sweeps are one long chain, in which each waits
/// for the one before: each is done over some rows, which stay in L2.
template <class S, class U>
void run_rows(const ResidualStep<S, U>& step, Index begin, Index end) {
  if (end - begin == 1) return run_sweeps(step, begin, end);
  int sweeps = int{bool(step.out)} + int{bool(step.readers.last)} + step.readers.count +
               int{step.readers.copies} + step.update_count - int{step.is_fused()};
  for (int i = 0; i < step.update_count; ++i) {
    sweeps += step.updates[static_cast<std::size_t>(i)].needs_posted();
  }
  if (sweeps < 2) return run_sweeps(step, begin, end);
  constexpr Index block_bytes = 64 << 10;
  const Index row_bytes = step.channels * Index{sizeof(S)};
  Index rows = std::max<Index>(block_bytes / row_bytes, 1);
  if (rows > kernels::rows_together) rows -= rows % kernels::rows_together;
  for (Index t = begin; t < end; t += rows) run_sweeps(step, t, std::min(end, t + rows));
}

template <class S, class U, class E>
void run_step(const ResidualStep<S, U>& step, E& executor) {
  step.out.start(step.tokens);
  step.readers.last.start(step.tokens);
  for (std::size_t j = 0; j < static_cast<std::size_t>(step.readers.count); ++j) {
    step.readers.pre[j].start(step.tokens);
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(step.update_count); ++i) {
    step.updates[i].post.start(step.tokens);
  }
  if (step.is_divided()) return run_sweeps(step, 0, step.tokens);
  executor.parallel_for(step.tokens, token_grain(step.channels),
                        [&](Index begin, Index end) { run_rows(step, begin, end); });
}

}  // namespace tokennorm::detail
