// SPDX-License-Identifier: MIT
/// The residual stream h, and the one step by which every placement changes it. Between two
/// sublayers:
///
///     h ← α·h + post(update)      post: a norm on the update, or nothing
///     h ← out(h)                  out:  a norm on the stream, or nothing
///     n ← pre(h)                  pre:  the next sublayer's input norm, or nothing
///
/// A ResidualConnection is a sublayer with its norms and its α: all there is to say of a placement.
/// A chain of connections is run by alternating sublayers and steps.
#pragma once

#include "tokennorm/block/sublayer.hpp"
#include "tokennorm/norm/layer_norm.hpp"
#include "tokennorm/norm/residual_step.hpp"
#include "tokennorm/norm/rms_norm.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm {

/// Leaves a norm out.
struct NoNorm {};

/// The buffers of a block's inference. Kept between calls of the same shape, it saves their
/// allocation; it may serve any number of blocks in turn, but only one call at a time.
template <class Scalar>
struct Workspace {
  TokenMatrix<Scalar> stream;  // h, between the sublayers
  TokenMatrix<Scalar> normed;  // n, the input of a sublayer
  TokenMatrix<Scalar> update;  // the result of a sublayer
};

namespace detail {

/// Tells one forward pass from every other. A norm in a stack is reached by the stack's forward and
/// by its block's own: a backward asks whether what was saved for it is of the same pass. 0 is
/// none.
using ForwardId = std::uint64_t;
inline ForwardId new_forward_id() {
  static std::atomic<ForwardId> last{0};
  return ++last;
}

/// Where a norm stands, in errors: "attention_norm", or in a stack "block 3's attention_norm".
struct NormPlace {
  const char* name;
  Index block = -1;
};

/// "PreLN(768): attention_norm has 512 channels; expected 768"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_norm_channels(Who who, NormPlace norm,
                                                                      Index channels) {
  if (norm.block < 0) {
    fail(who, {norm.name, " has ", channels, " channels; expected ", who.channels});
  }
  fail(who, {"block ", norm.block, "'s ", norm.name, " has ", channels, " channels; expected ",
             who.channels});
}

/// A norm, and what its forward left for its backward: its input and the statistics.
template <class NormType>
struct StepNorm {
  using Scalar = typename NormType::ParamScalar;
  using Statistic = Accumulator<Scalar>;
  struct Memory {
    ForwardId forward = 0;
    TokenMatrix<Scalar> x;
    TokenStatistics<Statistic> stats;
  };

  StepNorm(NormType&& n) : norm(std::move(n)) {}

  /// Fails unless the norm has the channels of `who`.
  void check_channels(Who who, NormPlace place) const {
    if (norm.channels() != who.channels) [[unlikely]]
      fail_norm_channels(who, place, norm.channels());
  }
  void check_parameters() const { Internals::check_parameters(norm); }
  /// Fails where the block's output stands in the parameters.
  template <class T>
  void check_output(const TokenView<T>& y) const {
    Internals::check_output(norm, y);
  }
  /// Fails unless this can go back from that forward; gives the gradients their size.
  void check_backward(Who who, ForwardId forward) {
    if (memory->forward != forward) [[unlikely]]
      fail_backward_first(who);
    norm.gradients();
  }

  /// For inference.
  template <class Activation>
  auto arguments() const {
    using A = Accumulator<Activation>;
    return Internals::arguments<A>(norm, static_cast<TokenStatistics<A>*>(nullptr));
  }
  /// For training: the statistics are kept.
  auto saving_arguments(Index tokens) {
    Internals::size_statistics(norm, memory->stats, tokens);
    return Internals::arguments<Statistic>(norm, &memory->stats);
  }

  /// dx = dskip + the gradient of dy through the norm.
  template <class E>
  void backpropagate_sum(const TokenMatrix<Scalar>& dy, const TokenMatrix<Scalar>& dskip,
                         TokenMatrix<Scalar>& dx, E& executor) {
    norm.backpropagate_sum(memory->x, memory->stats, dy, dskip, dx, norm.gradients(), executor);
  }
  template <class E>
  void backpropagate(const TokenMatrix<Scalar>& dy, TokenMatrix<Scalar>& dx, E& executor) {
    norm.backpropagate(memory->x, memory->stats, dy, dx, norm.gradients(), executor);
  }
  /// dx = the gradient of dx + dy through the norm.
  template <class E>
  void backpropagate_with(const TokenMatrix<Scalar>& dy, TokenMatrix<Scalar>& dx, E& executor) {
    Internals::backpropagate_with(norm, memory->x, memory->stats, dy, dx, norm.gradients(),
                                  executor);
  }

  NormType norm;
  SavedForBackward<Memory> memory;
};

