// SPDX-License-Identifier: MIT
/// The residual stream on its way through a chain of connections: where h, the inputs of sublayers
/// and their updates are, and what is saved for a backward. What a step does is in
/// norm/residual_step.hpp and norm/backward_step.hpp.
#pragma once

#include "tokennorm/block/records.hpp"
#include "tokennorm/block/sublayer.hpp"

#include <algorithm>
#include <array>
#include <type_traits>

namespace tokennorm::detail {

/// The view of a buffer, given its shape.
template <class Scalar>
TokenView<Scalar> shaped(TokenMatrix<Scalar>& buffer, Index tokens, Index channels) {
  buffer.resize(tokens, channels);
  return view_of(buffer);
}

/// The stream of an inference.
template <class S, class U>
class Inference {
 public:
  /// `matrix` is x where it is one, which a sublayer can take.
  Inference(const TokenView<const S>& x, const TokenMatrix<S>* matrix, Workspace<S, U>& workspace,
            const TokenView<S>& result)
      : h_(x), matrix_(matrix), workspace_(workspace), result_(result) {}

  /// What the sublayer of that branch is given.
  template <class Pre>
  const TokenMatrix<U>& input(int branch) {
    if constexpr (is_norm<Pre>) {
      return branch == 0 ? workspace_.normed : workspace_.second_normed;
    } else if constexpr (std::is_same_v<S, U> && !std::is_same_v<Pre, SameNorm>) {
      if (matrix_ != nullptr) return *matrix_;
      workspace_.normed.resize(h_.tokens, h_.channels);
      for (Index t = 0; t < h_.tokens; ++t) {
        std::copy_n(h_.row(t), h_.channels, workspace_.normed.row(t).data());
      }
      return workspace_.normed;
    } else {
      return workspace_.normed;
    }
  }
  TokenMatrix<U>& update(int branch) {
    return branch == 0 ? workspace_.update : workspace_.second_update;
  }

  /// Finds the places of a step's results, and runs it. The last one writes the result.
  template <class E>
  void run(ResidualStep<S, U>& step, bool is_last, E& executor) {
    const Index tokens = h_.tokens, channels = h_.channels;
    const bool has_last_norm = bool(step.readers.last);
    const bool ends_in_result = is_last && !has_last_norm;
    step.tokens = tokens;
    step.channels = channels;
    step.h = h_;
    if (step.is_empty()) return;
    if (step.needs_sum()) {
      step.sum =
          ends_in_result && !step.out ? result_ : shaped(workspace_.stream, tokens, channels);
    }
    if (step.out) {
      step.stream = ends_in_result ? result_ : shaped(workspace_.stream, tokens, channels);
    }
    if (has_last_norm) step.result = result_;
    if (step.readers.count > 0 || step.readers.copies) {
      step.normed[0] = shaped(workspace_.normed, tokens, channels);
    }
    if (step.readers.count > 1) {
      step.normed[1] = shaped(workspace_.second_normed, tokens, channels);
    }
    run_step(step, executor);
    if (!is_last && (step.out || step.update_count > 0)) {
      h_ = as_const(view_of(workspace_.stream));
      matrix_ = &workspace_.stream;
    }
  }

 private:
  TokenView<const S> h_;  // x first, then workspace.stream
  const TokenMatrix<S>* matrix_;
  Workspace<S, U>& workspace_;
  TokenView<S> result_;
};

/// The stream of a training. What is saved of it is written where it is saved in the first place,
/// and read there by the next step.
template <class S, class U>
class Training {
 public:
  Training(SavedForward<S, U>& saved, const TokenView<S>& result)
      : saved_(saved), result_(result) {}

  /// What the step that comes next saves.
  SavedStep<S, U>& next() { return saved_.steps[next_]; }
  Index tokens() const { return saved_.tokens; }

  template <class Pre>
  const TokenMatrix<U>& input(int branch) {
    if constexpr (is_norm<Pre>) {
      return saved_.normed[static_cast<std::size_t>(branch)];
    } else if constexpr (std::is_same_v<S, U> && !std::is_same_v<Pre, SameNorm>) {
      return *h_;
    } else {
      return saved_.normed[0];
    }
  }
  TokenMatrix<U>& update(int branch) { return saved_.update[static_cast<std::size_t>(branch)]; }

