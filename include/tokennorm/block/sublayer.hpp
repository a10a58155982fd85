// SPDX-License-Identifier: MIT
/// Sublayers: the callables that a block wraps, and what each use of them needs.
///
///     inference   y = f(x), or void f(x, y) into a y that already has the shape; const, or by
///                 std::ref
///     training    Y forward(const X&), which remembers what it needs, and DX backward(const DY&),
///                 which adds to the sublayer's own parameter gradients
///     optional    visit_parameters(visitor), zero_gradients(); one that is shared by std::ref is
///                 visited once in a block or stack, under the first of its names
///
/// A training sublayer may write as well: void forward(x, y), void backward(dy, dx). What with(…)
/// gives a call stands behind these (see with.hpp): f(x, session), f(x, y, session),
/// f.forward(x, session), f.backward(dy, session). A generic parameter there is tried with it: name
/// the types.
///
/// x is a `const TokenMatrix<Scalar>&`, y a `TokenMatrix<Scalar>&`; the result has x's shape and
/// scalar. Where f(x, y) returns nothing it is preferred, as it saves an allocation. Where it
/// returns something, its second argument is none to write to (a mask, the tokens of
/// cross-attention), and f(x) is called.
///
/// What is returned is a matrix or array, or a Map, Ref or Block of memory that outlives the call.
/// Other expressions are refused: they refer to their operands, which may be locals of the
/// sublayer.
///
/// Throws   std::invalid_argument where the result has another shape, naming the sublayer and both
#pragma once

#include "tokennorm/block/with.hpp"
#include "tokennorm/core/operands.hpp"

#include <concepts>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace tokennorm {

/// f(x, args…) gives tokens.
template <class F, class Tokens, class... Args>
concept ReturningSublayer = std::invocable<F&, const Tokens&, Args...> &&
    !std::is_void_v<std::invoke_result_t<F&, const Tokens&, Args...>>;

namespace detail {

/// f(x, y, args…) returns nothing, and yet y is not what is written to: a temporary would do.
/// Braces stand for it, as no generic parameter is deduced from them: `auto& y`, whose body might
/// not compile for anything else, is not asked.
template <class F, class Tokens, class... Args>
concept TakesTemporaryOutput = requires(F& f, const Tokens& x, Args&&... args) {
  { f(x, {}, std::forward<Args>(args)...) } -> std::same_as<void>;
}
|| requires(F& f, const Tokens& x, Args&&... args) {
  { f(x, {std::declval<Tokens>()}, std::forward<Args>(args)...) } -> std::same_as<void>;
};

}  // namespace detail

/// f(x, y, args…) writes tokens into y.
template <class F, class Tokens, class... Args>
concept WritingSublayer = std::invocable<F&, const Tokens&, Tokens&, Args...> &&
    std::is_void_v<std::invoke_result_t<F&, const Tokens&, Tokens&, Args...>> &&
    !detail::TakesTemporaryOutput<F, Tokens, Args...>;

namespace detail {

/// std::ref(f) keeps a sublayer outside its block; its members are those of f.
template <class F>
F& unwrap(F& f) {
  return f;
}
template <class F>
const F& unwrap(const F& f) {
  return f;
}
template <class F>
F& unwrap(std::reference_wrapper<F>& f) {
  return f.get();
}
template <class F>
F& unwrap(const std::reference_wrapper<F>& f) {
  return f.get();
}

/// "attention.forward returned 4 x 512 (tokens x channels); expected 4 x 768"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_result(Who who, const char* role,
                                                               const char* member, const char* did,
                                                               Index tokens, Index channels,
                                                               Index expected_tokens,
                                                               Index expected_channels) {
  fail(who, {role, member, did, tokens, " x ", channels, " (tokens x channels); expected ",
             expected_tokens, " x ", expected_channels});
}

/// A matrix or array, or a Map, Ref or Block of one: what does not refer to temporaries of the
/// expression that made it.
template <class Result>
inline constexpr bool is_matrix_or_view = is_plain<Result>;
template <class Plain, int Options, class Stride>
inline constexpr bool is_matrix_or_view<Eigen::Map<Plain, Options, Stride>> = true;
template <class Plain, int Options, class Stride>
inline constexpr bool is_matrix_or_view<Eigen::Ref<Plain, Options, Stride>> = true;
template <class Of, int Rows, int Columns, bool Panel>
inline constexpr bool is_matrix_or_view<Eigen::Block<Of, Rows, Columns, Panel>> =
    is_matrix_or_view<std::remove_const_t<Of>>;

