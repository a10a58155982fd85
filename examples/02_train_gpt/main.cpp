// SPDX-License-Identifier: MIT
/// A character-level GPT, or a Llama of bytes, trained from scratch on real text. Read it in this
/// order:
///
///     gpt.hpp             the model, and where its norms stand: this is what tokennorm does
///     batch.hpp           what is remembered from forward to backward
///     session.hpp         what is remembered of a text: a KV cache
///     embedding.hpp       characters and positions to tokens        sequences.hpp
///     attention.hpp       causal multi-head self-attention          linear.hpp
///     feed_forward.hpp    two linear layers with a GELU between     gated_feed_forward.hpp
///     cross_entropy.hpp   the loss                                  parameters.hpp
///     trainer.hpp         the training loop, validation, generation
///     adamw.hpp           the optimizer and its schedule            gradient_norms.hpp
///     corpus.hpp          files to excerpts                         bigram.hpp
///     checkpoint.hpp      the trained model as a file, under the names of a known family
///     llama_file.hpp      a Llama as a file that example 05 and llama2.c run
///     options.hpp, default_corpus.hpp, progress_bar.hpp, history.hpp, report.hpp, plot.gp,
///     ../common/
///
/// Every part states its equations, its shapes and its gradient; tests/examples checks each
/// gradient, and that of the whole model, against central differences.
#include "bigram.hpp"
#include "checkpoint.hpp"
#include "common/speed.hpp"
#include "corpus.hpp"
#include "gpt.hpp"
#include "llama_file.hpp"
#include "options.hpp"
#include "progress_bar.hpp"
#include "report.hpp"
#include "trainer.hpp"

#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <type_traits>

namespace {

using namespace gpt;

/// One line about the model, which is also the title of the plot.
std::string describe(const Options& options) {
  const auto& shape = options.shape;
  const auto* placement = options.placement == "pre"    ? "Pre-LN"
                          : options.placement == "post" ? "Post-LN"
                                                        : "Sandwich-LN";
  return (options.architecture == "llama" ? "Llama: " : "") + std::string(placement) + " with " +
         (options.norm == "rms" ? "RMSNorm" : "LayerNorm") + ", " + std::to_string(shape.layers) +
         " layers, " + std::to_string(shape.channels) + " channels, " +
         std::to_string(shape.heads) + " heads, context " + std::to_string(shape.context);
}

template <class Placement, class Norm>
Result run(const Options& options, const Corpus& corpus) {
  std::mt19937_64 rng(options.training.seed);
  Gpt<Placement, Norm, float> model(options.shape, rng);
  std::printf("model     %s: %ld parameters\n", describe(options).c_str(),
              static_cast<long>(count_parameters(model)));
  std::fflush(stdout);

  Result result;
  result.history = train(model, corpus, options.training, ProgressBar());
  result.validation_loss = mean_loss(model, corpus.validation);
  result.bigram_loss = Bigram(corpus.training, options.shape.vocabulary).loss(corpus.validation);

  const bool lines = corpus.vocabulary.contains(U'\n');
  const int first = Placement::is_llama ? examples::Tokenizer::begin_of_text
                    : lines             ? corpus.vocabulary.number(U'\n')
                                        : 0;
  const examples::Stopwatch generation;
  const auto sample = generate(model, {first}, /*length=*/500, /*temperature=*/0.7, rng);
  const examples::Speed speed{static_cast<long>(sample.size()), generation.seconds()};
  std::printf(
      "\n----- a sample of what it writes -----\n%s\n--------------------------------------\n\n",
      corpus.vocabulary.decode(sample).c_str());
  const char* unit = Placement::is_llama ? "byte" : "character";
  std::printf("validation loss   %.3f nats per %s\n", result.validation_loss, unit);
  std::printf("bigram model      %.3f nats per %s\n", result.bigram_loss, unit);
  std::printf("training time     %.0f s\n", result.history.seconds);
  std::printf("generation        %.0f tokens/s\n", speed.tokens_per_second());
  if constexpr (std::is_same_v<decltype(model), SavableGpt>) {
    if (!options.save.empty()) {
      save_gpt(options.save, model, options.shape.heads, corpus.vocabulary,
               family_of_option(options.family));
      std::printf("checkpoint        %s, with the names of %s\n", options.save.string().c_str(),
                  options.family.c_str());
    }
  }
  if constexpr (Placement::is_llama) {
    if (!options.save.empty()) {
      save_llama(options.save, model, options.shape.heads);
      std::printf("checkpoint        %s and %s, in llama2.c's format\n",
                  options.save.string().c_str(), tokenizer_file(options.save).string().c_str());
    }
  }
  std::fflush(stdout);
  return result;
}

template <class Placement>
Result run(const Options& options, const Corpus& corpus) {
  return options.norm == "rms" ? run<Placement, tokennorm::RMSNorm<float>>(options, corpus)
                               : run<Placement, tokennorm::LayerNorm<float>>(options, corpus);
}

Result run(const Options& options, const Corpus& corpus) {
  if (options.architecture == "llama") {
    return run<LlamaPlacement, tokennorm::RMSNorm<float>>(options, corpus);
  }
  if (options.placement == "post") return run<PostLNPlacement>(options, corpus);
  if (options.placement == "sandwich") return run<SandwichLNPlacement>(options, corpus);
  return run<PreLNPlacement>(options, corpus);
}

/// Bad input ends here, as an exception, before any time is spent.
Corpus prepare(Options& options) {
  if (options.corpus.empty()) options.corpus = default_corpus();
  const Unit unit = options.architecture == "llama" ? Unit::byte : Unit::character;
  Corpus corpus = read_corpus(options.corpus, unit);
  require_length(corpus, options.shape.context);
  options.shape.vocabulary = corpus.vocabulary.size();
  if (!options.out.empty()) prepare_directory(options.out);
  if (!options.save.empty()) prepare_file(options.save);
  if (!options.save.empty() && unit == Unit::byte) prepare_file(tokenizer_file(options.save));
  std::printf("corpus    %zu files, %zu %s to train, %zu to validate, %ld different\n",
              options.corpus.size(), corpus.training.size(),
              unit == Unit::byte ? "bytes" : "characters", corpus.validation.size(),
              static_cast<long>(options.shape.vocabulary));
  return corpus;
}

int fail(const char* message, int exit_code) {
  std::fprintf(stderr, "train_gpt: %s\n", message);
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  auto [options, exit_code] = parse_options(argc, argv);
  if (exit_code >= 0) return exit_code;

  std::optional<Corpus> corpus;
  try {
    corpus = prepare(options);
  } catch (const std::exception& error) {
    return fail(error.what(), 2);
  }
  try {
    const Result result = run(options, *corpus);
    if (!options.out.empty()) {
      write_csv(options.out, result);
      draw_plot(options.out, describe(options));
    }
  } catch (const std::bad_alloc&) {
    return fail("not enough memory; try fewer --channels, --layers, or a smaller --batch", 1);
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
  return 0;
}
