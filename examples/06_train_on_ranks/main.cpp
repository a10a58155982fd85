// SPDX-License-Identifier: MIT
/// The GPT of example 02, trained by several ranks, and a check that it is the one that a single
/// rank would have trained:
///
///     mpirun -n 2 train_on_ranks                     sequences are divided among the ranks
///     mpirun -n 2 train_on_ranks --reproducible      the same; every loss to the bit
///     mpirun -n 2 train_on_ranks --tensor-parallel   heads and hidden channels are: see
///                                                    tensor_parallel.hpp
///
/// All ranks draw the same weights and the same batches. Where sequences are divided, each rank
/// goes forward and backward over its own, and the gradients are added up: by all_reduce_gradients,
/// or through a ReproducibleSum, which does not depend on who had which.
#include "common/command_line.hpp"
#include "options.hpp"
#include "ranks.hpp"
#include "tensor_parallel.hpp"

#include <cmath>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace gpt;

enum class Division { none, sequences, layers };

struct RankOptions {
  Shape shape{0, 32, 2, 64, 4};
  TrainingOptions training{.steps = 60, .batch = 8};
  bool tensor_parallel = false;
  bool reproducible = false;
};

/// The norm of the gradient of all parameters, of which some are divided over the ranks.
template <class Model>
double whole_norm(Model& model, Division division) {
  double whole = 0, parts = 0;
  model.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
    const bool is_part = division == Division::layers && is_divided(name);
    (is_part ? parts : whole) += static_cast<double>(gradient.squaredNorm());
  });
  if (division == Division::layers) sum_over_ranks(&parts, 1);
  return std::sqrt(whole + parts);
}

/// The loss of each step.
template <class Placement>
std::vector<double> train(const RankOptions& options, const Corpus& corpus, Division division) {
  std::mt19937_64 rng(options.training.seed);
  Gpt<Placement, tokennorm::LayerNorm<float>, float> model(options.shape, rng);
  AdamW<float> optimizer(options.training.adamw);
  tokennorm::ReproducibleSum<float> sum;
  MicroBatch<float> micro_batch;
  const Index batch = options.training.batch;
  const auto context = static_cast<std::size_t>(model.context());
  const bool divides = division == Division::sequences;
  std::vector<double> losses;

  for (Index step = 0; step < options.training.steps; ++step) {
    const auto excerpts = random_excerpts(corpus.training, batch, model.context(), rng);
    model.zero_gradients();
    std::vector<double> of_sequences(static_cast<std::size_t>(batch));
    for (Index i = divides ? rank() : 0; i < batch; i += divides ? ranks() : 1) {
      const auto part = [&](std::span<const int> all) {
        return all.subspan(static_cast<std::size_t>(i) * context, context);
      };
      auto& [record, of_record, logits] = micro_batch;
      logits = model.forward(part(excerpts.inputs), record, of_record);
      of_sequences[static_cast<std::size_t>(i)] = cross_entropy_into_gradient(
          logits, part(excerpts.targets), 1 / static_cast<float>(batch));
      model.backward(logits, record, of_record);
      if (options.reproducible) sum.add(model);
    }
    if (divides) {
      sum_over_ranks(of_sequences.data(), batch);  // each is one rank's, and zero elsewhere
    }
    if (options.reproducible && divides) {
      all_reduce_gradients(model, MPI_COMM_WORLD, sum);
    } else if (options.reproducible) {
      sum.move_to(model);
    } else if (divides) {
      all_reduce_gradients(model, MPI_COMM_WORLD);
    }
    double loss = 0;
    for (const double of_sequence : of_sequences) loss += of_sequence;
    losses.push_back(loss);
    clip_gradients(model, whole_norm(model, division), options.training.gradient_limit);
    optimizer.step(model, scheduled_learning_rate(options.training.learning_rate, step,
                                                  options.training.steps));
  }
  return losses;
}

int parse(int argc, char** argv, RankOptions& options) {
  CLI::App app{
      "Trains the GPT of train_gpt on the ranks of mpirun, and on one alone, and compares the "
      "losses."};
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto add_size = [&](const char* name, Index& value, const char* description) {
    app.add_option(name, value, description)
        ->check(examples::whole_number(1, 1'000'000))
        ->capture_default_str();
  };
  add_size("--layers", options.shape.layers, "blocks");
  add_size("--channels", options.shape.channels, "width of the residual stream");
  add_size("--heads", options.shape.heads, "attention heads; they divide the channels");
  add_size("--context", options.shape.context, "characters that the model sees at once");
  add_size("--batch", options.training.batch, "sequences per step");
  add_size("--steps", options.training.steps, "optimizer steps");
  auto* tensor_parallel = app.add_flag("--tensor-parallel", options.tensor_parallel,
                                       "divide attention heads and hidden channels");
  app.add_flag("--reproducible", options.reproducible,
               "sums of gradients that do not depend on the number of ranks")
      ->excludes(tensor_parallel);
  return examples::parse(app, "train_on_ranks", argc, argv, [&] {
    if (options.shape.channels % options.shape.heads != 0) {
      throw CLI::ValidationError("--heads",
                                 std::to_string(options.shape.heads) + " does not divide " +
                                     std::to_string(options.shape.channels) + " channels");
    }
    if (options.tensor_parallel && options.shape.heads % ranks() != 0) {
      throw CLI::ValidationError("--tensor-parallel",
                                 std::to_string(ranks()) + " ranks do not divide " +
                                     std::to_string(options.shape.heads) + " heads");
    }
    if (!options.tensor_parallel && options.training.batch < ranks()) {
      throw CLI::ValidationError("--batch", "there are fewer sequences than ranks");
    }
  });
}

/// Whether the losses are what they should be; says so.
bool compare(const std::vector<double>& losses, const std::vector<double>& alone, double allowed) {
  double largest = 0;
  for (std::size_t i = 0; i < losses.size(); ++i)
    largest = std::fmax(largest, std::fabs(losses[i] - alone[i]) / alone[i]);
  const bool is_right = largest <= allowed;
  if (rank() == 0) {
    std::printf("loss      %.4f at first, %.4f at last, in nats per character\n", losses.front(),
                losses.back());
    std::printf("one rank  %.4f at last; the largest difference of a step: %.1e of the loss\n",
                alone.back(), largest);
    if (!is_right) std::fprintf(stderr, "train_on_ranks: expected at most %.0e\n", allowed);
  }
  return is_right;
}

}  // namespace

int main(int argc, char** argv) {
  const Mpi mpi(argc, argv);
  RankOptions options;
  if (const int exit_code = parse(argc, argv, options); exit_code >= 0) return exit_code;
  try {
    const Corpus corpus = read_corpus(default_corpus());
    options.shape.vocabulary = corpus.vocabulary.size();
    require_length(corpus, options.shape.context);
    if (rank() == 0) {
      std::printf("%d ranks   %s divided%s\n", ranks(),
                  options.tensor_parallel ? "heads and hidden channels" : "sequences",
                  options.reproducible ? ", gradients in a reproducible sum" : "");
    }
    const auto losses = options.tensor_parallel
                            ? train<TensorParallelPlacement>(options, corpus, Division::layers)
                            : train<PreLNPlacement>(options, corpus, Division::sequences);
    const auto alone = train<PreLNPlacement>(options, corpus, Division::none);
    return compare(losses, alone, options.reproducible ? 0 : 1e-6) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_on_ranks: %s\n", error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
}