template <>
struct StepNorm<NoNorm> {
  StepNorm(NoNorm = {}) {}
  static void check_channels(Who, NormPlace) {}
  static void check_parameters() {}
  static void check_output(const auto&) {}
  static void check_backward(Who, ForwardId) {}
  template <class>
  NoNormArguments arguments() const {
    return {};
  }
  NoNormArguments saving_arguments(Index) { return {}; }
  [[no_unique_address]] NoNorm norm;
};

template <class NormType>
inline constexpr bool is_norm = !std::is_same_v<std::remove_cvref_t<NormType>, NoNorm>;

/// Whether the parameters are of that scalar, in which a block is trained.
template <class NormType, class Param>
inline constexpr bool trains_in = std::is_same_v<typename NormType::ParamScalar, Param>;
template <class Param>
inline constexpr bool trains_in<NoNorm, Param> = true;

/// One residual connection: x + f(x), with the norms that stand around it.
template <class Pre, class F, class Post, class Out>
struct ResidualConnection {
  using PreNorm = Pre;
  using PostNorm = Post;
  using OutNorm = Out;

  StepNorm<Pre> pre;
  F sublayer;
  StepNorm<Post> post;
  StepNorm<Out> out;
  double alpha = 1;

  static constexpr bool has_norm = is_norm<Pre> || is_norm<Out>;
  /// The norm on the stream, before the sublayer or after the sum; placements have one or none.
  auto& norm() {
    if constexpr (is_norm<Pre>) {
      return pre.norm;
    } else {
      return out.norm;
    }
  }
  const auto& norm() const { return const_cast<ResidualConnection&>(*this).norm(); }
};

// ---- the step -----------------------------------------------------------------------------------

/// The stream of an inference on its way through a chain.
template <class S>
struct Stream {
  using Scalar = S;
  TokenView<const Scalar> h;            // the input x first, then workspace.stream
  const TokenMatrix<Scalar>* h_matrix;  // the same where it is a matrix, which a sublayer can take
  Workspace<Scalar>& workspace;

  /// What the sublayer of a connection with this input norm is given.
  template <class Pre>
  const TokenMatrix<Scalar>& sublayer_input() {
    if constexpr (is_norm<Pre>) {
      return workspace.normed;
    } else {
      if (h_matrix != nullptr) return *h_matrix;
      workspace.normed.resize(h.tokens, h.channels);
      for (Index t = 0; t < h.tokens; ++t) {
        std::copy_n(h.row(t), h.channels, workspace.normed.row(t).data());
      }
      return workspace.normed;
    }
  }
};

/// The view of a buffer, given its shape.
template <class Scalar>
TokenView<Scalar> shaped(TokenMatrix<Scalar>& buffer, Index tokens, Index channels) {
  buffer.resize(tokens, channels);
  return view_of(buffer);
}

/// h ← α·h + post(update), h ← out(h), n ← next(h), in inference. With a result, the last of these
/// goes there; else h and n go to the workspace.
template <class S, class Update, class Post, class Out, class Next, class Result, class E>
void advance(Stream<S>& stream, const Update& update, double alpha, const StepNorm<Post>& post,
             const StepNorm<Out>& out, const StepNorm<Next>& next, const Result& result,
             E& executor) {
  constexpr bool last = is_present<Result>;
  constexpr bool has_out = is_norm<Out>, has_next = is_norm<Next>;
  const Index tokens = stream.h.tokens, channels = stream.h.channels;
  Workspace<S>& workspace = stream.workspace;
  TokenView<const S> u;
  TokenView<S> sum, stream_out, normed;
  if constexpr (is_present<Update>) {
    u = update;
    if constexpr (!is_norm<Post> && (has_out || (last && has_next))) {
      // Read again at once: not worth a place in memory.
    } else if constexpr (last && !has_out && !has_next) {
      sum = result;
    } else {
      sum = shaped(workspace.stream, tokens, channels);
    }
  }
  if constexpr (has_out && last && !has_next) {
    stream_out = result;
  } else if constexpr (has_out) {
    stream_out = shaped(workspace.stream, tokens, channels);
  }
  if constexpr (has_next && last) {
    normed = result;
  } else if constexpr (has_next) {
    normed = shaped(workspace.normed, tokens, channels);
  }
  run_step(
      ResidualStep{stream.h, u, alpha, post.template arguments<S>(), out.template arguments<S>(),
                   next.template arguments<S>(), sum, stream_out, normed},
      executor);
  if constexpr (!last && (has_out || is_present<Update>)) {
    stream.h = as_const(view_of(workspace.stream));
    stream.h_matrix = &workspace.stream;
  }
}

/// The buffers of a training, kept between its calls: new memory costs more than what is done in
/// it.
template <class S>
struct TrainingBuffers {
  TokenMatrix<S> normed;  // n, the input of a sublayer
  TokenMatrix<S> update;  // the result of a sublayer, or its gradient
};

