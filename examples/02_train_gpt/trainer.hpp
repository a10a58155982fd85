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

#include <algorithm>
#include <chrono>
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

/// What the progress bar is told after each step.
struct Progress {
  Index step;  // 1, 2, …, steps
  Index steps;
  double training_loss;    // smoothed
  double validation_loss;  // the latest
  double tokens_per_second;
  double seconds_left;
};

/// One row of the loss curve: means since the row before, and the validation loss now.
struct CurvePoint {
  Index step;
  double training_loss;
  double validation_loss;
  double learning_rate;
  double gradient_norm;
};

struct LayerHistory {
  std::string layer;
  double first_step;  // gradient norm at the first step
  double mean;        // over all steps
};

struct History {
  std::vector<CurvePoint> curve;
  std::vector<LayerHistory> gradient_norms;
  double seconds = 0;
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
  using Clock = std::chrono::steady_clock;
  const Index rows = std::clamp<Index>(options.steps / 10, 1, 40);  // of the loss curve
  constexpr Index validation_sequences = 128;                       // for each of them
  const auto start = Clock::now();
  const auto seconds_since = [](Clock::time_point time) {
    return std::chrono::duration<double>(Clock::now() - time).count();
  };

  std::mt19937_64 rng(options.seed);
  AdamW<typename Model::Scalar> optimizer(options.adamw);
  History history;
  CurvePoint sums{};
  Index summed = 0;
  double smoothed = 0;
  double validation_loss =
      std::log(static_cast<double>(corpus.vocabulary.size()));  // knows nothing
  double training_seconds = 0;

  for (Index step = 0; step < options.steps; ++step) {
    const auto step_start = Clock::now();
    const auto batch = random_batch(corpus.training, options.batch, model.context(), rng);
    model.zero_gradients();
    auto logits = model.forward(batch.inputs);
    const auto loss = static_cast<double>(cross_entropy_into_gradient(logits, batch.targets));
    if (!std::isfinite(loss)) {
      throw std::runtime_error("the loss is not finite at step " + std::to_string(step + 1) +
                               "; try a smaller --learning-rate");
    }
    model.backward(logits);

    const auto layers = gradient_norms(model);
    const double norm = total_norm(layers);
    clip_gradients(model, norm, options.gradient_limit);
    const double rate = scheduled_learning_rate(options.learning_rate, step, options.steps);
    optimizer.step(model, rate);
    training_seconds += seconds_since(step_start);

    if (step == 0) {
      for (const auto& [layer, first] : layers) history.gradient_norms.push_back({layer, first, 0});
      smoothed = loss;
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      history.gradient_norms[i].mean += layers[i].norm / static_cast<double>(options.steps);
    }
    smoothed += 0.05 * (loss - smoothed);
    sums.training_loss += loss;
    sums.gradient_norm += norm;
    ++summed;

    const Index done = step + 1;
    if (done * rows / options.steps != step * rows / options.steps) {
      validation_loss = mean_loss(model, corpus.validation, validation_sequences);
      const auto count = static_cast<double>(summed);
      history.curve.push_back(
          {done, sums.training_loss / count, validation_loss, rate, sums.gradient_norm / count});
      sums = {};
      summed = 0;
    }
    const auto tokens = static_cast<double>(done * options.batch * model.context());
    const double seconds_per_step = seconds_since(start) / static_cast<double>(done);
    report(Progress{done, options.steps, smoothed, validation_loss, tokens / training_seconds,
                    seconds_per_step * static_cast<double>(options.steps - done)});
  }
  history.seconds = seconds_since(start);
  return history;
}

}  // namespace gpt
