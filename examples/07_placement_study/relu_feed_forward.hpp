// SPDX-License-Identifier: MIT
/// The feed-forward layer of the Transformer of 2017:  y = relu(x·W₁)·W₂,  each token on its own.
///
///     relu'(h) = 1 for h > 0, else 0
///
/// For h ~ N(0, σ²), E relu(h)² = σ²/2: so E‖y‖² = ½·E‖x‖² where W₁, W₂ ~ N(0, 1 / inputs). From
/// this the bounds of Xiong et al. 2020 are made. (For example 02's gelu it is 0.43 at σ = 1.)
///
/// Shapes     x, y (T, C) · h (T, hidden)
/// Source     Vaswani et al. 2017, arXiv:1706.03762, eq. 2; lemma 1 of Xiong et al. 2020,
///            arXiv:2002.04745
#pragma once

#include "batch.hpp"
#include "linear.hpp"

namespace study {

class ReluFeedForward : public gpt::InputOutput<float> {
 public:
  using Tokens = gpt::TokenMatrix<float>;

  ReluFeedForward(gpt::Linear<float> input, gpt::Linear<float> output)
      : InputOutput(std::move(input), std::move(output)) {}

  Tokens operator()(const Tokens& x) const { return output_(relu(input_(x))); }

  Tokens forward(const Tokens& x, gpt::Batch<float>& batch, gpt::BlockIndex block) const {
    auto& saved = batch[block].feed_forward;
    saved.x = x;
    saved.hidden = input_(x);
    saved.active = relu(saved.hidden);
    return output_(saved.active);
  }
  Tokens backward(const Tokens& dy, gpt::Batch<float>& batch, gpt::BlockIndex block) {
    const auto& saved = batch[block].feed_forward;
    const Tokens dactive = output_.backward(saved.active, dy);
    const Tokens dhidden = (saved.hidden.array() > 0.0F).select(dactive, 0.0F);
    return input_.backward(saved.x, dhidden);
  }

 private:
  static Tokens relu(const Tokens& hidden) { return hidden.cwiseMax(0.0F); }
};

}  // namespace study
