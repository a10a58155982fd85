// SPDX-License-Identifier: MIT
// Fused sums: the addition and then the norm, bit by bit, the sum stored or not; and backward, the
// gradient through the norm added to the one along the residual stream.
#include "../norm/rounded_sum.hpp"
#include "cases.hpp"
#include "norm_calls.hpp"

namespace tokennorm::test {
namespace {

/// The sum of plain matrices, its norm, and that they are what they would be one after the other.
template <class TypedCase, class Norm, class Tokens>
Results<TypedCase> add_plainly(const FuzzedCase& fuzzed, const Norm& norm, Form form,
                               const Tokens& residual, const Tokens& update) {
  Results<TypedCase> results, apart;
  Plain h(form, residual), u(form, update), to_sum(form, residual), to_y(form, residual);
  auto sum = rows_of(to_sum.place()), y = rows_of(to_y.place());
  norm.normalize_sum(rows_of(h.place()), rows_of(u.place()), sum, y, results.stats);
  results.sum = sum;
  results.y = y;
  for (Index i = 0; i < residual.size(); ++i)
    fuzzed.require(is_rounded_sum_of(results.sum.data()[i], residual.data()[i], update.data()[i]),
                   "a sum is rounded once");
  normalize_plainly(norm, form, results.sum, apart);
  require_same(fuzzed, "y of the sum as it is stored", results.y, apart.y);
  require_same(fuzzed, "rstd of the sum as it is stored", results.stats.rstd, apart.stats.rstd);
  require_same(fuzzed, "mean of the sum as it is stored", results.stats.mean, apart.stats.mean);
  return results;
}

template <class TypedCase, class Norm, class Tokens>
void backpropagate_sum_plainly(const Norm& norm, Form form, const Tokens& sum, const Tokens& dy,
                               const Tokens& dsum, Results<TypedCase>& results) {
  Plain x(form, sum), gradient(form, dy), skipped(form, dsum), to(form, sum);
  auto dx = rows_of(to.place());
  norm.backpropagate_sum(rows_of(x.place()), results.stats, rows_of(gradient.place()),
                         rows_of(skipped.place()), dx, results.g);
  results.dx = dx;
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

  const auto residual = operands.template input<Scalar>("residual", shape);
  const auto update = operands.template input<Scalar>("update", shape);
  residual.fill(drawn_tokens<Scalar>(fuzzed, "values of residual", shape, range));
  update.fill(drawn_tokens<Scalar>(fuzzed, "values of update", shape, range));
  const TokenMatrix<Scalar> h_values = residual.values(), u_values = update.values();
  const auto sum = operands.template output<Scalar>("sum", shape, {residual, update});
  const auto y = operands.template output<Scalar>("y", shape, {update, residual});
  const bool is_stored = fuzzed.one_of("sum is stored", {true, false});
  const bool has_stats = fuzzed.one_of("statistics", {true, false});
  const Form form = is_stored ? form_of(residual, update, sum, y) : form_of(residual, update, y);
  auto expected = add_plainly<TypedCase>(fuzzed, norm, form, h_values, u_values);
  const bool is_allowed =
      operands.may_write(y, residual, update) &&
      (!is_stored || (operands.may_write(sum, residual, update) && operands.are_apart(sum, y)));
  typename TypedCase::Statistics stats;
  const auto h_map = rows_of(residual), u_map = rows_of(update);
  auto sum_map = rows_of(sum), y_map = rows_of(y);
  const bool is_made =
      is_stored ? operands.make(
                      "norm.normalize_sum(residual, update, sum, y)", is_allowed,
                      [&] {
                        if (has_stats)
                          norm.normalize_sum(h_map, u_map, sum_map, y_map, stats, executor);
                        else
                          norm.normalize_sum(h_map, u_map, sum_map, y_map, executor);
                      },
                      sum, y)
                : operands.make(
                      "norm.normalize_sum(residual, update, y)", is_allowed,
                      [&] {
                        if (has_stats)
                          norm.normalize_sum(h_map, u_map, y_map, stats, executor);
                        else
                          norm.normalize_sum(h_map, u_map, y_map, executor);
                      },
                      y);
  if (is_made) {
    if (is_stored) require_same(fuzzed, "sum", sum.values(), expected.sum);
    require_same(fuzzed, "y", y.values(), expected.y);
    if (has_stats) {
      require_same(fuzzed, "rstd", stats.rstd, expected.stats.rstd);
      require_same(fuzzed, "mean", stats.mean, expected.stats.mean);
    }
  }

  const auto dy = operands.template input<Scalar>("dy", shape);
  const auto dsum = operands.template input<Scalar>("dsum", shape);
  sum.fill(expected.sum);
  dy.fill(drawn_tokens<Scalar>(fuzzed, "values of dy", shape, range));
  dsum.fill(drawn_tokens<Scalar>(fuzzed, "values of dsum", shape, range));
  const TokenMatrix<Scalar> x_values = sum.values(), dy_values = dy.values(),
                            dsum_values = dsum.values();
  const auto dx = operands.template output<Scalar>("dx", shape, {dsum, dy, sum});
  const Form backward = form_of(sum, dy, dsum, dx);
  normalize_plainly(norm, form, x_values, expected);
  backpropagate_sum_plainly(norm, backward, x_values, dy_values, dsum_values, expected);
  typename TypedCase::Gradients g;
  auto dx_map = rows_of(dx);
  if (operands.make(
          "norm.backpropagate_sum(sum, stats, dy, dsum, dx, gradients)",
          operands.may_write(dx, sum, dy, dsum),
          [&] {
            norm.backpropagate_sum(rows_of(sum), expected.stats, rows_of(dy), rows_of(dsum), dx_map,
                                   g, executor);
          },
          dx)) {
    require_same(fuzzed, "dx", dx.values(), expected.dx);
    require_same_gradients(fuzzed, norm, x_values, dy_values,
                           dx.is_same_as(sum) || dx.is_same_as(dy), g, expected.g);
  }
  const ExactNorm exact_norm = ExactNorm::of(norm);
  require_backward_bounds(fuzzed, Precision::of<Scalar>(), exact_norm, exact(x_values),
                          exact(dy_values), expected.exactly(), exact(dsum_values));
}

}  // namespace

void run_sum_case(FuzzedCase& fuzzed) {
  run_some_case(fuzzed, FusedCases(), [&]<class TypedCase>() { run_case_of<TypedCase>(fuzzed); });
}

}  // namespace tokennorm::test
