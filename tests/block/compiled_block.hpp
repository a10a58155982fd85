// SPDX-License-Identifier: MIT
// A block of the library as a TestBlock. Included by the files that compile the placements.
#pragma once

#include "equations.hpp"
#include "placements.hpp"
#include <tokennorm/block/stack.hpp>

#include <memory>
#include <utility>

namespace tokennorm::test {

template <class Scalar, class Block>
class CompiledBlock final : public TestBlock<Scalar> {
 public:
  using typename TestBlock<Scalar>::Tokens;
  using typename TestBlock<Scalar>::Visitor;
  static constexpr bool trained = std::is_same_v<Scalar, double>;

  explicit CompiledBlock(Block block) : block_(std::move(block)) {}
  std::unique_ptr<TestBlock<Scalar>> clone() const override {
    return std::make_unique<CompiledBlock>(*this);
  }
  void assign(const TestBlock<Scalar>& other) override {
    block_ = dynamic_cast<const CompiledBlock&>(other).block_;
  }

  Tokens operator()(const Tokens& x) const override { return block_(x); }
  void operator()(const Tokens& x, Tokens& y, Workspace<Scalar>& workspace) const override {
    block_(x, y, workspace);
  }
  void operator()(const Tokens& x, Tokens& y, Workspace<Scalar>& workspace,
                  const TestExecutor& executor) const override {
    block_(x, y, workspace, executor);
  }
  ExactMatrix exact(const ExactMatrix& x) const override { return equation<Exactly>(block_, x); }
  Tokens step_by_step(const Tokens& x) const override {
    return equation<StepByStep<Scalar>>(block_, x);
  }

  Tokens forward(const Tokens& x) override {
    if constexpr (trained) return block_.forward(x);
    return x;
  }
  Tokens backward(const Tokens& dy) override {
    if constexpr (trained) return block_.backward(dy);
    return dy;
  }
  Tokens forward(const Tokens& x, const TestExecutor& executor) override {
    if constexpr (trained) return block_.forward(x, executor);
    return x;
  }
  Tokens backward(const Tokens& dy, const TestExecutor& executor) override {
    if constexpr (trained) return block_.backward(dy, executor);
    return dy;
  }
  void visit_parameters(const Visitor& visitor) override { block_.visit_parameters(visitor); }
  void zero_gradients() override { block_.zero_gradients(); }

 private:
  Block block_;
};

template <class Scalar, class Block>
std::unique_ptr<TestBlock<Scalar>> compiled(Block block) {
  return std::make_unique<CompiledBlock<Scalar, Block>>(std::move(block));
}

}  // namespace tokennorm::test
