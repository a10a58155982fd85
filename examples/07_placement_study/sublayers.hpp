// SPDX-License-Identifier: MIT
/// The two kinds of sublayers that the study puts between its norms, and their first weights.
///
///     characters   those of example 02: softmax attention of several heads, GELU, 4C hidden
///                  channels, biases; W ~ N(0, 1 / inputs)
///     theorem      those for which Xiong et al. 2020, arXiv:2002.04745, prove their bounds: one
///                  head with W_Q = W_K = 0, so that attention is a mean, mean(x)·W_V; and
///                  relu(x·W₁)·W₂; all W (C, C) ~ N(0, 1/C), which is Xavier's; no biases. Their
///                  mean is over all tokens, this one, causal, over those up to its own: the bounds
///                  hold for either, since 0 ≤ E‖mean(x)·W_V‖² ≤ E‖x‖²
///
/// A gain multiplies W_V, the output projection (theirs is part of W_V: here I) and both matrices
/// of the feed-forward layer. It is 1, but for DeepNorm, where it is β: figure 2 of Wang et al.
/// 2022, arXiv:2203.00555.
#pragma once

#include "attention.hpp"
#include "feed_forward.hpp"
#include "sublayer.hpp"

#include <random>

namespace study {

/// Attention and feed-forward layer of one block.
struct Sublayers {
  Sublayer attention, feed_forward;
};

struct CharactersSublayers {
  gpt::CausalSelfAttention<float> attention;
  gpt::FeedForward<float> feed_forward;
};

CharactersSublayers make_characters_sublayers(Index channels, Index heads, double gain,
                                              std::mt19937_64& rng);
Sublayers make_theorem_sublayers(Index channels, double gain, std::mt19937_64& rng);

}  // namespace study
