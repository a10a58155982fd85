// SPDX-License-Identifier: MIT
/// What sublayers need beside their tokens: a position, a cache, a mask, the lengths of sequences.
///
///     block(x, with(session));   block(x, y, workspace, with(session, mask), executor);
///     block.forward(x, with(batch));   block.backward(dy, with(batch));
///
/// A sublayer is called as f(n, session, mask) or f(n, y, session, mask), with all of them in their
/// order; one that does not take them is called without. One that takes a BlockIndex at the end is
/// given the number of its block in a stack. What the sublayers share stands outside of them, so
/// that a model is const, and any number of sessions go through it at once.
#pragma once

#include "tokennorm/core/executor.hpp"

#include <tuple>
#include <type_traits>
#include <utility>

namespace tokennorm {

/// References, not copies: what they refer to outlives the call.
template <class... Args>
struct With {
  std::tuple<Args&...> args;  ///< in the order of the call
};

/// What a call on a block gives to its sublayers.
template <class... Args>
With<std::remove_reference_t<Args>...> with(Args&&... args) {
  return {{args...}};
}

/// The number of a block in its stack, 0 in a lone block.
struct BlockIndex {
  /// The number.
  Index value = 0;
  constexpr operator Index() const { return value; }
};

namespace detail {

template <class T>
inline constexpr bool is_with = false;
template <class... Args>
inline constexpr bool is_with<With<Args...>> = true;

/// What a call on a block is made in.
template <class E, class... Args>
struct CallContext {
  E& executor;
  std::tuple<Args&...> args;
  Index block = 0;
};

inline CallContext<const Serial> context_of() { return {serial, {}}; }
template <Executor E>
CallContext<E> context_of(E& executor) {
  return {executor, {}};
}
template <class... Args>
CallContext<const Serial, Args...> context_of(const With<Args...>& with) {
  return {serial, with.args};
}
template <class... Args, Executor E>
CallContext<E, Args...> context_of(const With<Args...>& with, E& executor) {
  return {executor, with.args};
}

/// What may stand at the end of a call: with(…), an executor, both in this order, or nothing.
template <class... Tail>
concept CallTail = requires(std::remove_reference_t<Tail>&... tail) {
  context_of(tail...);
};

}  // namespace detail
}  // namespace tokennorm
