// SPDX-License-Identifier: MIT
/// The norms of a checkpoint, whatever its family calls them, and what a model says without them.
///
///     norm_table.hpp                 every norm of any checkpoint, in a table
///     folded.hpp                     norms folded into weights, and LayerNorm turned to RMSNorm
///     ../02_train_gpt/checkpoint.hpp the GPT of example 02, from and to a file
///
///     train_gpt --save gpt.safetensors --family gpt2
///     load_checkpoint --file gpt.safetensors                    table, then text and logits
///     load_checkpoint --file gpt.safetensors --save other.safetensors --save-family …
///     load_checkpoint --file model.safetensors --config config.json           table
///     load_checkpoint --file model.gguf                                       table
#include "02_train_gpt/checkpoint.hpp"
#include "02_train_gpt/trainer.hpp"
#include "common/command_line.hpp"
#include "folded.hpp"
#include "norm_table.hpp"
#include <tokennorm/checkpoint/gguf.hpp>
#include <tokennorm/checkpoint/safetensors.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace load_checkpoint;
using tokennorm::Gguf;
using tokennorm::Safetensors;

struct Options {
  std::filesystem::path file;
  std::string family;            // empty: detected
  std::filesystem::path config;  // empty: not given
  std::filesystem::path save;    // empty: written to no file
  std::string save_family = "llms-from-scratch";
};

std::vector<std::string> family_options() {
  std::vector<std::string> names;
  for (const auto& family : tokennorm::families::all) names.push_back(gpt::option_name(family));
  return names;
}

/// The options, or an exit code: 0 after --help, 2 after one line on stderr.
std::optional<Options> parse_options(int argc, char** argv, int& exit_code) {
  Options options;
  CLI::App app{
      "Prints the norms of a safetensors or GGUF checkpoint. Of one that train_gpt saved, it also "
      "folds "
      "them into the weights, and shows that text and logits stay."};
  app.add_option("--file", options.file, "model.safetensors, or its index.json, or model.gguf")
      ->type_name("FILE")
      ->required();
  auto* family = app.add_option("--family", options.family, "whose names it has (default: detect)")
                     ->check(CLI::IsMember(family_options()));
  app.add_option("--config", options.config, "take family and epsilon from this config.json")
      ->type_name("FILE")
      ->excludes(family);
  app.add_option("--save", options.save, "write train_gpt's model again, under other names")
      ->type_name("FILE");
  app.add_option("--save-family", options.save_family, "these names")
      ->check(CLI::IsMember({"gpt2", "llms-from-scratch"}))
      ->capture_default_str();
  exit_code = examples::parse(app, "load_checkpoint", argc, argv, [] {});
  return exit_code >= 0 ? std::nullopt : std::optional(options);
}

Family choose_family(const Options& options, const Safetensors& file) {
  if (!options.config.empty()) return tokennorm::family_from_config(options.config);
  if (!options.family.empty()) return gpt::family_of_option(options.family);
  return tokennorm::detect_family(file.names());
}

template <class File>
void print_heading(const Options& options, const File& file, const Family& family) {
  std::printf("%s: %zu tensors\n", options.file.string().c_str(), file.names().size());
  std::printf("%s: %s, %s", gpt::option_name(family).c_str(), name_of(family.placement),
              name_of(family.norm));
  if (family.scale_offset != 0) std::printf(", the factor is %g + scale", family.scale_offset);
  if (family.epsilon_varies) {
    std::printf("; epsilon is a usual one: the model's is in its config.json (--config)");
  }
  std::printf("\n\n");
}

/// What a form of the model says: text by always the same draws, and the logits of what it `read`.
struct Speech {
  std::string text;
  tokennorm::TokenMatrix<float> logits;
};

template <class Model>
Speech speech_of(const Model& model, const gpt::Vocabulary& vocabulary,
                 const std::vector<int>& read) {
  std::mt19937_64 rng(1);
  const bool lines = vocabulary.contains(U'\n');
  const std::vector<int> prompt = {lines ? vocabulary.number(U'\n') : 0};
  const auto text = gpt::generate(model, prompt, /*length=*/200, /*temperature=*/0.7, rng);
  return {vocabulary.decode(text), model(read)};
}

void print_change(const char* form, const Speech& original, const Speech& now) {
  std::printf("%-28s  %-9s  %20.2g\n", form, now.text == original.text ? "the same" : "differs",
              static_cast<double>((now.logits - original.logits).cwiseAbs().maxCoeff()));
}

/// Text, and what folding changes of it and of the logits of random characters; likewise what came
/// back of `again`, a copy with other names.
void show_folding(const gpt::SavedGpt& saved, const gpt::SavedGpt* again) {
  const gpt::Vocabulary& vocabulary = saved.vocabulary;
  std::mt19937_64 rng(2);
  std::uniform_int_distribution<int> any(0, static_cast<int>(vocabulary.size()) - 1);
  std::vector<int> read(static_cast<std::size_t>(saved.model.context()));
  for (int& character : read) character = any(rng);

  const Speech original = speech_of(saved.model, vocabulary, read);
  std::printf("\n----- what the model writes -----\n%s\n---------------------------------\n\n",
              original.text.c_str());
  std::printf("%-28s  %-9s  %20s\n", "", "text", "largest logit change");
  const SavableGpt without_parameters = folded(saved.model);
  print_change("norms folded", original, speech_of(without_parameters, vocabulary, read));
  print_change("and centred: RMSNorms", original,
               speech_of(centred(without_parameters), vocabulary, read));
  if (again != nullptr) {
    print_change("saved under other names", original, speech_of(again->model, vocabulary, read));
  }
  std::printf("%-28s  %-9s  %20.2g\n", "(the largest logit itself)", "",
              static_cast<double>(original.logits.cwiseAbs().maxCoeff()));
}

/// Written to `path` under the family's names, and read from there.
gpt::SavedGpt save_and_load(const std::filesystem::path& path, gpt::SavedGpt& saved,
                            const Family& family) {
  gpt::save_gpt(path, saved.model, saved.heads, saved.vocabulary, family);
  return gpt::load_gpt(Safetensors::open(path), family);
}

/// The norms of a GGUF file, which says itself what family it is of.
void show_gguf(const Options& options) {
  if (!options.config.empty() || !options.save.empty()) {
    throw std::runtime_error("--config and --save go with safetensors");
  }
  const Gguf file = Gguf::open(options.file);
  const Family family = options.family.empty() ? tokennorm::family_from_gguf(file)
                                               : tokennorm::family_from_gguf(
                                                     file, gpt::family_of_option(options.family));
  const std::string table = norm_table(file, family);
  print_heading(options, file, family);
  std::printf("%s", table.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  int exit_code = 0;
  const std::optional<Options> options = parse_options(argc, argv, exit_code);
  if (!options) return exit_code;
  try {
    if (options->file.extension() == ".gguf") {
      show_gguf(*options);
      return 0;
    }
    const Safetensors file = Safetensors::open(options->file);
    const Family family = choose_family(*options, file);
    const std::string table = norm_table(file, family);
    std::optional<gpt::SavedGpt> saved, again;
    if (gpt::has_gpt(file)) saved = gpt::load_gpt(file, family);
    if (!options->save.empty()) {
      if (!saved) {
        throw std::runtime_error("--save: only a model that train_gpt saved is written again");
      }
      again = save_and_load(options->save, *saved, gpt::family_of_option(options->save_family));
    }
    print_heading(*options, file, family);
    std::printf("%s", table.c_str());
    if (saved) show_folding(*saved, again ? &*again : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "load_checkpoint: %s\n", error.what());
    return 2;
  }
  return 0;
}
