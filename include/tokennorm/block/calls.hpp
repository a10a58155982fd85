// SPDX-License-Identifier: MIT
/// The calls that residual connections, blocks and stacks have in common.
#pragma once

#include "tokennorm/block/residual_stream.hpp"
#include "tokennorm/core/saved_for_backward.hpp"

#include <atomic>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace tokennorm::detail {

/// Tells one forward from every other. A block of a stack is reached by the stack's forward and by
/// its own: a backward asks whether its forward was the last. 0 is none.
using ForwardId = std::uint64_t;
inline ForwardId new_forward_id() {
  static std::atomic<ForwardId> last{0};
  return ++last;
}

/// Where a norm stands, in errors: "attention_norm", or in a stack "block 3's attention_norm".
struct NormPlace {
  const char* part;  // "attention", or empty
  const char* what;  // "norm", "output_norm"
  Index block = -1;
};

/// "PreLN(768): attention_norm has 512 channels; expected 768"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_norm_channels(Who who, NormPlace norm,
                                                                      Index channels) {
  const char* const joint = *norm.part == '\0' ? "" : "_";
  if (norm.block < 0) {
    fail(who,
         {norm.part, joint, norm.what, " has ", channels, " channels; expected ", who.channels});
  }
  fail(who, {"block ", norm.block, "'s ", norm.part, joint, norm.what, " has ", channels,
             " channels; expected ", who.channels});
}

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

/// Whether a result can be written where it belongs.
template <class Y, class Scalar>
inline constexpr bool takes_rows =
    layout_of<Y> == Layout::rows&& std::is_same_v<ScalarOf<Y>, Scalar>;

/// The checks of a call, until they have passed. Where the norm that comes first in it, before any
/// sublayer, has its channels divided over ranks, the other ranks wait in it: where this one
/// refuses the call, they are told, and fail too.
template <class EachFirstNorm>
class Checks {
 public:
  explicit Checks(EachFirstNorm each_first_norm) : each_first_norm_(each_first_norm) {}
  Checks(const Checks&) = delete;
  Checks& operator=(const Checks&) = delete;
  ~Checks() {
    if (!have_passed_) each_first_norm_([](const auto& norm) { Internals::refuse(norm); });
  }
  void have_passed() { have_passed_ = true; }

 private:
  EachFirstNorm each_first_norm_;
  bool have_passed_ = false;
};

/// Derived has `who()`, `step_count()`, `each_norm(self, f)`, which calls f(norm, NormPlace),
/// `first_norm(f)` and `last_norm(f)`, which call f(norm) of the norm that a forward and a backward
/// begin with, if they do, `each_part(self, f)`, of itself and its blocks, `check_parts(who)`,
/// `check_trained_tokens(tokens)`, `ends_in_norm`, and, private to it,
///     infer(pass, context) const            the stream to its end
///     train(x, pass, context)               the same, saving
///     backward_pass(pass, dx, context)      from dh, or dy of the norm at the end, to dx
template <class Derived, class Param>
class BlockCalls {
 public:
  /// That of the parameters, in which a block trains with a record of its own.
  using ParamScalar = Param;

  /// Inference, of the tokens x into y. At the end of each call may stand with(…), an executor, or
  /// both in this order.
  template <class X, class... Tail>
  requires CallTail<Tail...>
  auto operator()(const X& x, Tail&&... tail) const {
    if constexpr (check_inference<Same<X>, Context<Tail...>, Read<X>>()) {
      PlainLike<X, ScalarOf<X>> y;
      (*this)(x, y, tail...);
      return y;
    } else {
      return Refused{};
    }
  }
  template <class X, class Y, class... Tail>
  requires(!CallTail<Y> && CallTail<Tail...>) void operator()(const X& x, Y&& y,
                                                              Tail&&... tail) const {
    if constexpr (check_inference<Same<X>, Context<Tail...>, Read<X>, Written<Y>>()) {
      Workspace<ScalarOf<X>> workspace;
      infer_into(x, y, workspace, context_of(tail...));
    }
  }
  template <class X, class Y, class S, class U, class... Tail>
  requires CallTail<Tail...>
  void operator()(const X& x, Y&& y, Workspace<S, U>& workspace, Tail&&... tail) const {
    static_assert(std::is_same_v<S, ScalarOf<X>>,
                  "tokennorm: the Workspace has another scalar than x. The residual stream has x's "
                  "scalar: give a Workspace<typename X::Scalar>.");
    if constexpr (std::is_same_v<S, ScalarOf<X>>) {
      if constexpr (check_inference<Scalars<S, U>, Context<Tail...>, Read<X>, Written<Y>>())
        infer_into(x, y, workspace, context_of(tail...));
    }
  }
  template <class X, class Y, Number T>
  void operator()(const X&, Y&&, T) const {
    static_assert(is_never<T>,
                  "tokennorm: the arguments of a call on a block are x, y, a Workspace, with(...) "
                  "and an executor, in this order, and no numbers: what a sublayer needs is given "
                  "by with(...).");
  }

