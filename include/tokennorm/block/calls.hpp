// SPDX-License-Identifier: MIT
/// The calls that residual connections, blocks and stacks have in common.
#pragma once

#include "tokennorm/block/residual_stream.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace tokennorm::detail {

/// Derived has `who()`, `each_norm(self, f)`, which calls f(StepNorm, NormPlace), and, private to
/// it,
///     infer(stream, result, executor) const    the stream to its end, into the view `result`
///     train(h, buffers, executor)              h from input to output, saving
///     backward_pass(dh, buffers, executor)           dh from the output's gradient to the input's
template <class Derived, class Param>
class BlockCalls {
 public:
  using ParamScalar = Param;

  // Inference.
  template <class X>
  auto operator()(const X& x) const {
    return (*this)(x, serial);
  }
  template <class X, Executor E>
  auto operator()(const X& x, E&& executor) const {
    check_operand_type<X, Eigen::Dynamic>();
    PlainLike<X, ScalarOf<X>> y;
    (*this)(x, y, executor);
    return y;
  }
  template <class X, class Y>
  requires(!Executor<Y>) void operator()(const X& x, Y&& y) const {
    (*this)(x, std::forward<Y>(y), serial);
  }
  template <class X, class Y, Executor E>
  void operator()(const X& x, Y&& y, E&& executor) const {
    check_operand_type<X, Eigen::Dynamic>();
    Workspace<ScalarOf<X>> workspace;
    (*this)(x, std::forward<Y>(y), workspace, executor);
  }
  template <class X, class Y, class S, Executor E = const Serial&>
  void operator()(const X& x, Y&& y, Workspace<S>& workspace, E&& executor = serial) const;

  // Training, in Param.
  template <class X, Executor E = const Serial&>
  auto forward(const X& x, E&& executor = serial);
  template <class DY, Executor E = const Serial&>
  auto backward(const DY& dy, E&& executor = serial);

 protected:
  void check_channels_of_norms(Who who) const {
    Derived::each_norm(derived(),
                       [&](const auto& step, NormPlace place) { step.check_channels(who, place); });
  }

 private:
  struct Memory {
    ForwardId forward = 0;  // the last one, until it is used up or replaced
    Index tokens = 0, channels = 0;
    TrainingBuffers<Param> buffers;
  };

  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  Derived& derived() { return static_cast<Derived&>(*this); }

  /// Norms and blocks may have been replaced since the last call.
  void check_norms(Who who) const {
    check_channels_of_norms(who);
    Derived::each_norm(derived(), [](const auto& step, NormPlace) { step.check_parameters(); });
  }

  SavedForBackward<Memory> memory_;
};

/// Rows of a buffer into an operand of any kind and strides.
template <class Scalar, class Y>
void copy_to_operand(const TokenMatrix<Scalar>& from, Y& y) {
  const auto to = view_of(y);
  using Element = ScalarOf<Y>;
  for (Index t = 0; t < to.tokens; ++t) {
    for (Index c = 0; c < to.channels; ++c) {
      to.data[t * to.token_stride + c * to.channel_stride] = static_cast<Element>(from(t, c));
    }
  }
}

/// A buffer as an operand of the kind of X.
template <class X, class Scalar>
auto as_operand(Who who, TokenMatrix<Scalar>&& from) {
  using Y = PlainLike<X, Scalar>;
  if constexpr (std::is_same_v<Y, TokenMatrix<Scalar>>) {
    return std::move(from);
  } else {
    Y y;
    Output(who, "the result", y, from.rows(), from.cols()).take();
    copy_to_operand(from, y);
    return y;
  }
}

template <class Derived, class Param>
template <class X, class Y, class S, Executor E>
void BlockCalls<Derived, Param>::operator()(const X& x, Y&& y, Workspace<S>& workspace,
                                            E&& executor) const {
  check_operand_type<X, Eigen::Dynamic>();
  check_output_type<Y, Eigen::Dynamic>();
  static_assert(std::is_same_v<S, ScalarOf<X>>,
                "tokennorm: the Workspace has another scalar than x. The residual stream has x's "
                "scalar: give a Workspace<typename X::Scalar>.");
  const Who who = derived().who();
  const auto& operand = addressable(x);
  const auto in = as_const(view_of(operand));
  check_norms(who);
  check_channels(who, "x", in);
  const Index tokens = in.tokens, channels = in.channels;
  const Output output(who, "y", y, tokens, channels);
  output.check_apart("x", in);
  for (TokenMatrix<S>* buffer : {&workspace.stream, &workspace.normed, &workspace.update}) {
    check_overlap(who, "x", in, "the workspace", view_of(*buffer), false);
    output.check_apart("the workspace", view_of(*buffer), false);
  }
  Derived::each_norm(derived(),
                     [&](const auto& step, NormPlace) { step.check_output(output.view()); });
  output.take();

  // Blocks work on contiguous rows; what is not is copied at the border.
  Stream<S> stream{in, nullptr, workspace};
  if constexpr (std::is_same_v<Bare<decltype(operand)>, TokenMatrix<S>>) {
    stream.h_matrix = &operand;
  } else if constexpr (layout_of<decltype(operand)> != Layout::rows) {
    copy_tokens(operand, workspace.stream);
    stream.h = as_const(view_of(workspace.stream));
    stream.h_matrix = &workspace.stream;
  }
  if constexpr (layout_of<Y> == Layout::rows) {
    derived().infer(stream, view_of(y), executor);
  } else {
    derived().infer(stream, shaped(workspace.stream, tokens, channels), executor);
    copy_to_operand(workspace.stream, y);
  }
}

template <class Derived, class Param>
template <class X, Executor E>
auto BlockCalls<Derived, Param>::forward(const X& x, E&& executor) {
  check_operand_type<X, Eigen::Dynamic>();
  memory_->forward = 0;  // nothing to go back from where this throws
  const Who who = derived().who();
  const auto& operand = addressable(x);
  check_norms(who);
  check_channels(who, "x", view_of(operand));
  TokenMatrix<Param> h;
  copy_tokens(operand, h);
  const ForwardId forward = new_forward_id();
  Derived::each_norm(derived(), [&](auto& step, NormPlace) {
    if constexpr (is_norm<decltype(step.norm)>) step.memory->forward = forward;
  });
  derived().train(h, memory_->buffers, executor);
  memory_->tokens = h.rows();
  memory_->channels = h.cols();
  memory_->forward = forward;
  return as_operand<X>(who, std::move(h));
}

template <class Derived, class Param>
template <class DY, Executor E>
auto BlockCalls<Derived, Param>::backward(const DY& dy, E&& executor) {
  check_operand_type<DY, Eigen::Dynamic>();
  const ForwardId forward = memory_->forward;
  if (forward == 0) fail_backward_first(derived().who());
  const Who who{derived().who().name, memory_->channels};
  const auto& operand = addressable(dy);
  check_norms(who);
  Derived::each_norm(derived(), [&](auto& step, NormPlace) { step.check_backward(who, forward); });
  check_shape(who, "dy", view_of(operand), memory_->tokens, memory_->channels);
  TokenMatrix<Param> dh;
  copy_tokens(operand, dh);
  memory_->forward = 0;  // used up, also where this throws half-way
  derived().backward_pass(dh, memory_->buffers, executor);
  return as_operand<DY>(who, std::move(dh));
}

}  // namespace tokennorm::detail