/// Whether a sublayer's result can be taken.
template <class Result, class Scalar>
constexpr bool fits_result_type() {
  if constexpr (is_dense<Result>) {
    constexpr bool one_per_row = !is_vector<Result> || bool(Result::IsRowMajor);
    return std::is_same_v<ScalarOf<Result>, Scalar> && one_per_row && is_matrix_or_view<Result>;
  } else {
    return false;
  }
}
/// Says in one sentence why one cannot.
template <class Result, class Scalar>
constexpr void explain_result_type() {
  static_assert(is_dense<Result>,
                "tokennorm: a sublayer does not return tokens. Let it return an Eigen matrix of "
                "its input's shape.");
  if constexpr (is_dense<Result>) {
    constexpr bool same_scalar = std::is_same_v<ScalarOf<Result>, Scalar>;
    constexpr bool one_per_row = !is_vector<Result> || bool(Result::IsRowMajor);
    static_assert(same_scalar,
                  "tokennorm: a sublayer returns tokens of another scalar than it is given. Let it "
                  "take TokenMatrix<Scalar> and end with .cast<Scalar>(), Scalar that of the "
                  "stream, or of the sublayers in a Workspace or TrainingRecord that names it.");
    static_assert(!same_scalar || one_per_row,
                  "tokennorm: a sublayer returns a column vector; expected tokens, one per row.");
    static_assert(!same_scalar || !one_per_row || is_matrix_or_view<Result>,
                  "tokennorm: a sublayer returns an expression, whose operands may be gone when "
                  "the block reads it: write `-> Tokens` behind a lambda's parameters, or Tokens "
                  "for a function's `auto`, with Tokens = TokenMatrix<Scalar>.");
  }
}

/// What a sublayer returned, as tokens of its own.
template <class Tokens, class Returned>
void take_result(Who who, const char* role, const char* member, Returned&& result, Tokens& to,
                 Index token_count, Index channels) {
  if constexpr (fits_result_type<Bare<Returned>, typename Tokens::Scalar>()) {
    if (result.rows() != token_count || result.cols() != channels) [[unlikely]] {
      fail_result(who, role, member, " returned ", result.rows(), result.cols(), token_count,
                  channels);
    }
    if constexpr (std::is_same_v<Returned, Tokens>) {
      to.swap(result);  // whoever moved it here gets the old buffer
    } else {
      to = result.matrix();
    }
  }
}

/// f.forward and f.backward, to be called like a sublayer.
template <class F>
struct ForwardOf {
  F& f;
  template <class Tokens, class... More,
            class G = F>  // G: a member that is missing is no error here
  auto operator()(const Tokens& n, More&&... more) const
      -> decltype(std::declval<G&>().forward(n, std::forward<More>(more)...)) {
    return f.forward(n, std::forward<More>(more)...);
  }
};
template <class F>
struct BackwardOf {
  F& f;
  template <class Tokens, class... More,
            class G = F>  // G: a member that is missing is no error here
  auto operator()(const Tokens& dy, More&&... more) const
      -> decltype(std::declval<G&>().backward(dy, std::forward<More>(more)...)) {
    return f.backward(dy, std::forward<More>(more)...);
  }
};

/// For a BlockIndex and nothing else. In braces, from which no generic parameter is deduced, and
/// not for an Index, which has another meaning.
struct BlockIndexProbe : BlockIndex {
  operator Index() const = delete;
};

/// Whether f(args…, i) takes a BlockIndex.
template <class F, class... Args>
inline constexpr bool takes_index = requires(F& f, Args&&... args) {
  f(std::forward<Args>(args)..., {std::declval<BlockIndexProbe>()});
};
template <class F, class... Args>
inline constexpr bool takes_index<const ForwardOf<F>, Args...> = requires(F& f, Args&&... args) {
  f.forward(std::forward<Args>(args)..., {std::declval<BlockIndexProbe>()});
};
template <class F, class... Args>
inline constexpr bool takes_index<const BackwardOf<F>, Args...> = requires(F& f, Args&&... args) {
  f.backward(std::forward<Args>(args)..., {std::declval<BlockIndexProbe>()});
};

template <class F, class Tokens, class... Args>
concept WritingIndexed = takes_index<F, const Tokens&, Tokens&, Args...> &&
    WritingSublayer<F, Tokens, Args..., BlockIndex>;
template <class F, class Tokens, class... Args>
concept ReturningIndexed =
    takes_index<F, const Tokens&, Args...> && ReturningSublayer<F, Tokens, Args..., BlockIndex>;

/// Calls f with tokens and these arguments, and the number of the block where f takes it.
template <class F, class Tokens, class... Args>
struct SublayerCall {
  static constexpr bool writes_indexed = WritingIndexed<F, Tokens, Args&...>;
  static constexpr bool returns_indexed = !writes_indexed && ReturningIndexed<F, Tokens, Args&...>;
  // What takes more is not asked whether it takes less: a body need not compile for that.
  static constexpr bool writes_plain = [] {
    if constexpr (writes_indexed || returns_indexed) {
      return false;
    } else {
      return WritingSublayer<F, Tokens, Args&...>;
    }
  }();
  static constexpr bool returns_plain = [] {
    if constexpr (writes_indexed || returns_indexed || writes_plain) {
      return false;
    } else {
      return ReturningSublayer<F, Tokens, Args&...>;
    }
  }();
  static constexpr bool is_writing = writes_indexed || writes_plain;
  static constexpr bool is_possible = is_writing || returns_indexed || returns_plain;

