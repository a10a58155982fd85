// SPDX-License-Identifier: MIT
// See embedding_norm.hpp.
#include "embedding_norm.hpp"

#include "learning_rates.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace study {

namespace {

Index spikes(const std::vector<double>& losses) {
  const auto smooth = smoothed(losses);
  Index count = 0;
  bool in_one = false;
  for (std::size_t step = 20; step < losses.size(); ++step) {
    const bool is_high = losses[step] >= smooth[step - 1] + 0.5;
    count += is_high && !in_one ? 1 : 0;
    in_one = is_high;
  }
  return count;
}

/// The largest over the median: how far above the ordinary the worst step was.
double largest_over_median(std::vector<double> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers.back() / numbers[numbers.size() / 2];
}

/// Without the norm, then with it, at one rate.
struct Pair {
  const TrainingRun *off, *on;
};

std::vector<Pair> pairs(const std::vector<TrainingRun>& runs) {
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i + 1 < runs.size(); i += 2) pairs.push_back({&runs[i], &runs[i + 1]});
  return pairs;
}

void write(const std::vector<TrainingRun>& runs, const Options& options) {
  Csv summary(
      options.out / "d_embedding_norm.csv",
      {"learning_rate", "validation_loss_off", "validation_loss_on", "spikes_off", "spikes_on",
       "embedding_gradient_off", "embedding_gradient_on", "outcome_off", "outcome_on"});
  for (const auto& [off, on] : pairs(runs)) {
    summary.row(off->settings.learning_rate, off->validation_loss, on->validation_loss,
                spikes(off->losses), spikes(on->losses),
                largest_over_median(off->embedding_gradients),
                largest_over_median(on->embedding_gradients), std::string(name_of(off->outcome)),
                std::string(name_of(on->outcome)));
  }
  std::vector<std::string> names;
  std::vector<std::vector<double>> losses, gradients;
  for (const auto& run : runs) {
    const bool on = run.settings.placement == Placement::pre_ln_with_embedding_norm;
    names.push_back(format("%g %s", run.settings.learning_rate, on ? "on" : "off"));
    losses.push_back(run.losses);
    gradients.push_back(run.embedding_gradients);
  }
  const auto steps = static_cast<std::size_t>(options.steps);
  write_steps(options.out / "d_losses.csv", names, losses, steps);
  write_steps(options.out / "d_embedding_gradients.csv", names, gradients, steps);
}

struct Totals {
  Index spikes_off = 0, spikes_on = 0;
  double best_off = std::numeric_limits<double>::infinity();
  double best_on = best_off;
  double mean_off = 0, mean_on = 0;  // of ln(largest / median embedding gradient)
};

Totals add_up(const std::vector<TrainingRun>& runs) {
  Totals totals;
  const auto all = pairs(runs);
  const auto count = static_cast<double>(all.size());
  for (const auto& [off, on] : all) {
    totals.spikes_off += spikes(off->losses);
    totals.spikes_on += spikes(on->losses);
    if (off->has_learned()) totals.best_off = std::min(totals.best_off, off->validation_loss);
    if (on->has_learned()) totals.best_on = std::min(totals.best_on, on->validation_loss);
    totals.mean_off += std::log(largest_over_median(off->embedding_gradients)) / count;
    totals.mean_on += std::log(largest_over_median(on->embedding_gradients)) / count;
  }
  return totals;
}

std::vector<Claim> judge(const std::vector<TrainingRun>& runs) {
  const Totals totals = add_up(runs);
  const double off = std::exp(totals.mean_off), on = std::exp(totals.mean_on);
  return {
      {"d", "An embedding norm makes training more stable",
       "Dettmers 2021, 2110.02861; BLOOM 2022, 2211.05100",
       "fewer loss spikes with it, over all rates",
       format("%ld spikes without, %ld with", static_cast<long>(totals.spikes_off),
              static_cast<long>(totals.spikes_on)),
       totals.spikes_on < totals.spikes_off},
      {"d", "It calms the gradient of the embedding, which spikes before a run diverges",
       "after Zeng 2022 (GLM-130B), 2210.02414",
       "largest over median ‖gradient‖, geometric mean over rates: smaller with it",
       format("%.2f without, %.2f with", off, on), on < off},
      {"d", "It costs some quality", "Le Scao 2022, 2210.15424",
       "best validation loss at least 0.01 nats higher with it",
       format("%.3f without, %.3f with", totals.best_off, totals.best_on),
       totals.best_on >= totals.best_off + 0.01},
  };
}

}  // namespace

std::vector<Claim> study_embedding_norm(const Options& options, const gpt::Corpus& corpus) {
  const ModelShape shape{corpus.vocabulary.size(), options.context, (options.layers + 1) / 2,
                         options.channels, options.heads};
  std::vector<TrainingSettings> settings;
  for (const double rate : embedding_norm_rates) {
    for (const Placement placement : {Placement::pre_ln, Placement::pre_ln_with_embedding_norm}) {
      settings.push_back(
          {placement, rate, /*warm_up=*/false, shape, options.steps, options.batch, options.seed});
    }
  }
  const auto runs = train_all(settings, corpus, options, "(d) embedding norm");
  write(runs, options);
  const Totals totals = add_up(runs);
  draw(options.out, "d_embedding_norm",
       format(
           "Loss spikes at all rates: %ld without the norm, %ld with it; best loss %.2f and "
           "%.2f. Embedding and position begin with a standard deviation of 0.28, which the "
           "first blocks, whose updates are about 1, drown; the norm lifts them to 1. That is also "
           "all that Peri-LN has over Sandwich-LN in part b.",
           static_cast<long>(totals.spikes_off), static_cast<long>(totals.spikes_on),
           totals.best_off, totals.best_on));
  return judge(runs);
}

}  // namespace study
