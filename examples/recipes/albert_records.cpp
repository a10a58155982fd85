// SPDX-License-Identifier: MIT
// ALBERT: one Post-LN layer is all layers. Each use of it in training has a record of its own, and
// so has what its sublayers remember, handed to them by with(…); all add to the same gradients. For
// any module that is used more than once before its backward.
#include <tokennorm/tokennorm.hpp>

#include <array>
#include <cmath>
#include <iostream>

using Tokens = tokennorm::TokenMatrix<double>;

struct Use {  // of the layer: its record, and what its sublayers remember
  tokennorm::TrainingRecord<double> record;
  Tokens attention_input, feed_forward_input;
};

struct Linear {  // y = n·W, in the place of attention and of feed-forward
  Tokens Use::*input;
  Tokens weight = Tokens::Random(8, 8), gradient = Tokens::Zero(8, 8);

  Tokens forward(const Tokens& n, Use& use) { return (use.*input = n) * weight; }
  Tokens backward(const Tokens& dy, Use& use) {
    gradient += (use.*input).transpose() * dy;
    return dy * weight.transpose();
  }
};

int main() {
  const tokennorm::LayerNorm<double> norm(8, {.epsilon = 1e-12});
  const Linear attention{&Use::attention_input}, feed_forward{&Use::feed_forward_input};
  tokennorm::PostLN layer(attention, norm, feed_forward, norm);
  std::array<Use, 3> uses;
  const Tokens x = Tokens::Random(5, 8), dy = Tokens::Random(5, 8);
  // loss = Σ dy∘layer(layer(layer(x)))
  const auto loss = [&] {
    Tokens h = x;
    for (Use& use : uses) layer.forward(h, h, use.record, tokennorm::with(use));
    return h.cwiseProduct(dy).sum();
  };
  loss();
  Tokens dx = dy;
  for (auto use = uses.rbegin(); use != uses.rend(); ++use) {
    layer.backward(dx, dx, use->record, tokennorm::with(*use));
  }

  // dloss/dγ = (loss(γ + δ) − loss(γ − δ))/2δ + O(δ²), of one γ
  const double gradient = layer.attention_norm().gradients().scale[3], delta = 1e-5;
  double& scale = layer.attention_norm().scale()[3];
  scale += delta;
  const double above = loss();
  scale -= 2 * delta;
  const double error = std::abs((above - loss()) / (2 * delta) - gradient);
  std::cout << "dγ of three uses is " << gradient << "; a central difference is " << error
            << " from it\n";
  if (error < 1e-7) return 0;
  std::cerr << "albert_records: the gradient of three uses is not that of the loss\n";
  return 1;
}
