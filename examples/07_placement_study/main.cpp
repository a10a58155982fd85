// SPDX-License-Identifier: MIT
/// Where should the norms stand? Six placements, measured on real attention and feed-forward
/// layers, forward and backward, beside what the literature says of them. Read it in this order:
///
///     placements.hpp       the six, and their equations
///     network.cpp          the six as tokennorm's stacks: this is what tokennorm does
///     sublayers.hpp        what stands between the norms, and the first weights
///     sublayer.hpp         any sublayer behind one type          relu_feed_forward.hpp
///     theorem_model.hpp    the network for which the theory is proved
///     character_model.hpp  embedding, network, head: example 02's parts
///     training.hpp         one run, and what "diverged" means
///     initialization.hpp   part a: gradients and the stream at initialization, against depth
///     learning_rates.hpp   part b: training over learning rates, with and without warm-up
///     activations.hpp      part c: the largest activations       half_stream.hpp
///     embedding_norm.hpp   part d: BLOOM's embedding norm
///     claims.hpp           claim, source, criterion, measured, verdict
///     command_line.hpp, options.hpp, progress.hpp, csv.hpp, plots.cpp, plots/, ../02_train_gpt/,
///     ../common/
#include "activations.hpp"
#include "claims.hpp"
#include "command_line.hpp"
#include "default_corpus.hpp"
#include "embedding_norm.hpp"
#include "initialization.hpp"
#include "learning_rates.hpp"

#include <cstdio>
#include <exception>
#include <filesystem>

namespace {

using namespace study;

gpt::Corpus prepare(const Options& options) {
  gpt::Corpus corpus = gpt::read_corpus(gpt::default_corpus());
  gpt::require_length(corpus, options.context);
  std::filesystem::create_directories(options.out);
  const Yardsticks yardsticks = yardsticks_of(corpus);
  std::printf(
      "corpus    %zu characters to train, %zu to validate, %ld different; unigram model %.2f, "
      "bigram model %.2f\n",
      corpus.training.size(), corpus.validation.size(), static_cast<long>(corpus.vocabulary.size()),
      yardsticks.unigram, yardsticks.bigram);
  std::printf(
      "models    %ld blocks of %ld channels, %ld heads, context %ld; %ld steps of %ld sequences\n",
      static_cast<long>(options.layers), static_cast<long>(options.channels),
      static_cast<long>(options.heads), static_cast<long>(options.context),
      static_cast<long>(options.steps), static_cast<long>(options.batch));
  std::fflush(stdout);
  return corpus;
}

std::vector<Claim> study_parts(const Options& options, const gpt::Corpus& corpus) {
  std::vector<Claim> claims;
  const auto add = [&](const std::vector<Claim>& more) {
    claims.insert(claims.end(), more.begin(), more.end());
  };
  if (options.has("a")) add(study_initialization(options, corpus));
  std::vector<TrainingRun> runs;
  if (options.has("b")) {
    runs = train_over_learning_rates(options, corpus);
    add(study_learning_rates(runs, options, corpus));
  }
  if (options.has("c")) add(study_activations(runs, options, corpus));
  if (options.has("d")) add(study_embedding_norm(options, corpus));
  return claims;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (const int exit_code = parse(argc, argv, options); exit_code >= 0) return exit_code;
  try {
    const gpt::Corpus corpus = prepare(options);
    const auto claims = study_parts(options, corpus);
    print(claims);
    write_csv(options.out / "claims.csv", claims);
    std::printf("files     %s: CSV, and, where gnuplot is installed, SVG and PNG\n",
                options.out.string().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "placement_study: %s\n", error.what());
    return 1;
  }
}
