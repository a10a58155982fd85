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

#include "tokennorm/core/operands.hpp"

#include <algorithm>
#include <concepts>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm {

/// f(x) gives tokens.
template <class F, class Tokens>
concept ReturningSublayer =
    std::invocable<F&, const Tokens&> && !std::is_void_v<std::invoke_result_t<F&, const Tokens&>>;

namespace detail {

/// f(x, y) returns nothing, and yet y is not what is written to: a temporary would do. Braces stand
/// for it, as no generic parameter is deduced from them: `auto& y`, whose body might not compile
/// for anything else, is not asked.
template <class F, class Tokens>
concept TakesTemporaryOutput = requires(F& f, const Tokens& x) {
  { f(x, {}) } -> std::same_as<void>;
}
|| requires(F& f, const Tokens& x) {
  { f(x, {std::declval<Tokens>()}) } -> std::same_as<void>;
};

}  // namespace detail

/// f(x, y) writes tokens into y.
template <class F, class Tokens>
concept WritingSublayer = std::invocable<F&, const Tokens&, Tokens&> &&
    std::is_void_v<std::invoke_result_t<F&, const Tokens&, Tokens&>> &&
    !detail::TakesTemporaryOutput<F, Tokens>;

/// f.forward(x) gives tokens.
template <class F, class Tokens>
concept HasForward = requires(F& f, const Tokens& x) {
  requires !std::is_void_v<decltype(f.forward(x))>;
};

/// f.backward(dy) gives tokens.
template <class F, class Tokens>
concept HasBackward = requires(F& f, const Tokens& dy) {
  requires !std::is_void_v<decltype(f.backward(dy))>;
};

