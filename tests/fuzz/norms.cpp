// SPDX-License-Identifier: MIT
// Inference, statistics and backward of a norm: within the bounds of the oracle, with the bits of a
// token alone and of plain matrices wherever operands lie, whatever they share and whoever runs it.
#include "cases.hpp"
#include "norm_calls.hpp"

#include <string>

namespace tokennorm::test {
namespace {

/// The results of plain matrices without an executor.
template <class TypedCase>
struct Results {
  using Scalar = typename TypedCase::Scalar;
  TokenMatrix<Scalar> y, dx;
  typename TypedCase::Statistics stats;
  typename TypedCase::Gradients g;

  ExactStep exactly() const {
    return {"",
            exact(y),
            exact(dx),
            exact_vector(stats.mean),
            exact_vector(stats.rstd),
            exact_vector(g.scale),
            exact_vector(g.shift)};
  }
};

template <class TypedCase, class Norm, class Tokens>
void normalize_plainly(const Norm& norm, Form form, const Tokens& x, Results<TypedCase>& results) {
  with_order<typename TypedCase::Scalar>(form, [&](auto from) {
    from = x;
    auto y = from;
    auto y_map = map_of(y);
    norm.normalize(map_of(from), y_map, results.stats);
    results.y = y;
  });
}

template <class TypedCase, class Norm, class Tokens>
void backpropagate_plainly(const Norm& norm, Form form, const Tokens& x, const Tokens& dy,
                           Results<TypedCase>& results) {
  with_order<typename TypedCase::Scalar>(form, [&](auto from) {
    from = x;
    decltype(from) gradient = dy, dx = from;
    auto dx_map = map_of(dx);
    norm.backpropagate(map_of(from), results.stats, map_of(gradient), dx_map, results.g);
    results.dx = dx;
  });
}

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

/// Where dy is so large that float does not hold its sums, those of gradients are taken in another
/// order if they have to be taken before dx is written. So may those of a partial norm, whose x̂ may
/// be large.
template <class Tokens>
bool has_huge_values(const Tokens& tokens, long double most) {
  return !(exact(tokens).cwiseAbs().array() <= most).all();
}

template <class TypedCase, class Matrix>
void run_case_in_order(FuzzedCase& fuzzed) {
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
  const Form forward = form_of<Matrix>(x, y);
  Results<TypedCase> expected;
  normalize_plainly(norm, forward, x_values, expected);
  const bool is_y_allowed =
      !operands.is_shared() || (!overlaps_itself(y) && (y.is_same_as(x) || !share_a_byte(x, y)));
  typename TypedCase::Statistics stats;
  auto y_map = y.template as<Matrix>();
  if (fuzzed.one_in(2)) {
    if (operands.make(
            "norm(x, y)", is_y_allowed, [&] { norm(x.template as<Matrix>(), y_map, executor); }, y))
      require_same(fuzzed, "y", y.values(), expected.y);
  } else {
    if (operands.make(
            "norm.normalize(x, y, stats)", is_y_allowed,
            [&] { norm.normalize(x.template as<Matrix>(), y_map, stats, executor); }, y)) {
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
  const Form backward = form_of<Matrix>(x, dy, dx);
  normalize_plainly(norm, forward, x_again, expected);
  backpropagate_plainly(norm, backward, x_again, dy_values, expected);
  const auto may_be_written = [&](const auto& read) {
    return dx.is_same_as(read) || !share_a_byte(dx, read);
  };
  const bool is_dx_allowed =
      !operands.is_shared() || (!overlaps_itself(dx) && may_be_written(x) && may_be_written(dy));
  typename TypedCase::Gradients g;
  auto dx_map = dx.template as<Matrix>();
  if (operands.make(
          "norm.backpropagate(x, stats, dy, dx, gradients)", is_dx_allowed,
          [&] {
            norm.backpropagate(x.template as<Matrix>(), expected.stats, dy.template as<Matrix>(),
                               dx_map, g, executor);
          },
          dx)) {
    require_same(fuzzed, "dx", dx.values(), expected.dx);
    const bool is_in_place = dx.is_same_as(x) || dx.is_same_as(dy);
    if (is_in_place &&
        (ExactNorm::of(norm).spec.statistics_channels != 0 || has_huge_values(dy_values, 0x1p64L) ||
         has_huge_values(x_again, std::numeric_limits<long double>::max()))) {
      expected.g = g;
    } else {
      require_same(fuzzed, "dgamma", g.scale, expected.g.scale);
      require_same(fuzzed, "dbeta", g.shift, expected.g.shift);
    }
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

template <class Kind, class Scalar>
void run_case(FuzzedCase& fuzzed) {
  using TypedCase = Case<Kind, Scalar>;
  fuzzed.note("norm", CaseName::GetName<TypedCase>(0));
  if (fuzzed.one_of("maps of columns", {false, true})) {
    run_case_in_order<TypedCase, typename TypedCase::ColMajor>(fuzzed);
  } else {
    run_case_in_order<TypedCase, typename TypedCase::RowMajor>(fuzzed);
  }
}

}  // namespace

void run_norm_case(FuzzedCase& fuzzed) {
  using Run = void (*)(FuzzedCase&);
  constexpr Run runs[] = {run_case<LayerKind, float>,           run_case<RMSKind, float>,
                          run_case<LayerKind, double>,          run_case<RMSKind, double>,
                          run_case<LayerKind, Eigen::half>,     run_case<RMSKind, Eigen::half>,
                          run_case<LayerKind, Eigen::bfloat16>, run_case<RMSKind, Eigen::bfloat16>};
  runs[fuzzed.below(std::size(runs))](fuzzed);
}

}  // namespace tokennorm::test
