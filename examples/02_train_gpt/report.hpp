// SPDX-License-Identifier: MIT
/// What a run leaves behind in its directory:
///
///     loss.csv             step, training_loss, validation_loss, learning_rate, gradient_norm
///     gradient_norms.csv   layer, first_step, mean
///     summary.csv          validation_loss, bigram_loss, seconds
///     training.svg, .png   the plot of the two, drawn by gnuplot with training.gp
#pragma once

#include "common/gnuplot.hpp"
#include "common/output_file.hpp"
#include "history.hpp"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <system_error>

namespace gpt {

struct Result {
  History history;
  double validation_loss = 0;  // nats per character, over all of the held-out text
  double bigram_loss = 0;      // of the bigram model, likewise
};

/// Makes the directory, before the training, so that a bad path does not cost a training run.
/// Throws std::runtime_error where nothing can be written there.
void prepare_directory(const std::filesystem::path& directory);

/// The same for one file, which stays as it is, or away.
void prepare_file(const std::filesystem::path& file);

void write_csv(const std::filesystem::path& directory, const Result& result);

/// Without gnuplot, one line says so and there is no plot.
void draw_plot(const std::filesystem::path& directory, const std::string& title);

// ---------------------------------------------------------------------------------------------

inline void prepare_directory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    throw std::runtime_error("--out: cannot make " + directory.string() + ": " + error.message());
  }
  examples::open_for_writing(directory / "loss.csv");
}

inline void prepare_file(const std::filesystem::path& file) {
  std::error_code error;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
  const bool is_new = !std::filesystem::exists(file);
  errno = 0;
  if (!error && !std::ofstream(file, std::ios::app)) {
    error = std::error_code(errno, std::generic_category());
  }
  if (error) {
    throw std::runtime_error("--save: cannot write " + file.string() + ": " + error.message());
  }
  if (is_new) std::filesystem::remove(file);
}

inline void write_csv(const std::filesystem::path& directory, const Result& result) {
  auto loss = examples::open_for_writing(directory / "loss.csv");
  loss << "step,training_loss,validation_loss,learning_rate,gradient_norm\n";
  for (const auto& point : result.history.curve) {
    loss << point.step << ',' << point.training_loss << ',' << point.validation_loss << ','
         << point.learning_rate << ',' << point.gradient_norm << '\n';
  }
  auto norms = examples::open_for_writing(directory / "gradient_norms.csv");
  norms << "layer,first_step,mean\n";
  for (const auto& [layer, first_step, mean] : result.history.gradient_norms) {
    norms << layer << ',' << first_step << ',' << mean << '\n';
  }
  auto summary = examples::open_for_writing(directory / "summary.csv");
  summary << "validation_loss,bigram_loss,seconds\n"
          << result.validation_loss << ',' << result.bigram_loss << ',' << result.history.seconds
          << '\n';
}

inline void draw_plot(const std::filesystem::path& directory, const std::string& title) {
  if (!examples::has_gnuplot()) {
    std::cout << "no plot: gnuplot is not installed; the CSV files are in " << directory.string()
              << '\n';
    return;
  }
  examples::gnuplot(std::filesystem::path(TRAIN_GPT_DIRECTORY) / "plot.gp",
                    {(directory / "training").string(), title, directory.string(), ""});
}

}  // namespace gpt
