// SPDX-License-Identifier: MIT
/// The command line.
#pragma once

#include "checkpoint.hpp"
#include "common/command_line.hpp"
#include "default_corpus.hpp"
#include "gpt.hpp"
#include "trainer.hpp"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace gpt {

struct Options {
  std::vector<std::filesystem::path> corpus;
  std::string architecture = "gpt";
  std::string placement = "pre";
  std::string norm = "layer";
  Shape shape{};
  TrainingOptions training;
  std::filesystem::path out;   // empty: write no files
  std::filesystem::path save;  // empty: write no checkpoint
  std::string family = "gpt2";
};

/// The options, or, in `exit_code`, that there is nothing more to do: 0 after --help, 2 after one
/// line on stderr about what is wrong.
struct ParsedOptions {
  Options options;
  int exit_code = -1;
};
ParsedOptions parse_options(int argc, const char* const* argv);

// ---------------------------------------------------------------------------------------------

inline ParsedOptions parse_options(int argc, const char* const* argv) {
  ParsedOptions parsed;
  Options& options = parsed.options;
  Shape& shape = options.shape;
  TrainingOptions& training = options.training;

  CLI::App app{
      "Trains a character-level GPT from scratch. Its norms and residual connections are "
      "tokennorm's."};
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--corpus", options.corpus, "text files (default: README and headers here)")
      ->type_name("FILE")
      ->take_all();
  app.add_option("--architecture", options.architecture,
                 "gpt, or llama: RoPE, SwiGLU, no biases; bytes in place of characters")
      ->check(CLI::IsMember({"gpt", "llama"}))
      ->capture_default_str();
  app.add_option("--placement", options.placement, "where the norms stand")
      ->check(CLI::IsMember({"pre", "post", "sandwich"}))
      ->capture_default_str();
  const auto* norm = app.add_option("--norm", options.norm, "LayerNorm or RMSNorm")
                         ->check(CLI::IsMember({"layer", "rms"}))
                         ->capture_default_str();
  const auto add_size = [&](const char* name, Index& value, const char* description,
                            long long largest = 1'000'000) {
    app.add_option(name, value, description)
        ->check(examples::whole_number(1, largest))
        ->capture_default_str();
  };
  add_size("--layers", shape.layers, "blocks");
  add_size("--channels", shape.channels, "width of the residual stream");
  add_size("--heads", shape.heads, "attention heads; they divide the channels");
  add_size("--context", shape.context, "characters that the model sees at once");
  add_size("--batch", training.batch, "sequences per step");
  add_size("--micro-batches", training.micro_batches, "parts that the batch is trained in");
  add_size("--steps", training.steps, "optimizer steps", 1'000'000'000);
  app.add_option("--learning-rate", training.learning_rate, "highest learning rate")
      ->check(examples::positive())
      ->capture_default_str();
  app.add_option("--seed", training.seed, "of the weights, the batches and the sample")
      ->check(examples::whole_number(0, 4'294'967'295))
      ->capture_default_str();
  app.add_option("--out", options.out, "write CSV files and plots into this directory")
      ->type_name("DIR");
  app.add_option("--save", options.save,
                 "write the model as a safetensors checkpoint; a llama in llama2.c's format, and "
                 "tokenizer.bin beside it")
      ->type_name("FILE");
  app.add_option("--family", options.family, "whose names the checkpoint's tensors have")
      ->check(CLI::IsMember({"gpt2", "llms-from-scratch"}))
      ->capture_default_str();

  parsed.exit_code = examples::parse(app, "train_gpt", argc, argv, [&] {
    if (options.architecture == "llama") {
      if (options.placement != "pre") {
        throw CLI::ValidationError("--placement", "--architecture llama has pre");
      }
      if (!options.save.empty() &&
          (options.save.extension() != ".bin" || options.save.filename() == "tokenizer.bin")) {
        throw CLI::ValidationError("--save",
                                   "--architecture llama has a name that ends in .bin, "
                                   "and is not tokenizer.bin, which stands beside it");
      }
      if (norm->count() > 0 && options.norm != "rms") {
        throw CLI::ValidationError("--norm", "--architecture llama has rms");
      }
      if (shape.channels % shape.heads == 0 && shape.channels / shape.heads % 2 != 0) {
        throw CLI::ValidationError("--heads",
                                   "--architecture llama has heads of an even number of "
                                   "channels, not " +
                                       std::to_string(shape.channels / shape.heads));
      }
      options.norm = "rms";
    } else if (!options.save.empty() && (options.placement != "pre" || options.norm != "layer")) {
      throw CLI::ValidationError("--save",
                                 "the families of --family have --placement pre and "
                                 "--norm layer, so no other model can be saved");
    }
    if (training.batch % training.micro_batches != 0) {
      throw CLI::ValidationError("--micro-batches", std::to_string(training.micro_batches) +
                                                        " does not divide a batch of " +
                                                        std::to_string(training.batch));
    }
    if (shape.channels % shape.heads != 0) {
      throw CLI::ValidationError("--heads", std::to_string(shape.heads) + " does not divide " +
                                                std::to_string(shape.channels) + " channels");
    }
  });
  return parsed;
}

}  // namespace gpt
