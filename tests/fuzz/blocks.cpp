// SPDX-License-Identifier: MIT
// Blocks and stacks: the bits of their parts run one by one, wherever x and y lie; in training
// those of inference, and gradients that are the same with a record, an executor and operands
// anywhere.
#include "../block/equations.hpp"
#include "../block/placements.hpp"
#include "cases.hpp"
#include "norm_calls.hpp"

#include <algorithm>
#include <map>
#include <string>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
using Gradients = std::map<std::string, Eigen::VectorXf>;

template <class Block>
Gradients gradients_of(Block& block) {
  Gradients gradients;
  block.visit_parameters([&](const std::string& name, auto&&, auto&& gradient) {
    gradients[name] = gradient.template cast<float>();
  });
  block.zero_gradients();
  return gradients;
}

void require_same_gradients(const FuzzedCase& fuzzed, const Gradients& actual,
                            const Gradients& expected) {
  fuzzed.require(actual.size() == expected.size(), "a block has the same parameters each time");
  for (const auto& [name, gradient] : expected)
    require_same(fuzzed, name.c_str(), actual.at(name), gradient);
}

template <class Placement, class Matrix>
void run_placement(FuzzedCase& fuzzed) {
  fuzzed.note("block", Placement::name);
  Operands operands(fuzzed);
  const Shape most = operands.shape();  // sublayers take their time
  const Shape shape{std::min<Index>(most.tokens, 40), 1 + most.channels % 40};
  fuzzed.note("shape of the block", shape);
  auto block = Placement::template make<float>(shape.channels);
  const Surroundings surroundings(fuzzed);
  const TestExecutor executor = drawn_executor(fuzzed);

  const auto x = operands.template input<float>("x", shape);
  x.fill(drawn_tokens<float>(fuzzed, "values of x", shape, Range::finite));
  const Tokens x_values = x.values();
  const auto y = operands.template output<float>("y", shape, {x});
  const Tokens expected = equation<StepByStep<float>>(block, x_values);
  const auto x_map = x.template as<Matrix>();
  auto y_map = y.template as<Matrix>();
  Workspace<float> workspace;
  const bool has_workspace = fuzzed.one_of("workspace", {true, false});
  if (operands.make(
          "block(x, y)", operands.may_write(y, x),
          [&] {
            if (has_workspace)
              block(x_map, y_map, workspace, executor);
            else
              block(x_map, y_map, executor);
          },
          y))
    require_same(fuzzed, "y", y.values(), expected);

  x.fill(x_values);
  const auto dy = operands.template input<float>("dy", shape);
  dy.fill(drawn_tokens<float>(fuzzed, "values of dy", shape, Range::finite));
  const Tokens x_again = x.values(), dy_values = dy.values();
  const auto dx = operands.template output<float>("dx", shape, {dy});
  const Tokens y_of_training = block.forward(x_again);
  require_same(fuzzed, "y of training", y_of_training, Tokens(block(x_again)));
  const Tokens expected_dx = block.backward(dy_values);
  const Gradients gradients = gradients_of(block);
  TrainingRecord<float> record;
  Tokens y_of_record;
  block.forward(x_map, y_of_record, record, executor);
  require_same(fuzzed, "y of a record", y_of_record, y_of_training);
  const auto dy_map = dy.template as<Matrix>();
  auto dx_map = dx.template as<Matrix>();
  if (operands.make(
          "block.backward(dy, dx, record)", operands.may_write(dx, dy),
          [&] { block.backward(dy_map, dx_map, record, executor); }, dx)) {
    require_same(fuzzed, "dx", dx.values(), expected_dx);
    require_same_gradients(fuzzed, gradients_of(block), gradients);
  }
}

template <class Placement>
void run_placement_in_some_order(FuzzedCase& fuzzed) {
  if (fuzzed.one_of("maps of columns", {false, true})) {
    run_placement<Placement, Eigen::MatrixXf>(fuzzed);
  } else {
    run_placement<Placement, Tokens>(fuzzed);
  }
}

}  // namespace

void run_block_case(FuzzedCase& fuzzed) {
  using Run = void (*)(FuzzedCase&);
  constexpr Run runs[] = {run_placement_in_some_order<StackOfATuplePlacement>,
                          run_placement_in_some_order<StackOfVariantsPlacement>,
                          run_placement_in_some_order<StackOfPostLNPlacement>,
                          run_placement_in_some_order<ScaledSandwichPlacement>,
                          run_placement_in_some_order<BlockOfThreePlacement>};
  runs[fuzzed.below(std::size(runs))](fuzzed);
}

}  // namespace tokennorm::test
