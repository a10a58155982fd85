// SPDX-License-Identifier: MIT
// Heads: the bits of the same heads one behind the other.
#include "cases.hpp"
#include "norm_calls.hpp"
#include <tokennorm/norm/heads.hpp>

#include <algorithm>

namespace tokennorm::test {
namespace {

/// The heads of all rows one behind the other, and rows of them.
template <class Scalar>
TokenMatrix<Scalar> reshaped(const TokenMatrix<Scalar>& tokens, Index channels) {
  return Eigen::Map<const TokenMatrix<Scalar>>(tokens.data(), tokens.size() / channels, channels);
}

template <class TypedCase>
void run_case_of(FuzzedCase& fuzzed) {
  using Scalar = typename TypedCase::Scalar;
  Operands operands(fuzzed);
  const Shape head = operands.shape();
  const Index count = 1 + fuzzed.below(std::max<Index>(1, std::min<Index>(4, head.tokens)));
  const Shape shape{head.tokens / count, count * head.channels};
  fuzzed.note("shape of the heads together", shape);
  const auto norm = drawn_norm<TypedCase>(fuzzed, head.channels);
  const Surroundings surroundings(fuzzed);
  const TestExecutor executor = drawn_executor(fuzzed);
  const Range range = fuzzed.one_in(4) ? Range::all : Range::finite;
  const auto heads_of = [&](const auto& place) { return heads(rows_of(place), head.channels); };
  const auto x = operands.template input<Scalar>("x", shape);
  x.fill(drawn_tokens<Scalar>(fuzzed, "values of x", shape, range));
  const TokenMatrix<Scalar> x_values = x.values();
  const auto y = operands.template output<Scalar>("y", shape, {x});
  const Form forward = form_of(x, y);
  Results<TypedCase> expected;
  normalize_plainly(norm, forward, reshaped<Scalar>(x_values, head.channels), expected);
  typename TypedCase::Statistics stats;
  const bool has_stats = fuzzed.one_of("statistics", {true, false});
  if (operands.make(
          "norm(heads(x), heads(y))", operands.may_write(y, x),
          [&] {
            if (has_stats)
              norm.normalize(heads_of(x), heads_of(y), stats, executor);
            else
              norm(heads_of(x), heads_of(y), executor);
          },
          y)) {
    require_same(fuzzed, "y", reshaped<Scalar>(y.values(), head.channels), expected.y);
    if (has_stats) {
      require_same(fuzzed, "rstd", stats.rstd, expected.stats.rstd);
      require_same(fuzzed, "mean", stats.mean, expected.stats.mean);
    }
  }

  x.fill(x_values);
  const auto dy = operands.template input<Scalar>("dy", shape);
  dy.fill(drawn_tokens<Scalar>(fuzzed, "values of dy", shape, range));
  const auto x_again = reshaped<Scalar>(x.values(), head.channels);
  const auto dy_values = reshaped<Scalar>(dy.values(), head.channels);
  const auto dx = operands.template output<Scalar>("dx", shape, {dy, x});
  normalize_plainly(norm, forward, x_again, expected);
  backpropagate_plainly(norm, form_of(x, dy, dx), x_again, dy_values, expected);
  typename TypedCase::Gradients g;
  if (operands.make(
          "norm.backpropagate(heads(x), stats, heads(dy), heads(dx), gradients)",
          operands.may_write(dx, x, dy),
          [&] {
            norm.backpropagate(heads_of(x), expected.stats, heads_of(dy), heads_of(dx), g,
                               executor);
          },
          dx)) {
    require_same(fuzzed, "dx", reshaped<Scalar>(dx.values(), head.channels), expected.dx);
    require_same_gradients(fuzzed, norm, x_again, dy_values, dx.is_same_as(x) || dx.is_same_as(dy),
                           g, expected.g);
  }
}

}  // namespace

void run_heads_case(FuzzedCase& fuzzed) {
  run_some_case(fuzzed, FusedCases(), [&]<class TypedCase>() { run_case_of<TypedCase>(fuzzed); });
}

}  // namespace tokennorm::test
