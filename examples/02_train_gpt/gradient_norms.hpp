// SPDX-License-Identifier: MIT
/// How large the gradient is in each layer, and clipping it.
///
///     ‖g‖ of a layer = √(Σ g²) over all of its parameters
///     clipping       g ← g·min(1, limit / ‖g of the whole model‖)
///
/// This is the quantity that the placement of the norms is about: Xiong et al. 2020,
/// arXiv:2002.04745, theorem 1. Example 07 measures it against depth.
#pragma once

#include "parameters.hpp"

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace gpt {

struct LayerGradient {
  std::string layer;  // "embedding", "blocks.0", …, "final_norm", "head"
  double norm;
};

/// The layer of a parameter: `blocks.3` of `blocks.3.attention.output.weight`, and for names
/// outside the blocks what stands before the first dot.
inline std::string_view layer_of(std::string_view name) {
  const auto first = name.find('.');
  if (name.substr(0, first) != "blocks") return name.substr(0, first);
  return name.substr(0, name.find('.', first + 1));
}

/// The norm of each layer's gradient, in the order of the layers.
template <class Model>
std::vector<LayerGradient> gradient_norms(Model& model) {
  std::vector<LayerGradient> layers;
  model.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
    const auto layer = layer_of(name);
    if (layers.empty() || layers.back().layer != layer) layers.push_back({std::string(layer), 0});
    layers.back().norm += static_cast<double>(gradient.squaredNorm());
  });
  for (auto& layer : layers) layer.norm = std::sqrt(layer.norm);
  return layers;
}

/// The norm of the whole model's gradient.
inline double total_norm(const std::vector<LayerGradient>& layers) {
  double squares = 0;
  for (const auto& layer : layers) squares += layer.norm * layer.norm;
  return std::sqrt(squares);
}

/// Shrinks all gradients so that their norm, which is `norm` now, is at most `limit`.
template <class Model>
void clip_gradients(Model& model, double norm, double limit) {
  if (!(norm > limit)) return;
  model.visit_parameters([&](const std::string&, auto&, auto& gradient) {
    using Scalar = typename std::decay_t<decltype(gradient)>::Scalar;
    gradient *= static_cast<Scalar>(limit / norm);
  });
}

}  // namespace gpt
