// SPDX-License-Identifier: MIT
/// One or two residual connections in a row: the mechanism of residual connections and blocks.
#pragma once

#include "tokennorm/block/calls.hpp"

#include <array>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

namespace tokennorm {

template <class EmbeddingNorm, class Block, class FinalNorm>
class Stack;

namespace detail {

/// What the parts of a connection are called, in errors and in visit_parameters.
struct ConnectionNames {
  const char* norm;
  const char* output_norm;
  const char* sublayer;
};

inline constexpr std::array<ConnectionNames, 1> residual_names{
    ConnectionNames{"norm", "output_norm", "sublayer"}};
inline constexpr std::array<ConnectionNames, 2> block_names{
    ConnectionNames{"attention_norm", "attention_output_norm", "attention"},
    ConnectionNames{"feed_forward_norm", "feed_forward_output_norm", "feed_forward"}};

/// A norm of the connection; they all have its channels and, in training, its scalar.
template <class Connection>
using SomeNorm = std::conditional_t<
    is_norm<typename Connection::PreNorm>, typename Connection::PreNorm,
    std::conditional_t<is_norm<typename Connection::OutNorm>, typename Connection::OutNorm,
                       typename Connection::PostNorm>>;

/// Connections one behind the other: a std::tuple that costs little to compile.
template <class...>
struct ConnectionTuple {
  void each(const auto&, const ConnectionNames*) const {}
};

template <class First, class... Rest>
struct ConnectionTuple<First, Rest...> {
  First first;
  [[no_unique_address]] ConnectionTuple<Rest...> rest;

  explicit ConnectionTuple(First&& f, Rest&&... r) : first(std::move(f)), rest(std::move(r)...) {}

  template <std::size_t At>
  auto& get() {
    if constexpr (At == 0) {
      return first;
    } else {
      return rest.template get<At - 1>();
    }
  }
  template <std::size_t At>
  const auto& get() const {
    return const_cast<ConnectionTuple&>(*this).template get<At>();
  }

  void each(const auto& f, const ConnectionNames* names) {
    f(first, *names);
    rest.each(f, names + 1);
  }
  void each(const auto& f, const ConnectionNames* names) const {
    f(first, *names);
    rest.each(f, names + 1);
  }
};

/// A chain of connections. Kind::name is what errors call it, Kind::names what its parts are
/// called.
template <class Kind, class First, class... Rest>
class Chain
    : public BlockCalls<Chain<Kind, First, Rest...>, typename SomeNorm<First>::ParamScalar> {
 public:
  using Param = typename SomeNorm<First>::ParamScalar;
  using InputNorm = typename First::PreNorm;

  explicit Chain(First&& first, Rest&&... rest)
      : connections_(std::move(first), std::move(rest)...) {
    static_assert((trains_in_param<First> && ... && trains_in_param<Rest>),
                  "tokennorm: the norms of a block have parameters of different scalars. Training "
                  "runs in that scalar: give them all the same.");
    this->check_channels_of_norms(who());
    each([&](const auto& connection, const ConnectionNames&) {
      if (!(connection.alpha > 0 && is_finite_magnitude(connection.alpha))) {
        const std::string alpha = std::to_string(connection.alpha);
        fail(who(), {"alpha is ", alpha.c_str(), "; expected a finite number above 0"});
      }
    });
  }

  /// Those of the first norm.
  Index channels() const { return some_norm(connections_.first).channels(); }

  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    PartsVisitor visit(visitor);
    each([&](auto& connection, const ConnectionNames& names) {
      visit(names.norm, connection.norm());
      visit(names.output_norm, connection.post.norm);
      visit(names.sublayer, unwrap(connection.sublayer));
    });
  }

  void zero_gradients() {
    each([&](auto& connection, const ConnectionNames&) {
      zero_gradients_of(connection.pre.norm);
      zero_gradients_of(connection.post.norm);
      zero_gradients_of(connection.out.norm);
      zero_gradients_of(unwrap(connection.sublayer));
    });
  }

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
  static constexpr std::size_t count = 1 + sizeof...(Rest);

  /// "PreLN(768)"
  Who who() const { return {Kind::name, channels()}; }

  /// f(connection, names) for each connection.
  template <class F>
  void each(const F& f) {
    connections_.each(f, Kind::names.data());
  }
  template <class F>
  void each(const F& f) const {
    connections_.each(f, Kind::names.data());
  }
  /// f(StepNorm, NormPlace) for each norm, or NoNorm; self is const or not. `block` is the chain's
  /// number in a stack.
  template <class Self, class F>
  static void each_norm(Self& self, const F& f, Index block = -1) {
    self.each([&](auto& connection, const ConnectionNames& names) {
      f(connection.pre, NormPlace{names.norm, block});
      f(connection.out, NormPlace{names.norm, block});
      f(connection.post, NormPlace{names.output_norm, block});
    });
  }

  StepNorm<InputNorm>& input_norm() { return connections_.first.pre; }
  const StepNorm<InputNorm>& input_norm() const { return connections_.first.pre; }