  /// Training, in Param, with a record of its own: y, then dx, which uses the forward up.
  template <class X, class... Tail>
  requires CallTail<Tail...>
  auto forward(const X& x, Tail&&... tail) {
    if constexpr (check_training<Param, Param, Context<Tail...>, Read<X>>()) {
      PlainLike<X, Param> y;
      forward_into(x, y, own_->record, context_of(tail...), [&] {
        // Before any sublayer is called: where one throws, others remember this forward already.
        own_->forward = new_forward_id();
        Derived::each_part(derived(),
                           [&](auto& part) { Internals::last_forward(part) = own_->forward; });
      });
      return y;
    } else {
      return Refused{};
    }
  }
  template <class DY, class... Tail>
  requires CallTail<Tail...>
  auto backward(const DY& dy, Tail&&... tail) {
    if constexpr (check_training<Param, Param, Context<Tail...>, Read<DY>>()) {
      PlainLike<DY, Param> dx;
      backward_into(dy, dx, own_->record, context_of(tail...), [&] {
        // What sublayers remember is of the last forward that went through them.
        bool is_last = true;
        Derived::each_part(derived(), [&](auto& part) {
          is_last = is_last && Internals::last_forward(part) == own_->forward;
        });
        return is_last;
      });
      return dx;
    } else {
      return Refused{};
    }
  }
  /// With one of the caller's, which says in which scalars.
  template <class X, class Y, class S, class U, class... Tail>
  requires CallTail<Tail...>
  void forward(const X& x, Y&& y, TrainingRecord<S, U>& record, Tail&&... tail) {
    if constexpr (check_training<S, U, Context<Tail...>, Read<X>, Written<Y>>())
      forward_into(x, y, record, context_of(tail...), [] {});
  }
  template <class DY, class DX, class S, class U, class... Tail>
  requires CallTail<Tail...>
  void backward(const DY& dy, DX&& dx, TrainingRecord<S, U>& record, Tail&&... tail) {
    if constexpr (check_training<S, U, Context<Tail...>, Read<DY>, Written<DX>>())
      backward_into(dy, dx, record, context_of(tail...), [] { return true; });
  }

 protected:
  /// Fails unless all parts have the channels of `who`.
  void check_channels_of_parts(Who who) const {
    Derived::each_norm(derived(), [&](const auto& norm, NormPlace place) {
      if (norm.channels() != who.channels) [[unlikely]]
        fail_norm_channels(who, place, norm.channels());
    });
    derived().check_parts(who);
  }

 private:
  friend struct Internals;
  struct Own {
    TrainingRecord<Param> record;
    ForwardId forward = 0;       // the record's
    ForwardId last_forward = 0;  // that went through, this or a stack's
  };

  auto checks_of_forward() const {
    return Checks([this](const auto& f) { derived().first_norm(f); });
  }
  auto checks_of_backward() const {
    return Checks([this](const auto& f) { derived().last_norm(f); });
  }

  /// Norms and their parameters may have been replaced since the last call.
  void check_norms(Who who) const {
    check_channels_of_parts(who);
    Derived::each_norm(derived(), [](const auto& norm, NormPlace) {
      Internals::with_kind(norm, [](const auto& of_kind) { Internals::check_parameters(of_kind); });
    });
  }

  /// Fails where an output stands in the parameters of a norm.
  void check_apart_from_parameters(const auto& output) const {
    Derived::each_norm(derived(), [&](const auto& norm, NormPlace) {
      Internals::with_kind(norm,
                           [&](const auto& of_kind) { Internals::check_output(of_kind, output); });
    });
  }

  template <class S, class U>
  struct Scalars {
    using Stream = S;
    using Sublayer = U;
  };
  template <class X>
  struct Same {  // if X has a scalar
    using Stream = ScalarOf<X>;
    using Sublayer = ScalarOf<X>;
  };
  template <class... Tail>
  using Context = decltype(context_of(std::declval<std::remove_reference_t<Tail>&>()...));

  /// What can be known of a call from its types, before anything else of it is compiled.
  template <class Scalars, class Context, class... Operands>
  static constexpr bool check_inference() {
    if constexpr (check_operands<Eigen::Dynamic, Operands...>()) {
      return Derived::template check_callable_in<typename Scalars::Stream,
                                                 typename Scalars::Sublayer>(
          static_cast<Context*>(nullptr));
    } else {
      return false;
    }
  }
  template <class S, class U, class Context, class... Operands>
  static constexpr bool check_training() {
    if constexpr (check_operands<Eigen::Dynamic, Operands...>()) {
      return Derived::template check_trainable_in<S, U>(static_cast<Context*>(nullptr));
    } else {
      return false;
    }
  }

  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  Derived& derived() { return static_cast<Derived&>(*this); }

  template <class X, class Y, class S, class U, class C>
  void infer_into(const X& x, Y& y, Workspace<S, U>& workspace, const C& context) const;
  template <class X, class Y, class S, class U, class C>
  void forward_into(const X& x, Y& y, TrainingRecord<S, U>& record, const C& context,
                    const auto& begin);
  template <class DY, class DX, class S, class U, class C>
  void backward_into(const DY& dy, DX& dx, TrainingRecord<S, U>& record, const C& context,
                     const auto& is_of_this_forward);

