// SPDX-License-Identifier: MIT
/// The network of Xiong et al. 2020 with its loss, which is of one position, the last of a
/// sequence:
///
///     loss = −log softmax(head(y_N))[target],   y = network(x)
///
/// Shapes     x, y (N, C) · head (C, 64), weights ~ N(0, 1/C)
/// Source     arXiv:2002.04745
#pragma once

#include "network.hpp"

#include <random>
#include <vector>

namespace study {

class TheoremModel {
 public:
  static constexpr int classes = 64;

  TheoremModel(Placement placement, Index layers, Index channels, std::mt19937_64& rng);

  const Network& network() const { return *network_; }
  /// The gradients are added to those of the model.
  void add_gradients(const Tokens& x, int target);
  /// E (h + f(h))² of each block's feed-forward layer, h its input in the last add_gradients.
  std::vector<double> mean_squares_of_sums() const;

  void visit_parameters(const Visitor& visitor) { network_->visit_parameters(visitor); }
  void zero_gradients() { network_->zero_gradients(); }

 private:
  std::unique_ptr<Network> network_;
  gpt::Linear<float> head_;
  Batch batch_;
};

}  // namespace study