  /// From after the input norm to after `next`, whose chain or norm follows.
  template <class S, class Next, class Result, class E>
  void infer_from(Stream<S>& stream, const StepNorm<Next>& next, const Result& result,
                  E& executor) const {
    infer_connection<0>(stream, next, result, executor);
  }
  template <class Next, class E>
  void train_from(TrainingStream<Param>& stream, TrainingBuffers<Param>& buffers,
                  StepNorm<Next>& next, E& executor) {
    train_connection<0>(stream, buffers, next, executor);
  }
  /// From dh and dn after `next` back to dh and dn after the input norm.
  template <class Next, class E>
  void backward_from(TokenMatrix<Param>& dh, TokenMatrix<Param>& dn,
                     TrainingBuffers<Param>& buffers, StepNorm<Next>& next, E& executor) {
    backward_connection<sizeof...(Rest)>(dh, dn, buffers, next, executor);
  }

  template <class Connection>
  static constexpr bool trains_in_param =
      trains_in<typename Connection::PreNorm, Param>&& trains_in<
          typename Connection::OutNorm, Param>&& trains_in<typename Connection::PostNorm, Param>;

  static const ConnectionNames& names(std::size_t i) { return Kind::names[i]; }

  template <class Connection>
  static const auto& some_norm(const Connection& connection) {
    if constexpr (is_norm<typename Connection::PreNorm>) {
      return connection.pre.norm;
    } else if constexpr (is_norm<typename Connection::OutNorm>) {
      return connection.out.norm;
    } else {
      return connection.post.norm;
    }
  }

  /// u = f(n);  h ← out(α·h + post(u));  n ← the next connection's input norm of h
  template <std::size_t At, class S, class Next, class Result, class E>
  void infer_connection(Stream<S>& stream, const StepNorm<Next>& next, const Result& result,
                        E& executor) const {
    const auto& c = connections_.template get<At>();
    using Pre = typename std::remove_cvref_t<decltype(c)>::PreNorm;
    TokenMatrix<S>& update = stream.workspace.update;
    call_sublayer(who(), names(At).sublayer, c.sublayer, stream.template sublayer_input<Pre>(),
                  update);
    const auto u = as_const(view_of(update));
    if constexpr (At + 1 == count) {
      advance(stream, u, c.alpha, c.post, c.out, next, result, executor);
    } else {
      advance(stream, u, c.alpha, c.post, c.out, connections_.template get<At + 1>().pre, Absent{},
              executor);
      infer_connection<At + 1>(stream, next, result, executor);
    }
  }

  template <std::size_t At, class Next, class E>
  void train_connection(TrainingStream<Param>& stream, TrainingBuffers<Param>& buffers,
                        StepNorm<Next>& next, E& executor) {
    auto& c = connections_.template get<At>();
    constexpr bool has_pre = is_norm<typename std::remove_cvref_t<decltype(c)>::PreNorm>;
    TokenMatrix<Param>& n = buffers.normed;
    TokenMatrix<Param>& u = buffers.update;
    train_sublayer(who(), names(At).sublayer, c.sublayer, has_pre ? n : stream.h(), u);
    if constexpr (At + 1 == count) {
      forward_step(stream, u, c.alpha, c.post, c.out, next, n, executor);
    } else {
      forward_step(stream, u, c.alpha, c.post, c.out, connections_.template get<At + 1>().pre, n,
                   executor);
      train_connection<At + 1>(stream, buffers, next, executor);
    }
  }

  template <std::size_t At, class Next, class E>
  void backward_connection(TokenMatrix<Param>& dh, TokenMatrix<Param>& dn,
                           TrainingBuffers<Param>& buffers, StepNorm<Next>& next, E& executor) {
    auto& c = connections_.template get<At>();
    backward_step(dh, dn, c.out, next, executor);
    if constexpr (is_norm<typename std::remove_cvref_t<decltype(c)>::PostNorm>) {
      c.post.backpropagate(dh, buffers.update, executor);
      backpropagate_sublayer(who(), names(At).sublayer, c.sublayer, std::as_const(buffers.update),
                             dn);
    } else {
      backpropagate_sublayer(who(), names(At).sublayer, c.sublayer, dh, dn);
    }
    if (c.alpha != 1) dh *= Param(c.alpha);
    if constexpr (At > 0) backward_connection<At - 1>(dh, dn, buffers, c.pre, executor);
  }

  // ---- for BlockCalls
  // ----------------------------------------------------------------------------

  template <class S, class Result, class E>
  void infer(Stream<S>& stream, const Result& result, E& executor) const {
    enter(stream, StepNorm<NoNorm>{}, input_norm(), executor);
    infer_from(stream, StepNorm<NoNorm>{}, result, executor);
  }
  template <class E>
  void train(TokenMatrix<Param>& h, TrainingBuffers<Param>& buffers, E& executor) {
    StepNorm<NoNorm> none;
    TrainingStream<Param> stream(h);
    enter_forward(stream, none, input_norm(), buffers.normed, executor);
    train_from(stream, buffers, none, executor);
  }
  template <class E>
  void backward_pass(TokenMatrix<Param>& dh, TrainingBuffers<Param>& buffers, E& executor) {
    StepNorm<NoNorm> none;
    TokenMatrix<Param> dn;
    backward_from(dh, dn, buffers, none, executor);
    backward_step(dh, dn, none, input_norm(), executor);
  }

  ConnectionTuple<First, Rest...> connections_;
};

}  // namespace detail
}  // namespace tokennorm