  /// The first step: x, in the stream's scalar, is copied to where it is saved.
  template <class X, class E>
  void start(const X& x, ResidualStep<S, U>& step, E& executor) {
    TokenMatrix<S>& place = step.out ? next().sum : place_of_stream(step);
    copy_tokens(x, place);
    h_ = &place;
    run(step, false, executor);
  }

  template <class E>
  void run(ResidualStep<S, U>& step, bool is_last, E& executor) {
    const Index tokens = saved_.tokens, channels = saved_.channels;
    const bool ends_in_result = is_last && !step.readers.last && result_.data != nullptr;
    TokenMatrix<S>& place = place_of_stream(step);
    step.tokens = tokens;
    step.channels = channels;
    step.h = as_const(view_of(*h_));
    const auto stream = [&] { return ends_in_result ? result_ : shaped(place, tokens, channels); };
    if (step.update_count > 0)
      step.sum = step.out ? shaped(next().sum, tokens, channels) : stream();
    if (step.out) step.stream = stream();
    if (step.readers.last) step.result = result_;
    for (int j = 0; j < std::max(step.readers.count, int{step.readers.copies}); ++j) {
      const auto at = static_cast<std::size_t>(j);
      step.normed[at] = shaped(saved_.normed[at], tokens, channels);
    }
    if (!step.is_empty()) run_step(step, executor);
    if (step.out || step.update_count > 0) h_ = &place;
    ++next_;
  }

 private:
  /// Where h is after a step: where the norms that read it save it.
  TokenMatrix<S>& place_of_stream(const ResidualStep<S, U>& step) {
    return step.readers.has_norms() ? next().stream : saved_.stream;
  }

  SavedForward<S, U>& saved_;
  TokenView<S> result_;
  const TokenMatrix<S>* h_ = nullptr;
  std::size_t next_ = 0;
};

/// The gradient of the stream on its way back.
template <class S, class U, class Param>
class TrainingBackward {
 public:
  /// dh is in saved.dh, or zero where a norm ends the chain.
  TrainingBackward(SavedForward<S, U>& saved, bool has_dh)
      : saved_(saved), has_dh_(has_dh), now_(saved.steps.size() - 1) {}

  /// What the step that is gone back through has saved.
  SavedStep<S, U>& now() { return saved_.steps[now_]; }
  SavedForward<S, U>& saved() { return saved_; }
  /// The buffer for the gradient of an update, and that for a sublayer's input.
  TokenMatrix<U>& du(std::size_t branch) { return saved_.update[branch]; }
  TokenView<U> shaped_du(std::size_t branch) {
    return shaped(saved_.update[branch], saved_.tokens, saved_.channels);
  }
  TokenMatrix<U>& dn(std::size_t branch) { return saved_.normed[branch]; }
  const TokenMatrix<S>& dh() const { return saved_.dh; }

  /// Goes back through a step, to dh in saved.dh, or to `dx` if that is not null.
  template <class E>
  void run(BackwardStep<S, U, Param>& step, const TokenView<S>& dx, E& executor) {
    if (has_dh_) step.dh = as_const(view_of(saved_.dh));
    step.alpha = alpha_;
    step.stream = as_const(view_of(now().stream));
    step.sum = as_const(view_of(now().sum));
    for (std::size_t j = 0; j < step.readers.dn.size(); ++j) {
      if (step.readers.reads(j)) step.readers.dn[j] = view_of(saved_.normed[j]);
    }
    step.dsum = dx.data != nullptr ? dx : shaped(saved_.dh, saved_.tokens, saved_.channels);
    run_backward_step(step, executor);
    has_dh_ = true;
  }
  /// Before the sublayers of a connection.
  void enter_connection(double alpha) {
    alpha_ = alpha;
    --now_;
  }

 private:
  SavedForward<S, U>& saved_;
  bool has_dh_;
  double alpha_ = 1;  // what dh is still to be multiplied by; the connection below says it
  std::size_t now_;
};

}  // namespace tokennorm::detail
