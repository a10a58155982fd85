// SPDX-License-Identifier: MIT
/// One training run of a character model, and how it ended.
///
/// AdamW as in example 02, without clipping, so that nothing but the norms keeps a run together.
/// The rate goes down a half cosine to a tenth of its peak; with warm-up it first goes up in a
/// straight line over a tenth of the steps, without it begins at the peak.
///
///     diverged   the loss was not finite, or the validation loss ends above the first loss
///     stuck      it ends above the plateau, a tenth of the way from the unigram model's loss to
///                the bigram model's: it knows how often each character occurs, and little else
///     learned    anything better
///
/// and the step of a failure is that from which the smoothed training loss was never again 0.1 nats
/// below the plateau: 0 where it never was. A batch's loss scatters by about so much.
#pragma once

#include "character_model.hpp"
#include "corpus.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace study {

struct TrainingSettings {
  Placement placement;
  double learning_rate;
  bool warm_up;
  ModelShape shape;
  Index steps, batch;
  unsigned long seed;
};

enum class Outcome { learned, stuck, diverged };

struct TrainingRun {
  TrainingSettings settings;
  std::vector<double> losses;               // of each step's batch
  std::vector<double> embedding_gradients;  // their norm at each step
  double validation_loss = 0;               // over held-out text
  Outcome outcome = Outcome::learned;
  Index failed_at = -1;                   // of a run that is stuck or has diverged
  std::shared_ptr<CharacterModel> model;  // as trained

  bool has_learned() const { return outcome == Outcome::learned; }
};

/// What models that count make of the held-out text, in nats per character.
struct Yardsticks {
  double unigram, bigram;

  double plateau() const { return 0.9 * unigram + 0.1 * bigram; }
};
Yardsticks yardsticks_of(const gpt::Corpus& corpus);

/// Calls `advance(steps)` as it goes; all steps in all, also where it ends early.
TrainingRun train(const TrainingSettings& settings, const gpt::Corpus& corpus,
                  const Yardsticks& yardsticks, const std::function<void(Index steps)>& advance);

/// lossₜ smoothed: sₜ = 0.9·sₜ₋₁ + 0.1·lossₜ, from the first loss on.
std::vector<double> smoothed(const std::vector<double>& losses);

const char* name_of(Outcome outcome);

}  // namespace study
