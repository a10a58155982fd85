// SPDX-License-Identifier: MIT
/// The training loop, validation and generation.
///
/// Each step: a random batch, forward, cross-entropy, backward, clip the gradient, AdamW. Now and
/// then the validation loss is taken over a part of the held-out text, at the end over all of it.
///
/// A batch may be divided into micro-batches. All of them go forward before any goes back, as where
/// each block is on a device of its own: Huang et al. 2019 (GPipe), arXiv:1811.06965, section 2.2.
#pragma once

#include "adamw.hpp"
#include "batch.hpp"
#include "common/sampling.hpp"
#include "corpus.hpp"
#include "cross_entropy.hpp"
#include "gradient_norms.hpp"
#include "history.hpp"
#include <tokennorm/tokennorm.hpp>

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
  Index batch = 8;          // sequences
  Index micro_batches = 1;  // of as many sequences each
  double learning_rate = 3e-3;
  unsigned long seed = 1;
  double gradient_limit = 1.0;
  AdamWOptions adamw = {};
};

/// The mean loss over at most `limit` sequences of the text, evenly spread.
template <class Model>
double mean_loss(const Model& model, std::span<const int> text,
                 Index limit = std::numeric_limits<Index>::max());

/// `length` characters that follow `prompt`, which has one or more, each drawn from
/// softmax(logits / temperature).
///
/// The prompt is read at once, then each character costs one token: a session keeps what it needs
/// of those before. When it has filled the context, it starts again from the last half of that, so
/// that the model sees between half a context and a whole one.
template <class Model>
std::vector<int> generate(const Model& model, const std::vector<int>& prompt, Index length,
                          double temperature, std::mt19937_64& rng);

/// All that the backward of one micro-batch needs of its forward.
template <class Scalar>
struct MicroBatch {
  tokennorm::TrainingRecord<Scalar> record;
  Batch<Scalar> batch;
  TokenMatrix<Scalar> logits;  // then their gradient
};

/// The loss over the excerpts, whose sequences are divided among the micro-batches evenly; its
/// gradients are added to those of the model.
template <class Model, class Scalar>
double add_gradients(Model& model, const Excerpts& excerpts,
                     std::vector<MicroBatch<Scalar>>& micro_batches);

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
    const auto excerpts =
        excerpts_at(text, std::span(starts).subspan(first, count), model.context());
    const auto logits = model(excerpts.inputs);
    sum += static_cast<double>(cross_entropy<typename Model::Scalar>(logits, excerpts.targets)) *
           static_cast<double>(count);
  }
  return sum / static_cast<double>(starts.size());
}

template <class Model>
std::vector<int> generate(const Model& model, const std::vector<int>& prompt, Index length,
                          double temperature, std::mt19937_64& rng) {
  const auto context = static_cast<std::size_t>(model.context());
  typename Model::Workspace workspace;
  auto session = model.new_session();
  std::vector<int> text = prompt;
  std::size_t unread = std::min(text.size(), context);  // by the session, at the end of the text
  for (Index i = 0; i < length; ++i) {
    const auto logits = model(std::span(text).last(unread), workspace, session);
    text.push_back(examples::sample(logits.row(logits.rows() - 1).transpose(), temperature,
                                    /*top_p=*/1, rng));
    unread = 1;
    if (session.position == model.context()) {
      session.position = 0;
      unread = (context + 1) / 2;
    }
  }
  text.erase(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(prompt.size()));
  return text;
}

template <class Model, class Scalar>
double add_gradients(Model& model, const Excerpts& excerpts,
                     std::vector<MicroBatch<Scalar>>& micro_batches) {
  const std::size_t tokens = excerpts.inputs.size() / micro_batches.size();
  const Scalar share = Scalar(1) / static_cast<Scalar>(micro_batches.size());
  double loss = 0;
  for (std::size_t i = 0; i < micro_batches.size(); ++i) {
    auto& [record, batch, logits] = micro_batches[i];
    logits = model.forward(std::span(excerpts.inputs).subspan(i * tokens, tokens), record, batch);
    loss += static_cast<double>(cross_entropy_into_gradient(
        logits, std::span(excerpts.targets).subspan(i * tokens, tokens), share));
  }
  for (auto& [record, batch, dlogits] : micro_batches) model.backward(dlogits, record, batch);
  return loss;
}

template <class Model, class Report>
History train(Model& model, const Corpus& corpus, const TrainingOptions& options, Report&& report) {
  constexpr Index validation_sequences = 128;  // for each point of the curve
  std::mt19937_64 rng(options.seed);
  AdamW<typename Model::Scalar> optimizer(options.adamw);
  std::vector<MicroBatch<typename Model::Scalar>> micro_batches(
      static_cast<std::size_t>(options.micro_batches));
  Recorder recorder(options.steps, options.batch * model.context());

  for (Index step = 0; step < options.steps; ++step) {
    const auto excerpts = random_excerpts(corpus.training, options.batch, model.context(), rng);
    model.zero_gradients();
    const double loss = add_gradients(model, excerpts, micro_batches);
    if (!std::isfinite(loss)) {
      throw std::runtime_error("the loss is not finite at step " + std::to_string(step + 1) +
                               "; try a smaller --learning-rate");
    }

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
