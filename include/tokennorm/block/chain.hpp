// SPDX-License-Identifier: MIT
/// Residual connections in a row: the mechanism of residual connections and blocks. Sublayers and
/// residual steps alternate. The step between two sublayers ends one connection and begins the
/// next, which may be of another block: what the next reads of the stream is handed over as data.
#pragma once

#include "tokennorm/block/calls.hpp"
#include "tokennorm/block/connection_norms.hpp"
#include "tokennorm/block/sublayer_rules.hpp"
#include "tokennorm/block/visiting.hpp"

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm {

template <class EmbeddingNorm, class Block, class FinalNorm>
class Stack;

namespace detail {

/// What the sublayer of a branch is called: "attention".
const char* role_of(const auto& branch) {
  return branch.name.empty() ? "sublayer" : branch.name.c_str();
}

/// A chain of connections; `name` is what errors call it.
template <class... Connections>
class Chain : public BlockCalls<
                  Chain<Connections...>,
                  typename FirstNorm<typename NormsOf<Connections>::type...>::type::ParamScalar> {
 public:
  /// The scalar of the parameters.
  using Param = typename FirstNorm<typename NormsOf<Connections>::type...>::type::ParamScalar;
  using Base = Chain;

  /// Throws std::invalid_argument where parts have other channels, or alpha is not above 0.
  explicit Chain(const char* name, Connections... connections);

  /// Those of the first norm.
  Index channels() const;

  /// visitor(name, value, gradient) for each parameter, of sublayers too; each once.
  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  /// Of norms, and of sublayers that have this member.
  void zero_gradients();

  /// A connection, by its place.
  template <std::size_t At>
  auto& connection() {
    return connections_.template get<At>();
  }
  template <std::size_t At>
  const auto& connection() const {
    return connections_.template get<At>();
  }

 private:
  friend BlockCalls<Chain, Param>;
  friend struct Internals;
  template <class, class, class>
  friend class tokennorm::Stack;  // runs many chains as one

  /// "PreLN(768)"
  Who who() const { return {name_, channels()}; }

  /// f(connection) for each connection.
  void each(const auto& f) { connections_.each(f); }
  void each(const auto& f) const { connections_.each(f); }
  /// f(branch, scaling) for each Scaled, LayerScale and DropPath around a sublayer.
  void each_scaling_of_a_branch(const auto& f) const;
  /// f(norm, NormPlace) for each norm; self is const or not. `block` is the chain's number in a
  /// stack.
  static void each_norm(auto& self, const auto& f, Index block = -1) {
    self.each([&](auto& connection) {
      each_norm_of(connection, [&](auto& norm, const std::string& name, const char* what) {
        if constexpr (is_norm<decltype(norm)>) f(norm, NormPlace{name.c_str(), what, block});
      });
    });
  }
  void first_norm(const auto& f) const {
    const auto& pre = connections_.first.branches.first.pre;
    if constexpr (is_norm<decltype(pre)>) f(pre);
  }
  void last_norm(const auto& f) const {
    const auto& last = connection<sizeof...(Connections) - 1>();
    const auto& post = last.branches.first.post;
    if constexpr (is_norm<decltype(last.out)>) {
      f(last.out);
    } else if constexpr (is_norm<decltype(post)>) {
      f(post);
    }
  }
  static void each_part(Chain& self, const auto& f) { f(self); }
  /// Fails where a LayerScale does not fit.
  void check_parts(Who who) const;
  /// Fails where a DropPath cannot be trained with so many tokens.
  void check_trained_tokens(Index tokens) const;
  static constexpr std::size_t step_count() { return sizeof...(Connections); }

  /// Whether all sublayers can be called, or trained, in a context; where not, says why of the
  /// first.
  template <class Rule>
  using FirstNotRight = typename decltype(first_not_right<Rule>(
      static_cast<Sequence<Connections...>*>(nullptr)))::type;
  template <class S, class U, class E, class... Args>
  static constexpr bool check_callable_in(CallContext<E, Args...>*) {
    using A = Accumulator<S, U>;
    using Wrong = FirstNotRight<IsCallable<A, TokenMatrix<U>, Args...>>;
    if constexpr (!std::is_void_v<Wrong>)
      explain_callable<Called<A, const Wrong>, TokenMatrix<U>, Args...>();
    return std::is_void_v<Wrong>;
  }
  template <class S, class U, class E, class... Args>
  static constexpr bool check_trainable_in(CallContext<E, Args...>*) {
    using A = Accumulator<S, U>;
    using Wrong = FirstNotRight<IsTrainable<A, TokenMatrix<U>, Args...>>;
    if constexpr (!std::is_void_v<Wrong>)
      explain_trainable<Called<A, Wrong>, TokenMatrix<U>, Args...>();
    return std::is_void_v<Wrong>;
  }

  // ---- for BlockCalls and Stack. Each starts behind the step whose readers are the chain's own.

  template <class S, class U>
  StepReaders<S, U> readers(SavedStep<S, U>* saved) const {
    return readers_of<S, U>(connections_.first, saved);
  }
  template <class S, class U>
  ReaderGradients<S, U, Param> reader_gradients(SavedStep<S, U>& saved) {
    return reader_gradients_of<S, U, Param>(connections_.first, saved);
  }
  template <class S, class U, class Context>
  void infer_from(Inference<S, U>& pass, const StepReaders<S, U>& next, bool is_last,
                  const Context& context) const {
    infer_connection<0>(pass, next, is_last, context);
  }
  /// next(saved) are the readers of the last step, which save there.
  template <class S, class U, class Context>
  void train_from(Training<S, U>& pass, const auto& next, bool is_last, const Context& context) {
    train_connection<0>(pass, next, is_last, context);
  }
  /// next(saved) are those on the way back.
  template <class S, class U, class Context>
  void backward_from(TrainingBackward<S, U, Param>& pass, const auto& next,
                     const Context& context) {
    backward_connection<sizeof...(Connections) - 1>(pass, next, context);
  }

  template <std::size_t At, class S, class U, class Context>
  void infer_connection(Inference<S, U>& pass, const StepReaders<S, U>& next, bool is_last,
                        const Context& context) const {
    using A = Accumulator<S, U>;
    const auto& c = connection<At>();
    ResidualStep<S, U> step;
    step.alpha = c.alpha;
    step.out = StepNorm<A, S, S>(c.out);
    c.branches.each([&](const auto& branch) {
      using Pre = typename std::remove_cvref_t<decltype(branch)>::PreNorm;
      TokenMatrix<U>& u = pass.update(step.update_count);
      auto& update = step.updates[static_cast<std::size_t>(step.update_count)];
      auto& f = without_factors<A>(
          branch.f, [&](const auto& scaling) { read_factors(scaling, update.factors); });
      call_sublayer(who(), role_of(branch), f, pass.template input<Pre>(step.update_count), u,
                    context);
      update.value = as_const(view_of(u));
      update.post = StepNorm<A, U, U>(branch.post);
      update.posted = view_of(u);
      ++step.update_count;
    });
    if constexpr (At + 1 == sizeof...(Connections)) {
      step.readers = next;
      pass.run(step, is_last, context.executor);
    } else {
      step.readers = readers_of<S, U>(connection<At + 1>());
      pass.run(step, false, context.executor);
      infer_connection<At + 1>(pass, next, is_last, context);
    }
  }

  template <std::size_t At, class S, class U, class Context>
  void train_connection(Training<S, U>& pass, const auto& next, bool is_last,
                        const Context& context) {
    using A = Accumulator<S, U>;
    auto& c = connection<At>();
    SavedStep<S, U>& saved = pass.next();
    ResidualStep<S, U> step;
    step.alpha = c.alpha;
    step.out = StepNorm<A, S, S>(c.out, &saved.out);
    c.branches.each([&](auto& branch) {
      using Pre = typename std::remove_cvref_t<decltype(branch)>::PreNorm;
      const auto at = static_cast<std::size_t>(step.update_count);
      auto& update = step.updates[at];
      auto& kept = saved.updates[at];
      auto& f = without_factors<A>(branch.f, [&](auto& scaling) {
        draw_factors(scaling, pass.tokens(), kept.token_factors);
        read_factors(scaling, update.factors, &kept.token_factors);
      });
      TokenMatrix<U>* u = &pass.update(step.update_count);
      train_sublayer(who(), role_of(branch), f, pass.template input<Pre>(step.update_count), *u,
                     context);
      update.post = StepNorm<A, U, U>(branch.post, &kept.post);
      if (update.post || update.factors.channels != nullptr) {
        kept.given.swap(*u);
        u = &kept.given;
      }
      update.value = as_const(view_of(*u));
      if (update.needs_posted()) {
        update.posted = shaped(kept.posted, u->rows(), u->cols());
      }
      ++step.update_count;
    });
    if constexpr (At + 1 == sizeof...(Connections)) {
      step.readers = next(&saved);
      pass.run(step, is_last, context.executor);
    } else {
      step.readers = readers_of<S, U>(connection<At + 1>(), &saved);
      pass.run(step, false, context.executor);
      train_connection<At + 1>(pass, next, is_last, context);
    }
  }

  template <std::size_t At, class S, class U, class Context>
  void backward_connection(TrainingBackward<S, U, Param>& pass, const auto& next,
                           const Context& context) {
    using A = Accumulator<S, U>;
    auto& c = connection<At>();
    SavedStep<S, U>& saved = pass.now();
    BackwardStep<S, U, Param> step;
    if constexpr (At + 1 == sizeof...(Connections)) {
      step.readers = next(saved);
    } else {
      step.readers = reader_gradients_of<S, U, Param>(connection<At + 1>(), saved);
    }
    step.out = StepNormBackward<A, S, S, S, Param>(c.out, saved.out);
    c.branches.each([&](auto& branch) {
      const auto at = static_cast<std::size_t>(step.update_count++);
      auto& update = step.updates[at];
      auto& kept = saved.updates[at];
      without_factors<A>(branch.f, [&](auto& scaling) {
        read_factors(scaling, update.factors, &kept.token_factors);
        learn_factors(scaling, update.learned);
      });
      update.factors.channels = nullptr;
      update.post = StepNormBackward<A, U, U, U, Param>(branch.post, kept.post);
      update.given = as_const(view_of(kept.given));
      if (update.learned) {
        update.posted = update.post ? as_const(view_of(kept.posted)) : update.given;
        kept.ones.setOnes(kept.given.rows());
        update.ones = kept.ones.data();
        update.saved = &kept.learned;
      }
      if (update.is_needed()) update.du = pass.shaped_du(at);
    });
    pass.run(step, {}, context.executor);
    pass.enter_connection(c.alpha);
    backward_branch<std::remove_cvref_t<decltype(c)>::branch_count - 1>(c, pass, step, context);
    if constexpr (At > 0) backward_connection<At - 1>(pass, next, context);
  }
  /// The sublayers in the reverse of their order.
  template <std::size_t At, class S, class U, class Context>
  void backward_branch(auto& c, TrainingBackward<S, U, Param>& pass,
                       const BackwardStep<S, U, Param>& step, const Context& context) {
    auto& branch = c.template branch<At>();
    const TokenMatrix<U>* du = &pass.du(At);
    if constexpr (std::is_same_v<S, U>) {
      if (!step.updates[At].is_needed()) du = &pass.dh();
    }
    auto& f = without_factors<Accumulator<S, U>>(branch.f, IgnoresFactors{});
    backpropagate_sublayer(who(), role_of(branch), f, *du, pass.dn(At), context);
    if constexpr (At > 0) backward_branch<At - 1>(c, pass, step, context);
  }

  // ---- for BlockCalls

  template <class S, class U, class Context>
  void infer(Inference<S, U>& pass, const Context& context) const {
    ResidualStep<S, U> step;
    step.readers = readers<S, U>(nullptr);
    pass.run(step, false, context.executor);
    infer_from(pass, {}, true, context);
  }
  template <class X, class S, class U, class Context>
  void train(const X& x, Training<S, U>& pass, const Context& context) {
    ResidualStep<S, U> step;
    step.readers = readers<S, U>(&pass.next());
    pass.start(x, step, context.executor);
    train_from(
        pass, [](auto*) { return StepReaders<S, U>{}; }, true, context);
  }
  template <class S, class U, class Context>
  void backward_pass(TrainingBackward<S, U, Param>& pass, const TokenView<S>& dx,
                     const Context& context) {
    backward_from(
        pass, [](auto&) { return ReaderGradients<S, U, Param>{}; }, context);
    BackwardStep<S, U, Param> step;
    step.readers = reader_gradients<S, U>(pass.now());
    pass.run(step, dx, context.executor);
  }
  static constexpr bool ends_in_norm = false;

  const char* name_;
  Sequence<Connections...> connections_;
};

template <class... Connections>
Chain<Connections...>::Chain(const char* name, Connections... connections)
    : name_(name), connections_(std::move(connections)...) {
  this->check_channels_of_parts(who());
  each([&](const auto& connection) {
    if (!(connection.alpha > 0 && is_finite_magnitude(connection.alpha))) {
      const std::string alpha = std::to_string(connection.alpha);
      fail(who(), {"alpha is ", alpha.c_str(), "; expected a finite number above 0"});
    }
  });
}

template <class... Connections>
Index Chain<Connections...>::channels() const {
  Index channels = 0;
  each_norm(*this, [&](const auto& norm, NormPlace) {
    if (channels == 0) channels = norm.channels();
  });
  return channels;
}

template <class... Connections>
template <class Visitor>
void Chain<Connections...>::visit_parameters(Visitor&& visitor) {
  PartsVisitor visit(visitor);
  each([&](auto& connection) {
    bool is_first = true;
    connection.branches.each([&](auto& branch) {
      const auto name = [&](const char* what) {
        return branch.name.empty() ? std::string(what) : branch.name + "_" + what;
      };
      visit(name("norm"), branch.pre);
      if (is_first) visit(name("norm"), connection.out);
      visit(name("output_norm"), branch.post);
      visit(role_of(branch), unwrap(branch.f));
      is_first = false;
    });
  });
}

template <class... Connections>
void Chain<Connections...>::zero_gradients() {
  each([](auto& connection) {
    zero_gradients_of(connection.out);
    connection.branches.each([](auto& branch) {
      zero_gradients_of(branch.pre);
      zero_gradients_of(branch.post);
      zero_gradients_of(unwrap(branch.f));
    });
  });
}

template <class... Connections>
void Chain<Connections...>::each_scaling_of_a_branch(const auto& f) const {
  each([&](const auto& connection) {
    connection.branches.each([&](const auto& branch) {
      each_scaling(branch.f, [&](const auto& scaling) { f(branch, scaling); });
    });
  });
}

template <class... Connections>
void Chain<Connections...>::check_parts(Who who) const {
  each_scaling_of_a_branch([&](const auto& branch, const auto& scaling) {
    if constexpr (is_layer_scale<std::remove_cvref_t<decltype(scaling)>>) {
      const Index channels = scaling.layer_scale().size();
      if (channels != who.channels) [[unlikely]] {
        fail(who, {role_of(branch), "'s layer_scale has ", channels, " values; expected ",
                   who.channels});
      }
    }
  });
}

template <class... Connections>
void Chain<Connections...>::check_trained_tokens(Index tokens) const {
  each_scaling_of_a_branch([&](const auto&, const auto& scaling) {
    if constexpr (is_drop_path<std::remove_cvref_t<decltype(scaling)>>)
      scaling.check_tokens(tokens);
  });
}

}  // namespace detail
}  // namespace tokennorm