/// The stream of a training on its way through a chain. What is saved of it for a backward is
/// written to that norm's memory in the first place, and read there by the next step. A place that
/// the stream is not in may hold anything: a step gives it its shape.
template <class S>
class TrainingStream {
 public:
  explicit TrainingStream(TokenMatrix<S>& own) : own_(&own), now_(&own) {}

  const TokenMatrix<S>& h() const { return *now_; }
  /// Moves the stream, still where it started, to a norm's memory.
  void move_to(TokenMatrix<S>& memory) {
    memory.swap(*own_);
    now_ = &memory;
  }
  /// Where the stream will be after a step; `next` is the norm that reads it, if one does.
  template <class Next>
  TokenMatrix<S>& place(StepNorm<Next>& next) {
    if constexpr (is_norm<Next>) {
      return next.memory->x;
    } else {
      return *own_;
    }
  }
  /// Where the sum will be that `out`, if there is one, normalizes on its way there.
  template <class Out>
  static TokenMatrix<S>& place_of_sum(StepNorm<Out>& out, TokenMatrix<S>& place) {
    if constexpr (is_norm<Out>) {
      return out.memory->x;
    } else {
      return place;
    }
  }
  void is_now_in(TokenMatrix<S>& place) { now_ = &place; }

 private:
  TokenMatrix<S>* own_;
  TokenMatrix<S>* now_;
};

/// The same in training: everything a backward pass needs is saved by the norm that needs it;
/// a norm on the update takes the update's memory. `n` becomes the next sublayer's input where a
/// norm stands before it.
template <class S, class Update, class Post, class Out, class Next, class E>
void forward_step(TrainingStream<S>& stream, Update& update, double alpha, StepNorm<Post>& post,
                  StepNorm<Out>& out, StepNorm<Next>& next, TokenMatrix<S>& n, E& executor) {
  constexpr bool has_out = is_norm<Out>, has_next = is_norm<Next>;
  const Index tokens = stream.h().rows(), channels = stream.h().cols();
  TokenView<const S> u;
  if constexpr (!is_present<Update>) {
    stream.move_to(has_out ? stream.place(out) : stream.place(next));
  } else if constexpr (is_norm<Post>) {
    post.memory->x.swap(update);
    u = as_const(view_of(post.memory->x));
  } else {
    u = as_const(view_of(update));
  }
  const auto h = as_const(view_of(stream.h()));
  TokenMatrix<S>& place = stream.place(next);
  TokenView<S> sum, stream_out, normed;
  if constexpr (is_present<Update>) {
    sum = shaped(stream.place_of_sum(out, place), tokens, channels);
  }
  if constexpr (has_out) stream_out = shaped(place, tokens, channels);
  if constexpr (has_next) normed = shaped(n, tokens, channels);
  run_step(ResidualStep{h, u, alpha, post.saving_arguments(tokens), out.saving_arguments(tokens),
                        next.saving_arguments(tokens), sum, stream_out, normed},
           executor);
  stream.is_now_in(place);
}

/// The start of a chain: h ← embedding(x), n ← first(h).
template <class S, class Embedding, class First, class E>
void enter(Stream<S>& stream, const StepNorm<Embedding>& embedding, const StepNorm<First>& first,
           E& executor) {
  if constexpr (is_norm<Embedding> || is_norm<First>) {
    advance(stream, Absent{}, 1, StepNorm<NoNorm>{}, embedding, first, Absent{}, executor);
  }
}

template <class S, class Embedding, class First, class E>
void enter_forward(TrainingStream<S>& stream, StepNorm<Embedding>& embedding,
                   StepNorm<First>& first, TokenMatrix<S>& n, E& executor) {
  StepNorm<NoNorm> none;
  if constexpr (is_norm<Embedding> || is_norm<First>) {
    constexpr Absent no_update;
    forward_step(stream, no_update, 1, none, embedding, first, n, executor);
  }
}

/// The gradient of what a step does to the stream, or of enter, with the embedding norm as `out`.
/// In: dh, of the stream after it, and dn, of the next sublayer's input; one that is empty is zero.
/// Out: dh, of the sum α·h + post(update).
template <class S, class Out, class Next, class E>
void backward_step(TokenMatrix<S>& dh, const TokenMatrix<S>& dn, StepNorm<Out>& out,
                   StepNorm<Next>& next, E& executor) {
  if constexpr (is_norm<Next>) {
    if (dh.size() == 0) {
      next.backpropagate(dn, dh, executor);
    } else {
      next.backpropagate_sum(dn, dh, dh, executor);
    }
  } else if (dn.size() != 0) {
    if constexpr (is_norm<Out>) {
      return out.backpropagate_with(dn, dh, executor);
    } else {
      dh += dn;
    }
  }
  if constexpr (is_norm<Out>) out.backpropagate(dh, dh, executor);
}

}  // namespace detail
}  // namespace tokennorm
