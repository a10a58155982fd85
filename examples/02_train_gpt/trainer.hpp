// SPDX-License-Identifier: MIT
/// The training loop, validation and generation.
///
/// Each step: a random batch, forward, cross-entropy, backward, clip the gradient, AdamW. Now and
/// then the validation loss is taken over a part of the held-out text, at the end over all of it.
#pragma once

#include "adamw.hpp"
#include "corpus.hpp"
#include "cross_entropy.hpp"
#include "gradient_norms.hpp"
#include "history.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

namespace gpt {

struct TrainingOptions {
  Index steps = 1500;
  Index batch = 8;  // sequences
  double learning_rate = 3e-3;
  unsigned long seed = 1;
  double gradient_limit = 1.0;
  AdamWOptions adamw = {};
};

/// The mean loss over at most `limit` sequences of the text, evenly spread.
template <class Model>
double mean_loss(const Model& model, std::span<const int> text,
                 Index limit = std::numeric_limits<Index>::max());

/// `length` characters that follow `prompt`, each drawn from softmax(logits / temperature).
template <class Model>
std::vector<int> generate(const Model& model, std::vector<int> prompt, Index length,
                          double temperature, std::mt19937_64& rng);

/// Trains; calls `report(const Progress&)` after each step.
/// Throws std::runtime_error where the loss is no longer finite.
template <class Model, class Report>
History train(Model& model, const Corpus& corpus, const TrainingOptions& options, Report&& report);

// ---------------------------------------------------------------------------------------------

template <class Model>
double mean_loss(const Model& model, std::span<const int> text, Index limit) {
  constexpr std::size_t at_once = 16;
  const std::vector<Index> starts = sequence_starts(text, model.context(), limit);
  double sum = 0;
  for (std::size_t first = 0; first < starts.size(); first += at_once) {
    const std::size_t count = std::min(at_once, starts.size() - first);
    const auto batch = batch_at(text, std::span(starts).subspan(first, count), model.context());
    const auto logits = model(batch.inputs);
    sum += static_cast<double>(cross_entropy<typename Model::Scalar>(logits, batch.targets)) *
           static_cast<double>(count);
  }
  return sum / static_cast<double>(starts.size());
}

template <class Model>
std::vector<int> generate(const Model& model, std::vector<int> prompt, Index length,
                          double temperature, std::mt19937_64& rng) {
  std::vector<int> text = std::move(prompt);
  const std::size_t prompt_length = text.size();
  for (Index i = 0; i < length; ++i) {
    const auto seen = std::min(text.size(), static_cast<std::size_t>(model.context()));
    const auto logits = model(std::span(text).last(seen));
    const Eigen::ArrayXd z = logits.row(logits.rows() - 1).transpose().template cast<double>();
    const Eigen::ArrayXd weights = ((z - z.maxCoeff()) / temperature).exp();
    std::discrete_distribution<int> next(weights.begin(), weights.end());
    text.push_back(next(rng));
  }
  text.erase(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(prompt_length));
  return text;
}

template <class Model, class Report>
History train(Model& model, const Corpus& corpus, const TrainingOptions& options, Report&& report) {
  constexpr Index validation_sequences = 128;  // for each point of the curve
  std::mt19937_64 rng(options.seed);
  AdamW<typename Model::Scalar> optimizer(options.adamw);
  Recorder recorder(options.steps, options.batch * model.context());

  for (Index step = 0; step < options.steps; ++step) {
    const auto batch = random_batch(corpus.training, options.batch, model.context(), rng);
    model.zero_gradients();
    auto logits = model.forward(batch.inputs);
    const auto loss = static_cast<double>(cross_entropy_into_gradient(logits, batch.targets));
    if (!std::isfinite(loss)) {
      throw std::runtime_error("the loss is not finite at step " + std::to_string(step + 1) +
                               "; try a smaller --learning-rate");
    }
    model.backward(logits);  // by now the gradient of the loss with respect to them

    const auto layers = gradient_norms(model);
    clip_gradients(model, total_norm(layers), options.gradient_limit);
    const double learning_rate =
        scheduled_learning_rate(options.learning_rate, step, options.steps);
    optimizer.step(model, learning_rate);

    recorder.add_step(loss, learning_rate, layers);
    if (recorder.row_is_due()) {
      recorder.end_row(mean_loss(model, corpus.validation, validation_sequences));
    }
    report(recorder.progress());
  }
  return recorder.finish();
}

}  // namespace gpt
