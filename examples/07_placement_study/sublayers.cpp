// SPDX-License-Identifier: MIT
// See sublayers.hpp.
#include "sublayers.hpp"

#include "relu_feed_forward.hpp"

#include <cmath>

namespace study {

namespace {

using Linear = gpt::Linear<float>;

/// (inputs, outputs), N(0, gain² / inputs).
Tokens weight(Index inputs, Index outputs, double gain, std::mt19937_64& rng) {
  return gpt::random_normal<float>(inputs, outputs, gain / std::sqrt(static_cast<double>(inputs)),
                                   rng);
}

}  // namespace

CharactersSublayers make_characters_sublayers(Index channels, Index heads, double gain,
                                              std::mt19937_64& rng) {
  Tokens qkv = weight(channels, 3 * channels, 1, rng);
  qkv.rightCols(channels) *= static_cast<float>(gain);
  Linear input(std::move(qkv), gpt::RowVector<float>::Zero(3 * channels));
  Linear output(channels, channels, rng, gain);
  Linear first(channels, 4 * channels, rng, gain);
  Linear second(4 * channels, channels, rng, gain);
  return {{std::move(input), std::move(output), heads}, {std::move(first), std::move(second)}};
}

Sublayers make_theorem_sublayers(Index channels, double gain, std::mt19937_64& rng) {
  const gpt::RowVector<float> no_bias(0);
  Tokens qkv = Tokens::Zero(channels, 3 * channels);
  qkv.rightCols(channels) = weight(channels, channels, gain, rng);
  const Tokens output = static_cast<float>(gain) * Tokens::Identity(channels, channels);
  gpt::CausalSelfAttention<float> attention(Linear(std::move(qkv), no_bias),
                                            Linear(output, no_bias), /*heads=*/1);
  Linear first(weight(channels, channels, gain, rng), no_bias);
  Linear second(weight(channels, channels, gain, rng), no_bias);
  return {Sublayer(std::move(attention)),
          Sublayer(ReluFeedForward(std::move(first), std::move(second)))};
}

}  // namespace study