  static decltype(auto) call(F& f, const Tokens& n, Tokens& y, Index block, Args&... args) {
    if constexpr (writes_indexed) {
      std::invoke(f, n, y, args..., BlockIndex{block});
    } else if constexpr (writes_plain) {
      std::invoke(f, n, y, args...);
    } else if constexpr (returns_indexed) {
      return std::invoke(f, n, args..., BlockIndex{block});
    } else {
      return std::invoke(f, n, args...);
    }
  }
};

/// That of the arguments which f takes: those of with(…), or none.
template <class F, class Tokens, class... Args>
struct ChosenCall : SublayerCall<F, Tokens, Args...> {
  static decltype(auto) call_in(F& f, const Tokens& n, Tokens& y, Index block,
                                const std::tuple<Args&...>& all) {
    return std::apply(
        [&](Args&... args) -> decltype(auto) {
          return SublayerCall<F, Tokens, Args...>::call(f, n, y, block, args...);
        },
        all);
  }
};
template <class F, class Tokens, class First, class... Rest>
requires(!SublayerCall<F, Tokens, First, Rest...>::is_possible)  //
    struct ChosenCall<F, Tokens, First, Rest...> : SublayerCall<F, Tokens> {
  static decltype(auto) call_in(F& f, const Tokens& n, Tokens& y, Index block, const auto&) {
    return SublayerCall<F, Tokens>::call(f, n, y, block);
  }
};

/// u = f(n, …), which is possible.
template <class Call, class F, class Tokens, class Context>
void call_chosen(Who who, const char* role, const char* member, F& f, const Tokens& n, Tokens& u,
                 const Context& context) {
  if constexpr (Call::is_writing) {
    u.resize(n.rows(), n.cols());
    Call::call_in(f, n, u, context.block, context.args);
    if (u.rows() != n.rows() || u.cols() != n.cols()) [[unlikely]] {
      fail_result(who, role, member, " resized its result to ", u.rows(), u.cols(), n.rows(),
                  n.cols());
    }
  } else {
    take_result(who, role, member, Call::call_in(f, n, u, context.block, context.args), u, n.rows(),
                n.cols());
  }
}

/// What a call gives.
template <class F, class Tokens, class... Args>
using ResultOf = Bare<decltype(ChosenCall<F, Tokens, Args...>::call_in(
    std::declval<F&>(), std::declval<const Tokens&>(), std::declval<Tokens&>(), 0,
    std::declval<const std::tuple<Args&...>&>()))>;

/// Whether f can be called, and its result be taken.
template <class F, class Tokens, class... Args>
constexpr bool is_callable() {
  using Call = ChosenCall<F, Tokens, Args...>;
  if constexpr (!Call::is_possible) {
    return false;
  } else if constexpr (Call::is_writing) {
    return true;
  } else {
    return fits_result_type<ResultOf<F, Tokens, Args...>, typename Tokens::Scalar>();
  }
}
/// Says in one sentence why it cannot.
template <class F, class Tokens, class... Args>
constexpr void explain_callable() {
  if constexpr (ChosenCall<F, Tokens, Args...>::is_possible) {
    explain_result_type<ResultOf<F, Tokens, Args...>, typename Tokens::Scalar>();
  } else {
    constexpr bool has_arguments = sizeof...(Args) > 0;
    constexpr bool loses_result = TakesTemporaryOutput<F, Tokens, Args&...>;
    constexpr bool returns_nothing = !loses_result && std::invocable<F&, const Tokens&, Args&...>;
    static_assert(!loses_result,
                  "tokennorm: a sublayer takes its second argument by value or const&, so that "
                  "what it writes there is lost: let it take `Tokens& y`, with Tokens = "
                  "TokenMatrix<Scalar>.");
    static_assert(!returns_nothing,
                  "tokennorm: a sublayer called as f(x) returns nothing. Let it return tokens of "
                  "its input's shape, or take a second argument `Tokens& y` to write to.");
    static_assert(loses_result || returns_nothing || !has_arguments,
                  "tokennorm: a sublayer takes some of what with(...) gives, or takes it in "
                  "another order. Let it take all of it behind its tokens, f(x, a, b) or f(x, y, "
                  "a, b) for with(a, b), by reference, or nothing of it.");
    static_assert(loses_result || returns_nothing || has_arguments,
                  "tokennorm: a sublayer cannot be called as f(x), nor as an f(x, y) that returns "
                  "void. What else it takes is given to the call by with(...). Or give it `Tokens "
                  "operator()(const Tokens&) const`, or `void operator()(const Tokens&, Tokens&) "
                  "const`, with Tokens = TokenMatrix<Scalar>, which is row-major, as MatrixXf is "
                  "not; a sublayer that changes itself is passed by std::ref.");
  }
}

