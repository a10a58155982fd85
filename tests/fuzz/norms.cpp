// SPDX-License-Identifier: MIT
// Inference, statistics and backward of a norm: within the bounds of the oracle, with the bits of a
// token alone and of plain matrices wherever operands lie, whatever they share and whoever runs it.
#include "cases.hpp"
#include "norm_calls.hpp"

#include <string>

namespace tokennorm::test {
namespace {

/// One of the tokens has the same bits without the others.
template <class TypedCase, class Norm, class Tokens>
void require_token_alone(FuzzedCase& fuzzed, const Norm& norm, Form forward, Form backward,
                         const Tokens& x, const Tokens& dy, const Results<TypedCase>& all) {
  if (x.rows() == 0) return;
  const Index t = fuzzed.below(x.rows());
  const Tokens token = x.row(t), gradient = dy.row(t);
  Results<TypedCase> alone;
  normalize_plainly(norm, forward, token, alone);
  require_same(fuzzed, "y of a token alone", all.y.row(t), alone.y);
  require_same(fuzzed, "rstd of a token alone", all.stats.rstd.row(t), alone.stats.rstd);
  if (TypedCase::Kind::centred)
    require_same(fuzzed, "mean of a token alone", all.stats.mean.row(t), alone.stats.mean);
  backpropagate_plainly(norm, backward, token, gradient, alone);
  require_same(fuzzed, "dx of a token alone", all.dx.row(t), alone.dx);
}

template <class TypedCase>
void run_case_of(FuzzedCase& fuzzed) {
  using Scalar = typename TypedCase::Scalar;
  Operands operands(fuzzed);
  const Shape shape = operands.shape();
  const auto norm = drawn_norm<TypedCase>(fuzzed, shape.channels);
  const Surroundings surroundings(fuzzed);
  const TestExecutor executor = drawn_executor(fuzzed);
  const Range range = fuzzed.one_in(4) ? Range::all : Range::finite;

  const auto x = operands.template input<Scalar>("x", shape);
  x.fill(drawn_tokens<Scalar>(fuzzed, "values of x", shape, range));
  const TokenMatrix<Scalar> x_values = x.values();
  const auto y = operands.template output<Scalar>("y", shape, {x});
  const Form forward = form_of(x, y);
  Results<TypedCase> expected;
  normalize_plainly(norm, forward, x_values, expected);
  const bool is_y_allowed = operands.may_write(y, x);
  typename TypedCase::Statistics stats;
  auto y_map = rows_of(y);
  if (fuzzed.one_in(2)) {
    if (operands.make(
            "norm(x, y)", is_y_allowed, [&] { norm(rows_of(x), y_map, executor); }, y))
      require_same(fuzzed, "y", y.values(), expected.y);
  } else {
    if (operands.make(
            "norm.normalize(x, y, stats)", is_y_allowed,
            [&] { norm.normalize(rows_of(x), y_map, stats, executor); }, y)) {
      require_same(fuzzed, "y", y.values(), expected.y);
      require_same(fuzzed, "rstd", stats.rstd, expected.stats.rstd);
      require_same(fuzzed, "mean", stats.mean, expected.stats.mean);
    } else {
      fuzzed.require(stats.rstd.size() == 0, "statistics of a refused call are left alone");
    }
  }

  // Where y was written over it, x has its values again; then dy may stand where x does.
  x.fill(x_values);
  const auto dy = operands.template input<Scalar>("dy", shape);
  dy.fill(drawn_tokens<Scalar>(fuzzed, "values of dy", shape, range));
  const TokenMatrix<Scalar> dy_values = dy.values(), x_again = x.values();
  const auto dx = operands.template output<Scalar>("dx", shape, {dy, x});
  const Form backward = form_of(x, dy, dx);
  normalize_plainly(norm, forward, x_again, expected);
  backpropagate_plainly(norm, backward, x_again, dy_values, expected);
  typename TypedCase::Gradients g;
  auto dx_map = rows_of(dx);
  if (operands.make(
          "norm.backpropagate(x, stats, dy, dx, gradients)", operands.may_write(dx, x, dy),
          [&] { norm.backpropagate(rows_of(x), expected.stats, rows_of(dy), dx_map, g, executor); },
          dx)) {
    require_same(fuzzed, "dx", dx.values(), expected.dx);
    require_same_gradients(fuzzed, norm, x_again, dy_values, dx.is_same_as(x) || dx.is_same_as(dy),
                           g, expected.g);
  } else {
    fuzzed.require(g.scale.size() + g.shift.size() == 0,
                   "gradients of a refused call are left alone");
  }

  require_token_alone(fuzzed, norm, forward, backward, x_again, dy_values, expected);
  const auto precision = Precision::of<Scalar>();
  const ExactNorm exact_norm = ExactNorm::of(norm);
  const ExactStep step = expected.exactly();
  require_forward_bounds(fuzzed, precision, exact_norm, exact(x_again), step);
  require_backward_bounds(fuzzed, precision, exact_norm, exact(x_again), exact(dy_values), step);
}

}  // namespace

void run_norm_case(FuzzedCase& fuzzed) {
  run_some_case(fuzzed, AllCases(), [&]<class TypedCase>() { run_case_of<TypedCase>(fuzzed); });
}

}  // namespace tokennorm::test