/// Can be trained.
template <class F, class Tokens>
concept TrainableSublayer = HasForward<F, Tokens> && HasBackward<F, Tokens>;

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
                                                               const char* returned, Index tokens,
                                                               Index channels,
                                                               Index expected_tokens,
                                                               Index expected_channels) {
  fail(who, {role, returned, tokens, " x ", channels, " (tokens x channels); expected ",
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

/// Whether a sublayer's result can be taken; where not, says why, in one sentence.
template <class Result, class Scalar>
constexpr bool check_result_type() {
  static_assert(is_dense<Result>,
                "tokennorm: a sublayer does not return tokens. Let it return an Eigen matrix of "
                "its input's shape.");
  if constexpr (is_dense<Result>) {
    constexpr bool same_scalar = std::is_same_v<ScalarOf<Result>, Scalar>;
    constexpr bool one_per_row = !is_vector<Result> || bool(Result::IsRowMajor);
    static_assert(same_scalar,
                  "tokennorm: a sublayer returns tokens of another scalar than it was given. Let "
                  "it end with .cast<Scalar>(), where Scalar is that of its input.");
    static_assert(!same_scalar || one_per_row,
                  "tokennorm: a sublayer returns a column vector; expected tokens, one per row.");
    static_assert(!same_scalar || !one_per_row || is_matrix_or_view<Result>,
                  "tokennorm: a sublayer returns an expression, whose operands may be gone when "
                  "the block reads it: write `-> Tokens` behind a lambda's parameters, or Tokens "
                  "for a function's `auto`, with Tokens = TokenMatrix<Scalar>.");
    return same_scalar && one_per_row && is_matrix_or_view<Result>;
  } else {
    return false;
  }
}

/// What a sublayer returned, as tokens of its own.
template <class Tokens, class Returned>
void take_result(Who who, const char* role, const char* returned, Returned&& result, Tokens& to,
                 Index token_count, Index channels) {
  if constexpr (check_result_type<Bare<Returned>, typename Tokens::Scalar>()) {
    if (result.rows() != token_count || result.cols() != channels) [[unlikely]] {
      fail_result(who, role, returned, result.rows(), result.cols(), token_count, channels);
    }
    if constexpr (std::is_same_v<Returned, Tokens>) {
      to.swap(result);  // whoever moved it here gets the old buffer
    } else {
      to = result.matrix();
    }
  }
}

/// u = f(n), in inference. `role` names the sublayer in an error.
template <class F, class Tokens>
void call_sublayer(Who who, const char* role, const F& sublayer, const Tokens& n, Tokens& u) {
  auto& f = unwrap(sublayer);
  using Callable = std::remove_reference_t<decltype(f)>;
  if constexpr (WritingSublayer<Callable, Tokens>) {
    u.resize(n.rows(), n.cols());
    std::invoke(f, n, u);
    if (u.rows() != n.rows() || u.cols() != n.cols()) [[unlikely]] {
      fail_result(who, role, " resized its result to ", u.rows(), u.cols(), n.rows(), n.cols());
    }
  } else if constexpr (ReturningSublayer<Callable, Tokens>) {
    take_result(who, role, " returned ", std::invoke(f, n), u, n.rows(), n.cols());
  } else {
    constexpr bool loses_result = TakesTemporaryOutput<Callable, Tokens>;
    constexpr bool returns_nothing = std::invocable<Callable&, const Tokens&>;
    static_assert(!loses_result,
                  "tokennorm: a sublayer takes its second argument by value or const&, so that "
                  "what it writes there is lost: let it take `Tokens& y`, with Tokens = "
                  "TokenMatrix<Scalar>.");
    static_assert(loses_result || !returns_nothing,
                  "tokennorm: a sublayer called as f(x) returns nothing. Let it return tokens of "
                  "its input's shape, or take a second argument `Tokens& y` to write to.");
    static_assert(
        loses_result || returns_nothing,
        "tokennorm: a sublayer cannot be called as f(x), nor as an f(x, y) that returns void. Give "
        "it `Tokens operator()(const Tokens&) const`, or `void operator()(const Tokens&, Tokens&) "
        "const`, with Tokens = TokenMatrix<Scalar>; a sublayer that changes itself is passed by "
        "std::ref.");
  }
}

template <class F, class Tokens>
constexpr void check_trainable() {
  static_assert(HasForward<F, Tokens>,
                "tokennorm: forward of a block: a sublayer has no forward(x) that returns tokens. "
                "Give it `Tokens forward(const Tokens&)` and `Tokens backward(const Tokens&)`, or "
                "call the block itself, block(x), which needs neither.");
  static_assert(HasBackward<F, Tokens>,
                "tokennorm: forward of a block: a sublayer has no backward(dy) that returns "
                "tokens. Give it `Tokens forward(const Tokens&)` and `Tokens backward(const "
                "Tokens&)`, or call the block itself, block(x), which needs neither.");
}

/// u = f.forward(n)
template <class F, class Tokens>
void train_sublayer(Who who, const char* role, F& sublayer, const Tokens& n, Tokens& u) {
  auto& f = unwrap(sublayer);
  check_trainable<std::remove_reference_t<decltype(f)>, Tokens>();
  if constexpr (TrainableSublayer<std::remove_reference_t<decltype(f)>, Tokens>) {
    take_result(who, role, ".forward returned ", f.forward(n), u, n.rows(), n.cols());
  }
}

/// dn = f.backward(du)
template <class F, class Tokens>
void backpropagate_sublayer(Who who, const char* role, F& sublayer, const Tokens& du, Tokens& dn) {
  auto& f = unwrap(sublayer);
  check_trainable<std::remove_reference_t<decltype(f)>, Tokens>();
  if constexpr (TrainableSublayer<std::remove_reference_t<decltype(f)>, Tokens>) {
    take_result(who, role, ".backward returned ", f.backward(du), dn, du.rows(), du.cols());
  }
}

/// What was visited: by address and type, as an object begins where its first member does.
class Visited {
 public:
  template <class Visitable>
  bool is_first_visit(const Visitable& visitable) {
    const Object object{&visitable, &type<Visitable>};
    if (std::find(objects_.begin(), objects_.end(), object) != objects_.end()) return false;
    objects_.push_back(object);
    return true;
  }

 private:
  using Object = std::pair<const void*, const char*>;
  template <class Visitable>
  static inline const char type = 0;
  std::vector<Object> objects_;
};

struct WithVisited {
  Visited& visited;
};

/// A visitor for what has parameters of its own: it puts "prefix." before their names, and takes
/// along what was visited. The user's visitor gets lvalues.
template <class Visitor>
struct PrefixingVisitor : WithVisited {
  std::string prefix;
  Visitor& visitor;

  template <class Value, class Gradient>
  void operator()(const std::string& name, Value&& value, Gradient&& gradient) const {
    const std::string full = prefix + "." + name;
    visitor(full, value, gradient);
  }
};

/// Visits parts under names of their own, and each of them once: one that is shared by std::ref
/// under the first of its names, also where it is in several blocks of a stack.
template <class Visitor>
class PartsVisitor {
 public:
  explicit PartsVisitor(Visitor& visitor) : visitor_(visitor) {}

  template <class Part>
  void operator()(const std::string& name, Part& part) {
    const PrefixingVisitor<Visitor> prefixing{{visited()}, name, visitor_};
    if constexpr (requires { part.visit_parameters(prefixing); }) {
      if (visited().is_first_visit(part)) part.visit_parameters(prefixing);
    }
  }

 private:
  Visited& visited() {
    if constexpr (std::is_base_of_v<WithVisited, Visitor>) {
      return visitor_.visited;
    } else {
      return own_visited_;
    }
  }

  Visitor& visitor_;
  Visited own_visited_;
};

template <class Visitable>
void zero_gradients_of(Visitable& visitable) {
  if constexpr (requires { visitable.zero_gradients(); }) visitable.zero_gradients();
}

}  // namespace detail
}  // namespace tokennorm
