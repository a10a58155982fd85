// SPDX-License-Identifier: MIT
// See training.hpp.
#include "training.hpp"

#include "adamw.hpp"
#include "bigram.hpp"
#include "trainer.hpp"

#include <cmath>
#include <random>

namespace study {

namespace {

double embedding_norm(CharacterModel& model) {
  const auto layers = gpt::gradient_norms(model);
  return layers.front().norm;
}

/// The step after the last at which the smoothed loss was well below the plateau.
Index failure(const TrainingRun& run, double plateau) {
  const auto smooth = smoothed(run.losses);
  for (auto step = static_cast<Index>(smooth.size()); step > 0; --step) {
    if (smooth[static_cast<std::size_t>(step - 1)] < plateau - 0.1) return step;
  }
  return 0;
}

}  // namespace

std::vector<double> smoothed(const std::vector<double>& losses) {
  std::vector<double> smooth;
  for (const double loss : losses) {
    smooth.push_back(smooth.empty() ? loss : 0.9 * smooth.back() + 0.1 * loss);
  }
  return smooth;
}

Yardsticks yardsticks_of(const gpt::Corpus& corpus) {
  Eigen::VectorXd counts = Eigen::VectorXd::Constant(corpus.vocabulary.size(), 0.1);
  for (const int character : corpus.training) counts(character) += 1;
  const Eigen::VectorXd losses = -(counts / counts.sum()).array().log();
  double sum = 0;
  for (const int character : corpus.validation) sum += losses(character);
  return {sum / static_cast<double>(corpus.validation.size()),
          gpt::Bigram(corpus.training, corpus.vocabulary.size()).loss(corpus.validation)};
}

const char* name_of(Outcome outcome) {
  if (outcome == Outcome::learned) return "learned";
  return outcome == Outcome::stuck ? "stuck" : "diverged";
}

TrainingRun train(const TrainingSettings& settings, const gpt::Corpus& corpus,
                  const Yardsticks& yardsticks, const std::function<void(Index steps)>& advance) {
  TrainingRun run;
  run.settings = settings;
  std::mt19937_64 rng(settings.seed);
  const auto model = std::make_shared<CharacterModel>(settings.placement, settings.shape, rng);
  gpt::AdamW<float> optimizer;
  const Index warm_up = settings.warm_up ? settings.steps / 10 : 0;
  bool is_finite = true;

  for (Index step = 0; step < settings.steps; ++step) {
    const auto excerpts =
        gpt::random_excerpts(corpus.training, settings.batch, model->context(), rng);
    model->zero_gradients();
    const double loss = model->add_gradients(excerpts);
    is_finite = std::isfinite(loss);
    if (!is_finite) {
      advance(settings.steps - step);
      break;
    }
    run.losses.push_back(loss);
    run.embedding_gradients.push_back(embedding_norm(*model));
    optimizer.step(*model, gpt::scheduled_learning_rate(settings.learning_rate, step,
                                                        settings.steps, warm_up));
    advance(1);
  }

  run.model = model;
  run.validation_loss = gpt::mean_loss(*model, corpus.validation, /*limit=*/256);
  const double plateau = yardsticks.plateau();
  if (!is_finite || !(run.validation_loss <= run.losses.front())) {
    run.outcome = Outcome::diverged;
  } else if (run.validation_loss >= plateau) {
    run.outcome = Outcome::stuck;
  }
  if (!run.has_learned()) run.failed_at = failure(run, plateau);
  return run;
}

}  // namespace study
