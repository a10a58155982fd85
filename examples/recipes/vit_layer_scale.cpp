// SPDX-License-Identifier: MIT
// A ViT block as DINOv2 and CaiT train it: each update is multiplied by a learned γ (LayerScale),
// and some images lose it at random (DropPath). One step of gradient descent: forward, backward,
// visit_parameters, in which every parameter has its name.
#include <tokennorm/tokennorm.hpp>

#include <iostream>
#include <map>
#include <string>

using tokennorm::DropPath, tokennorm::LayerNorm, tokennorm::LayerScale;
using Tokens = tokennorm::TokenMatrix<float>;

struct Linear {  // y = n·W: what a trainable sublayer has, in the place of attention and the MLP
  Tokens weight = Tokens::Random(8, 8), gradient = Tokens::Zero(8, 8), input;

  Tokens forward(const Tokens& n) { return (input = n) * weight; }
  Tokens backward(const Tokens& dy) {
    gradient += input.transpose() * dy;
    return dy * weight.transpose();
  }
  void visit_parameters(auto&& visitor) { visitor("weight", weight, gradient); }
  void zero_gradients() { gradient.setZero(); }
};

int main() {
  constexpr int channels = 8, patches = 4, images = 6;
  const auto sublayer = [](unsigned seed) {
    return DropPath(LayerScale(Linear(), channels, 0.1), 0.3, patches, seed);
  };
  const LayerNorm<float> norm(channels);
  tokennorm::PreLN block(norm, sublayer(1), norm, sublayer(2));
  auto stepped = block;  // a copy drops the same images

  const Tokens x = Tokens::Random(images * patches, channels), target = x.reverse();
  const auto loss = [&](const Tokens& y) { return (y - target).cast<double>().squaredNorm() / 2; };
  const Tokens y = block.forward(x);
  block.backward(y - target);

  // θ ← θ − η·dθ, by name, as an optimizer keeps its moments.
  constexpr float rate = 1e-4f;
  double squares = 0;
  std::map<std::string, Tokens> gradients;
  block.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
    gradients[name] = gradient;
    squares += gradient.template cast<double>().squaredNorm();
  });
  stepped.visit_parameters(
      [&](const std::string& name, auto& value, auto&) { value -= rate * gradients.at(name); });

  // loss(θ − η·dθ) = loss(θ) − η·|dθ|² + O(η²)
  const double fall = loss(y) - loss(stepped.forward(x)),
               expected = static_cast<double>(rate) * squares;
  for (const auto& [name, gradient] : gradients) std::cout << name << ' ';
  std::cout << "\nthe loss falls by " << fall << "; by the gradients " << expected << '\n';
  if (fall > 0.98 * expected && fall < 1.02 * expected) return 0;
  std::cerr << "vit_layer_scale: the step does not do what the gradients say\n";
  return 1;
}
