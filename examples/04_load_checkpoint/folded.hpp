// SPDX-License-Identifier: MIT
/// A GPT whose norms have no parameters any more, and one whose LayerNorms are RMSNorms: the same
/// functions of the characters, with less to do.
#pragma once

#include "02_train_gpt/checkpoint.hpp"
#include <tokennorm/checkpoint/center_weights.hpp>
#include <tokennorm/checkpoint/fold_norm.hpp>

#include <utility>

namespace load_checkpoint {

using gpt::SavableGpt;
using CentredGpt = gpt::Gpt<gpt::PreLNPlacement, tokennorm::RMSNorm<float>, float>;

/// γ and β of every norm go into the linear maps that read it, those of the final norm into the
/// head.
inline SavableGpt folded(SavableGpt model) {
  tokennorm::fold_norms(model.stack(), model.head().map());
  return model;
}

/// Whatever writes into the residual stream loses its mean over the channels. Of a folded model.
inline CentredGpt centred(SavableGpt model) {
  auto stack = tokennorm::center_writers(std::move(model.stack()), model.embedding().token(),
                                         model.embedding().position());
  return {std::move(model.embedding()), std::move(stack), std::move(model.head())};
}

}  // namespace load_checkpoint
