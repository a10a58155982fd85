// SPDX-License-Identifier: MIT
// A norm as a module, and one whose kind is chosen at run time: the bits of the norm itself, and of
// maps whose strides are known when they run only.
#include "cases.hpp"
#include "norm_calls.hpp"
#include <tokennorm/norm/any_norm.hpp>

namespace tokennorm::test {
namespace {

template <class TypedCase>
AnyNorm<typename TypedCase::Scalar> any_norm(const typename TypedCase::Norm& norm) {
  const auto& options = norm.options();
  AnyNormOptions same{options.epsilon, options.scale, options.shift, options.scale_offset, {}};
  if constexpr (!TypedCase::Kind::centred) same.statistics_channels = options.statistics_channels;
  AnyNorm<typename TypedCase::Scalar> any(norm.kind(), norm.channels(), same);
  any.scale() = norm.scale();
  any.shift() = norm.shift();
  return any;
}

template <class TypedCase, class Matrix>
void run_case_in_order(FuzzedCase& fuzzed) {
  using Scalar = typename TypedCase::Scalar;
  const Shape shape = Operands(fuzzed).shape();
  auto norm = drawn_norm<TypedCase>(fuzzed, shape.channels);
  auto any = any_norm<TypedCase>(norm);
  const Surroundings surroundings(fuzzed);
  const TestExecutor executor = drawn_executor(fuzzed);
  const auto values = drawn_tokens<Scalar>(fuzzed, "values of x", shape, Range::all);
  const auto gradient = drawn_tokens<Scalar>(fuzzed, "values of dy", shape, Range::all);
  const Matrix x = values, dy = gradient;
  const Form form = Matrix::IsRowMajor ? Form::rows : Form::strided;
  Results<TypedCase> expected;
  normalize_plainly(norm, form, values, expected);
  backpropagate_plainly(norm, form, values, gradient, expected);

  Matrix y, dx;
  typename TypedCase::Statistics stats;
  typename TypedCase::Gradients g;
  require_same(fuzzed, "norm(x)", norm(x, executor), expected.y);
  require_same(fuzzed, "any(x)", any(x, executor), expected.y);
  any.normalize(x, y, stats, executor);
  require_same(fuzzed, "y of any", y, expected.y);
  require_same(fuzzed, "rstd of any", stats.rstd, expected.stats.rstd);
  any.backpropagate(x, stats, dy, dx, g, executor);
  require_same(fuzzed, "dx of any", dx, expected.dx);
  require_same(fuzzed, "dgamma of any", g.scale, expected.g.scale);
  require_same(fuzzed, "dbeta of any", g.shift, expected.g.shift);

  // A module keeps x in rows, whatever the order of dy.
  if (form != Form::rows) return;
  const auto require_module = [&](auto& module) {
    require_same(fuzzed, "y of a module", module.forward(x, executor), expected.y);
    require_same(fuzzed, "dx of a module", module.backward(dy, executor), expected.dx);
    require_same(fuzzed, "dgamma of a module", module.gradients().scale, expected.g.scale);
    require_same(fuzzed, "dbeta of a module", module.gradients().shift, expected.g.shift);
  };
  require_module(norm);
  require_module(any);
}

}  // namespace

void run_wrapper_case(FuzzedCase& fuzzed) {
  run_some_case(fuzzed, FusedCases(), [&]<class TypedCase>() {
    if (fuzzed.one_of("columns", {false, true})) {
      run_case_in_order<TypedCase, typename TypedCase::ColMajor>(fuzzed);
    } else {
      run_case_in_order<TypedCase, typename TypedCase::RowMajor>(fuzzed);
    }
  });
}

}  // namespace tokennorm::test
