// SPDX-License-Identifier: MIT
// Norms whose x, y and parameters are of different scalars: the bounds, and the bits of a token
// alone, of operands anywhere and of any executor.
#include "cases.hpp"
#include "norm_calls.hpp"

#include <string>

namespace tokennorm::test {
namespace {

/// x and dx are of X, y and dy of Y.
template <class Kind, class X, class Y, class Param>
struct Mixed {
  using Norm = typename Kind::template Norm<Param>;
  using Gradients = NormGradients<AccumOf<Param>>;
  struct Results {
    TokenMatrix<Y> y;
    TokenMatrix<X> dx;
    TokenStatistics<float> stats;
    Gradients g;
  };

  static void normalize(const Norm& norm, Form form, const TokenMatrix<X>& x, Results& results) {
    Plain<X> from(form, x);
    Plain<Y> to(form, x.template cast<Y>());
    auto y = rows_of(to.place());
    norm.normalize(rows_of(from.place()), y, results.stats);
    results.y = y;
  }
  static void backpropagate(const Norm& norm, Form form, const TokenMatrix<X>& x,
                            const TokenMatrix<Y>& dy, Results& results) {
    Plain<X> from(form, x), to(form, x);
    Plain<Y> gradient(form, dy);
    auto dx = rows_of(to.place());
    norm.backpropagate(rows_of(from.place()), results.stats, rows_of(gradient.place()), dx,
                       results.g);
    results.dx = dx;
  }

  static void run(FuzzedCase& fuzzed) {
    fuzzed.note("norm", std::string(Kind::name) + " of " + scalar_name<Param>() + ", x of " +
                            scalar_name<X>() + ", y of " + scalar_name<Y>());
    Operands operands(fuzzed);
    const Shape shape = operands.shape();
    const Norm norm = drawn_norm<Case<Kind, Param>>(fuzzed, shape.channels);
    const Surroundings surroundings(fuzzed);
    const TestExecutor executor = drawn_executor(fuzzed);
    const Range range = fuzzed.one_in(4) ? Range::all : Range::finite;

    const auto x = operands.template input<X>("x", shape);
    x.fill(drawn_tokens<X>(fuzzed, "values of x", shape, range));
    const TokenMatrix<X> x_values = x.values();
    const auto y = operands.template output<Y>("y", shape, {});
    const Form forward = form_of(x, y);
    Results expected;
    normalize(norm, forward, x_values, expected);
    TokenStatistics<float> stats;
    auto y_map = rows_of(y);
    if (operands.make(
            "norm.normalize(x, y, stats)", operands.may_write(y, x),
            [&] { norm.normalize(rows_of(x), y_map, stats, executor); }, y)) {
      require_same(fuzzed, "y", y.values(), expected.y);
      require_same(fuzzed, "rstd", stats.rstd, expected.stats.rstd);
    }

    x.fill(x_values);
    const auto dy = operands.template input<Y>("dy", shape);
    dy.fill(drawn_tokens<Y>(fuzzed, "values of dy", shape, range));
    const TokenMatrix<X> x_again = x.values();
    const TokenMatrix<Y> dy_values = dy.values();
    const auto dx = operands.template output<X>("dx", shape, {x});
    const Form backward = form_of(x, dy, dx);
    normalize(norm, forward, x_again, expected);
    backpropagate(norm, backward, x_again, dy_values, expected);
    Gradients g;
    auto dx_map = rows_of(dx);
    if (operands.make(
            "norm.backpropagate(x, stats, dy, dx, gradients)", operands.may_write(dx, x, dy),
            [&] {
              norm.backpropagate(rows_of(x), expected.stats, rows_of(dy), dx_map, g, executor);
            },
            dx)) {
      require_same(fuzzed, "dx", dx.values(), expected.dx);
      require_same_gradients(fuzzed, norm, x_again, dy_values, dx.is_same_as(x), g, expected.g);
    }

    if (shape.tokens > 0) {
      const Index t = fuzzed.below(shape.tokens);
      Results alone;
      normalize(norm, forward, x_again.row(t), alone);
      backpropagate(norm, backward, x_again.row(t), dy_values.row(t), alone);
      require_same(fuzzed, "y of a token alone", expected.y.row(t), alone.y);
      require_same(fuzzed, "dx of a token alone", expected.dx.row(t), alone.dx);
    }
    const ExactStep step = exact_results(expected.y, expected.dx, expected.stats, expected.g);
    const ExactNorm exact_norm = ExactNorm::of(norm);
    require_forward_bounds(fuzzed, Precision::of<Y>(), exact_norm, exact(x_again), step);
    require_backward_bounds(fuzzed, Precision::of<X>(), exact_norm, exact(x_again),
                            exact(dy_values), step);
  }
};

}  // namespace

void run_mixed_case(FuzzedCase& fuzzed) {
  if (fuzzed.one_of("x of bfloat16", {true, false})) {
    Mixed<LayerKind, Eigen::bfloat16, float, float>::run(fuzzed);
  } else {
    Mixed<RMSKind, float, Eigen::half, Eigen::bfloat16>::run(fuzzed);
  }
}

}  // namespace tokennorm::test