  SavedForBackward<Own> own_;
};

template <class Derived, class Param>
template <class X, class Y, class S, class U, class C>
void BlockCalls<Derived, Param>::infer_into(const X& x, Y& y, Workspace<S, U>& workspace,
                                            const C& context) const {
  auto checks = checks_of_forward();
  const Who who = derived().who();
  const auto& operand = addressable(x);
  const auto in = as_const(view_of(operand));
  check_norms(who);
  check_channels(who, "x", in);
  const Index tokens = in.tokens, channels = in.channels;
  const Output output(who, "y", y, tokens, channels);
  output.check_apart("x", in);
  const auto check_buffer = [&](const auto& buffer) {
    check_overlap(who, "x", in, "the workspace", view_of(buffer), false);
    output.check_apart("the workspace", view_of(buffer), false);
  };
  check_buffer(workspace.stream);
  for (const auto* buffer :
       {&workspace.normed, &workspace.second_normed, &workspace.update, &workspace.second_update}) {
    check_buffer(*buffer);
  }
  check_apart_from_parameters(output.view());
  output.take();

  // Blocks work on contiguous rows; what is not is copied at the border.
  TokenView<const S> rows = in;
  const TokenMatrix<S>* matrix = nullptr;
  if constexpr (std::is_same_v<Bare<decltype(operand)>, TokenMatrix<S>>) {
    matrix = &operand;
  } else if constexpr (layout_of<decltype(operand)> != Layout::rows) {
    copy_tokens(operand, workspace.stream);
    rows = as_const(view_of(workspace.stream));
    matrix = &workspace.stream;
  }
  checks.have_passed();
  const auto infer = [&](const TokenView<S>& result) {
    Inference<S, U> pass(rows, matrix, workspace, result);
    derived().infer(pass, context);
  };
  if constexpr (takes_rows<Y, S>) {
    infer(view_of(y));
  } else {
    infer(shaped(workspace.stream, tokens, channels));
    copy_to_operand(workspace.stream, y);
  }
}

template <class Derived, class Param>
template <class X, class Y, class S, class U, class C>
void BlockCalls<Derived, Param>::forward_into(const X& x, Y& y, TrainingRecord<S, U>& record,
                                              const C& context, const auto& begin) {
  auto checks = checks_of_forward();
  auto& saved = Internals::saved(record);
  saved.has_forward = false;  // nothing to go back from where this throws
  const Who who = derived().who();
  const auto& operand = addressable(x);
  const auto in = as_const(view_of(operand));
  check_norms(who);
  check_channels(who, "x", in);
  derived().check_trained_tokens(in.tokens);
  const Output output(who, "y", y, in.tokens, in.channels);
  output.check_apart("x", in);
  check_apart_from_parameters(output.view());
  saved.tokens = in.tokens;
  saved.channels = in.channels;
  saved.steps.resize(derived().step_count() + 1);
  const auto train = [&](const TokenView<S>& result) {
    Training<S, U> pass(saved, result);
    derived().train(operand, pass, context);
  };
  output.take();
  checks.have_passed();
  begin();
  if constexpr (takes_rows<Y, S>) {
    train(view_of(y));
  } else {
    train(shaped(saved.dh, saved.tokens, saved.channels));
    copy_to_operand(saved.dh, y);
  }
  saved.has_forward = true;
}

template <class Derived, class Param>
template <class DY, class DX, class S, class U, class C>
void BlockCalls<Derived, Param>::backward_into(const DY& dy, DX& dx, TrainingRecord<S, U>& record,
                                               const C& context, const auto& is_of_this_forward) {
  auto checks = checks_of_backward();
  auto& saved = Internals::saved(record);
  if (!saved.has_forward) fail_backward_first(derived().who());
  const Who who{derived().who().name, saved.channels};
  const auto& operand = addressable(dy);
  const auto in = as_const(view_of(operand));
  check_norms(who);
  if (saved.steps.size() != derived().step_count() + 1 || !is_of_this_forward()) {
    fail_backward_first(who);
  }
  check_shape(who, "dy", in, saved.tokens, saved.channels);
  const Output output(who, "dx", dx, saved.tokens, saved.channels);
  output.check_apart("dy", in);
  check_apart_from_parameters(output.view());
  Derived::each_norm(derived(), [](auto& norm, NormPlace) {
    norm.gradients();  // checks them, and gives them their size
  });
  copy_tokens(operand, Derived::ends_in_norm ? saved.stream : saved.dh);
  output.take();
  checks.have_passed();
  saved.has_forward = false;  // used up, also where this throws half-way
  TrainingBackward<S, U, Param> pass(saved, !Derived::ends_in_norm);
  if constexpr (takes_rows<DX, S>) {
    derived().backward_pass(pass, view_of(dx), context);
  } else {
    derived().backward_pass(pass, TokenView<S>{}, context);
    copy_to_operand(saved.dh, dx);
  }
}

}  // namespace tokennorm::detail
