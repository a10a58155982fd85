// SPDX-License-Identifier: MIT
// See character_model.hpp.
#include "character_model.hpp"

#include "cross_entropy.hpp"

namespace study {

namespace {

std::unique_ptr<Network> make_characters_network(Placement placement, const ModelShape& shape,
                                                 std::mt19937_64& rng) {
  return make_network(placement, shape.layers, shape.channels, [&](double gain) {
    auto [attention, feed_forward] =
        make_characters_sublayers(shape.channels, shape.heads, gain, rng);
    return Sublayers{Sublayer(std::move(attention)), Sublayer(std::move(feed_forward))};
  });
}

}  // namespace

CharacterModel::CharacterModel(Placement placement, const ModelShape& shape, std::mt19937_64& rng)
    : embedding_(shape.vocabulary, shape.context, shape.channels, rng),
      network_(make_characters_network(placement, shape, rng)),
      head_(shape.channels, shape.vocabulary, rng) {}

Tokens CharacterModel::operator()(std::span<const int> ids) const {
  return head_((*network_)(embedded(ids), sequences(ids)));
}

double CharacterModel::add_gradients(const gpt::Excerpts& excerpts) {
  const auto& ids = excerpts.inputs;
  batch_.sequences = sequences(ids);
  const Tokens y = network_->forward(embedded(ids), batch_);
  Tokens logits = head_(y);
  const double loss = gpt::cross_entropy_into_gradient(logits, excerpts.targets);
  const Tokens dx = network_->backward(head_.backward(y, logits), batch_);
  embedding_.backward(ids, batch_.sequences, dx);
  return loss;
}

void CharacterModel::visit_parameters(const Visitor& visitor) {
  const auto visit = as_matrices(visitor);
  embedding_.visit_parameters(gpt::prefixed("embedding", visit));
  network_->visit_parameters(visitor);
  head_.visit_parameters(gpt::prefixed("head", visit));
}

void CharacterModel::zero_gradients() {
  embedding_.zero_gradients();
  network_->zero_gradients();
  head_.zero_gradients();
}

}  // namespace study
