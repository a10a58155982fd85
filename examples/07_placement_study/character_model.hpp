// SPDX-License-Identifier: MIT
/// A character model as example 02's:  logits = head(network(embedding(ids))).
///
/// Shapes     ids (T) · h (T, C) · logits (T, vocabulary)
/// Start      E, P ~ N(0, 0.2²), the rest as in sublayers.hpp. For one seed all placements have the
///            same weights, up to DeepNorm's β
#pragma once

#include "corpus.hpp"
#include "embedding.hpp"
#include "linear.hpp"
#include "network.hpp"

#include <memory>
#include <random>
#include <span>

namespace study {

struct ModelShape {
  Index vocabulary, context, layers, channels, heads;
};

class CharacterModel {
 public:
  using Scalar = float;

  CharacterModel(Placement placement, const ModelShape& shape, std::mt19937_64& rng);

  Index context() const { return embedding_.context(); }
  const Network& network() const { return *network_; }
  gpt::Sequences sequences(std::span<const int> ids) const {
    return gpt::split_into_sequences(static_cast<Index>(ids.size()), context());
  }

  /// What the network is given.
  Tokens embedded(std::span<const int> ids) const { return embedding_(ids, sequences(ids)); }
  /// The logits.
  Tokens operator()(std::span<const int> ids) const;
  /// The loss, in nats per character; its gradients are added to those of the model.
  double add_gradients(const gpt::Excerpts& excerpts);

  void visit_parameters(const Visitor& visitor);
  void zero_gradients();

 private:
  gpt::Embedding<float> embedding_;
  std::unique_ptr<Network> network_;
  gpt::Linear<float> head_;
  Batch batch_;
};

}  // namespace study
