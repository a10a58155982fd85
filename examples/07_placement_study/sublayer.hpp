// SPDX-License-Identifier: MIT
/// Any sublayer of example 02's kind, behind one type: so that the stacks, which take most of the
/// time to compile, are compiled once, whatever stands between their norms.
///
///     Sublayer(gpt::CausalSelfAttention<float>(…))      Sublayer(ReluFeedForward(…))
///
/// Shapes     x, y, dy, dx (T, C)
#pragma once

#include "batch.hpp"
#include "parameters.hpp"
#include "sequences.hpp"

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace study {

using gpt::Index;
using Tokens = gpt::TokenMatrix<float>;
using Batch = gpt::Batch<float>;
using Matrix = Eigen::Map<Tokens>;
using Visitor = std::function<void(const std::string& name, Matrix& value, Matrix& gradient)>;

/// E h² = E‖h‖²/C
inline double mean_square(const Tokens& h) {
  return static_cast<double>(h.squaredNorm()) / static_cast<double>(h.size());
}

/// A visitor of any model's parameters: each is given as a matrix, a vector as one row.
inline auto as_matrices(const Visitor& visitor) {
  return [&visitor](const std::string& name, auto& value, auto& gradient) {
    Matrix v(value.data(), value.rows(), value.cols());
    Matrix g(gradient.data(), gradient.rows(), gradient.cols());
    visitor(name, v, g);
  };
}

class Sublayer {
 public:
  template <class F>
  requires(!std::is_same_v<F, Sublayer>)  //
      explicit Sublayer(F f)
      : part_(std::make_unique<PartOf<F>>(std::move(f))) {}

  Tokens operator()(const Tokens& x, const gpt::Sequences& sequences) const {
    return part_->infer(x, sequences);
  }
  Tokens forward(const Tokens& x, Batch& batch, gpt::BlockIndex block) const {
    return part_->forward(x, batch, block);
  }
  Tokens backward(const Tokens& dy, Batch& batch, gpt::BlockIndex block) {
    return part_->backward(dy, batch, block);
  }
  void visit_parameters(const Visitor& visitor) { part_->visit_parameters(visitor); }
  void zero_gradients() { part_->zero_gradients(); }

 private:
  struct Part {
    virtual ~Part() = default;
    virtual Tokens infer(const Tokens& x, const gpt::Sequences& sequences) const = 0;
    virtual Tokens forward(const Tokens& x, Batch& batch, gpt::BlockIndex block) const = 0;
    virtual Tokens backward(const Tokens& dy, Batch& batch, gpt::BlockIndex block) = 0;
    virtual void visit_parameters(const Visitor& visitor) = 0;
    virtual void zero_gradients() = 0;
  };
  template <class F>
  struct PartOf;

  std::unique_ptr<Part> part_;
};

template <class F>
struct Sublayer::PartOf final : Part {
  explicit PartOf(F sublayer) : f(std::move(sublayer)) {}

  Tokens infer(const Tokens& x, const gpt::Sequences& sequences) const override {
    if constexpr (std::is_invocable_v<const F&, const Tokens&, const gpt::Sequences&>) {
      return f(x, sequences);
    } else {
      return f(x);
    }
  }
  Tokens forward(const Tokens& x, Batch& batch, gpt::BlockIndex block) const override {
    return f.forward(x, batch, block);
  }
  Tokens backward(const Tokens& dy, Batch& batch, gpt::BlockIndex block) override {
    return f.backward(dy, batch, block);
  }
  void visit_parameters(const Visitor& visitor) override {
    f.visit_parameters(as_matrices(visitor));
  }
  void zero_gradients() override { f.zero_gradients(); }

  F f;
};

}  // namespace study
