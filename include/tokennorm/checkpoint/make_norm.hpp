// SPDX-License-Identifier: MIT
/// The norm of a family of models, of the kind that its row says.
///
///     const Family family = family_from_config("model/config.json");    // or families::llama
///     AnyNorm<float> norm = make_norm<float>(family, 4096);
///     make_norm<float>(families::llama, 4096, {.epsilon = 1e-5});       // a model with another ε
///     make_norm<float>(families::gpt2, 768, {.shift = false});          // or without biases
///
/// Of the family are the kind, ε, the scale offset and whether LayerNorms have a shift. Where ε
/// varies in the family its row has the usual one; a Family that comes from a model's config has
/// the model's.
///
/// Throws   std::invalid_argument, as the norm's constructor
#pragma once

#include "tokennorm/checkpoint/family.hpp"
#include "tokennorm/core/scalar.hpp"
#include "tokennorm/norm/any_norm.hpp"

namespace tokennorm {

/// Options that are given stand in place of the family's.
template <class Param = float>
AnyNorm<Param> make_norm(const Family& family, Index channels, AnyNormOptions options = {}) {
  if (!options.epsilon) options.epsilon = family.epsilon;
  if (!options.scale_offset) options.scale_offset = family.scale_offset;
  if (!options.shift) options.shift = family.has_shift();
  return AnyNorm<Param>(family.norm, channels, options);
}

}  // namespace tokennorm
