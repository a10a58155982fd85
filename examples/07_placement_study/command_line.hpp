// SPDX-License-Identifier: MIT
/// The command line.
#pragma once

#include "common/command_line.hpp"
#include "options.hpp"

#include <CLI/CLI.hpp>

#include <string>

namespace study {

/// −1, or the exit code where there is nothing more to do.
inline int parse(int argc, const char* const* argv, Options& options) {
  CLI::App app{
      "Compares six placements of the norms: at initialization (a), in training (b), their largest "
      "activations and half precision (c), and an embedding norm (d). Prints what the literature "
      "says beside what was measured."};
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--out", options.out, "write CSV files and plots into this directory")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--part", options.parts, "which parts; may be given several times (default: all)")
      ->check(CLI::IsMember({"a", "b", "c", "d"}))
      ->take_all();
  app.add_option("--seed", options.seed, "of weights and batches")
      ->check(examples::whole_number(0, 4'294'967'295))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "runs side by side; the results stay the same")
      ->check(examples::whole_number(1, 1024))
      ->capture_default_str();
  app.add_flag("--quick", options.quick, "sizes for well under a minute");

  const auto add_size = [&](const char* name, Index& value, Index when_quick,
                            const char* description) {
    auto* option = app.add_option(name, value, description)
                       ->check(examples::whole_number(1, 1'000'000))
                       ->capture_default_str();
    return [=, &value] {
      if (option->count() == 0) value = when_quick;
    };
  };
  const auto make_quick = {
      add_size("--layers", options.layers, 8, "blocks of a character model"),
      add_size("--largest-depth", options.largest_depth, 24, "blocks, of part a"),
      add_size("--channels", options.channels, 32, "width of the residual stream"),
      add_size("--heads", options.heads, 4, "attention heads; they divide the channels"),
      add_size("--context", options.context, 32, "characters that a model sees at once"),
      add_size("--batch", options.batch, 8, "sequences per step"),
      add_size("--steps", options.steps, 120, "optimizer steps"),
      add_size("--repeats", options.repeats, 4, "of part a, each from other weights"),
  };
  return examples::parse(app, "placement_study", argc, argv, [&] {
    if (options.quick) {
      for (const auto& make : make_quick) make();
    }
    if (options.channels % options.heads != 0) {
      throw CLI::ValidationError("--heads", std::to_string(options.heads) + " does not divide " +
                                                std::to_string(options.channels) + " channels");
    }
  });
}

}  // namespace study