/// u = f(n), in inference. `role` names the sublayer in an error.
template <class F, class Tokens, class E, class... Args>
void call_sublayer(Who who, const char* role, F& sublayer, const Tokens& n, Tokens& u,
                   const CallContext<E, Args...>& context) {
  auto& f = unwrap(sublayer);
  using Callable = std::remove_reference_t<decltype(f)>;
  using Call = ChosenCall<Callable, Tokens, Args...>;
  if constexpr (is_callable<Callable, Tokens, Args...>()) {
    call_chosen<Call>(who, role, "", f, n, u, context);
  } else {
    explain_callable<Callable, Tokens, Args...>();
  }
}

}  // namespace detail

/// f.forward(x, args…) gives tokens.
template <class F, class Tokens, class... Args>
concept HasForward = detail::ChosenCall<const detail::ForwardOf<F>, Tokens, Args...>::is_possible;

/// f.backward(dy, args…) gives tokens.
template <class F, class Tokens, class... Args>
concept HasBackward = detail::ChosenCall<const detail::BackwardOf<F>, Tokens, Args...>::is_possible;

/// Can be trained.
template <class F, class Tokens, class... Args>
concept TrainableSublayer = HasForward<F, Tokens, Args...> && HasBackward<F, Tokens, Args...>;

namespace detail {

/// Whether f can be trained, and what its forward and backward give be taken.
template <class F, class Tokens, class... Args>
constexpr bool is_trainable() {
  return is_callable<const ForwardOf<F>, Tokens, Args...>() &&
         is_callable<const BackwardOf<F>, Tokens, Args...>();
}
/// Says in one sentence why it cannot.
template <class F, class Tokens, class... Args>
constexpr void explain_trainable() {
  constexpr bool has_forward = HasForward<F, Tokens, Args...>;
  constexpr bool has_backward = HasBackward<F, Tokens, Args...>;
  static_assert(has_forward,
                "tokennorm: forward of a block: a sublayer has no forward(x) that returns tokens. "
                "Give it `Tokens forward(const Tokens&)` and `Tokens backward(const Tokens&)`, or "
                "call the block itself, block(x), which needs neither. What else it takes is given "
                "to the call by with(...): all of it behind x, in its order, or nothing of it.");
  static_assert(!has_forward || has_backward,
                "tokennorm: forward of a block: a sublayer has no backward(dy) that returns "
                "tokens. Give it `Tokens forward(const Tokens&)` and `Tokens backward(const "
                "Tokens&)`, or call the block itself, block(x), which needs neither. What else it "
                "takes is given to the call by with(...): all of it behind dy, in its order, or "
                "nothing of it.");
  if constexpr (has_forward && has_backward) {
    using Scalar = typename Tokens::Scalar;
    if constexpr (!is_callable<const ForwardOf<F>, Tokens, Args...>()) {
      explain_result_type<ResultOf<const ForwardOf<F>, Tokens, Args...>, Scalar>();
    } else {
      explain_result_type<ResultOf<const BackwardOf<F>, Tokens, Args...>, Scalar>();
    }
  }
}

/// u = f.forward(n)
template <class F, class Tokens, class E, class... Args>
void train_sublayer(Who who, const char* role, F& sublayer, const Tokens& n, Tokens& u,
                    const CallContext<E, Args...>& context) {
  auto& f = unwrap(sublayer);
  using Callable = std::remove_reference_t<decltype(f)>;
  if constexpr (is_trainable<Callable, Tokens, Args...>()) {
    const ForwardOf<Callable> forward{f};
    call_chosen<ChosenCall<const ForwardOf<Callable>, Tokens, Args...>>(who, role, ".forward",
                                                                        forward, n, u, context);
  }
}

/// dn = f.backward(du)
template <class F, class Tokens, class E, class... Args>
void backpropagate_sublayer(Who who, const char* role, F& sublayer, const Tokens& du, Tokens& dn,
                            const CallContext<E, Args...>& context) {
  auto& f = unwrap(sublayer);
  using Callable = std::remove_reference_t<decltype(f)>;
  if constexpr (is_trainable<Callable, Tokens, Args...>()) {
    const BackwardOf<Callable> backward{f};
    call_chosen<ChosenCall<const BackwardOf<Callable>, Tokens, Args...>>(who, role, ".backward",
                                                                         backward, du, dn, context);
  }
}

}  // namespace detail
}  // namespace tokennorm
