// SPDX-License-Identifier: MIT
// See learning_rates.hpp.
#include "learning_rates.hpp"

#include "progress.hpp"

#include <algorithm>
#include <limits>

namespace study {

namespace {

/// The runs of one depth.
class Runs {
 public:
  Runs(const std::vector<TrainingRun>& all, Index layers) : layers_(layers) {
    for (const auto& run : all) {
      if (run.settings.shape.layers == layers) runs_.push_back(&run);
    }
  }

  Index layers() const { return layers_; }
  const TrainingRun& find(Placement placement, double rate, bool warm_up) const {
    return **std::find_if(runs_.begin(), runs_.end(), [&](const TrainingRun* run) {
      return run->settings.placement == placement && run->settings.learning_rate == rate &&
             run->settings.warm_up == warm_up;
    });
  }
  /// The lowest validation loss of those that have learned.
  double best(Placement placement) const {
    double best = std::numeric_limits<double>::infinity();
    for (const auto* run : runs_) {
      if (run->settings.placement == placement && run->has_learned())
        best = std::min(best, run->validation_loss);
    }
    return best;
  }
  Index failures(Placement placement) const {
    return std::count_if(runs_.begin(), runs_.end(), [&](const TrainingRun* run) {
      return run->settings.placement == placement && !run->has_learned();
    });
  }

 private:
  Index layers_;
  std::vector<const TrainingRun*> runs_;
};

/// What one depth's Pre-LN and Post-LN make of warm-up.
void write_warm_up(const std::filesystem::path& file, const Runs& runs) {
  Csv csv(file, {"learning_rate", "Pre-LN, warm-up", "Pre-LN, none", "Post-LN, warm-up",
                 "Post-LN, none"});
  for (const double rate : learning_rates) {
    std::vector<double> row;
    for (const Placement placement : {Placement::pre_ln, Placement::post_ln}) {
      for (const bool warm_up : {true, false}) {
        row.push_back(runs.find(placement, rate, warm_up).validation_loss);
      }
    }
    csv.row(rate, row);
  }
}

void write_curves(const std::filesystem::path& directory, const Runs& runs, Index steps) {
  for (const Placement placement : placements) {
    std::vector<std::string> names;
    std::vector<std::vector<double>> curves;
    for (const double rate : learning_rates) {
      for (const bool warm_up : {true, false}) {
        names.push_back(format("%g %s", rate, warm_up ? "warm-up" : "none"));
        curves.push_back(smoothed(runs.find(placement, rate, warm_up).losses));
      }
    }
    write_steps(directory / (std::string("b_curves_") + name_of(placement) + ".csv"), names, curves,
                static_cast<std::size_t>(steps));
  }
}

void write(const std::vector<TrainingRun>& all, const Runs& deep, const Runs& shallow,
           const Options& options, const gpt::Corpus& corpus) {
  Csv csv(options.out / "b_runs.csv",
          {"placement", "blocks", "learning_rate", "warm_up", "first_loss", "validation_loss",
           "outcome", "failed_at_step"});
  for (const auto& run : all) {
    csv.row(std::string(name_of(run.settings.placement)), run.settings.shape.layers,
            run.settings.learning_rate, std::string(run.settings.warm_up ? "yes" : "no"),
            run.losses.front(), run.validation_loss, std::string(name_of(run.outcome)),
            run.has_learned() ? std::string() : std::to_string(run.failed_at));
  }
  for (const bool warm_up : {true, false}) {
    Csv losses(options.out / (warm_up ? "b_losses_warm_up.csv" : "b_losses_no_warm_up.csv"),
               header_of_placements("learning_rate"));
    for (const double rate : learning_rates) {
      std::vector<double> row;
      for (const Placement placement : placements) {
        row.push_back(deep.find(placement, rate, warm_up).validation_loss);
      }
      losses.row(rate, row);
    }
  }
  write_curves(options.out, deep, options.steps);
  write_warm_up(options.out / "b_warm_up_shallow.csv", shallow);
  write_warm_up(options.out / "b_warm_up_deep.csv", deep);
  const Yardsticks yardsticks = yardsticks_of(corpus);
  Csv yards(options.out / "b_yardsticks.csv", {"unigram", "bigram", "plateau"});
  yards.row(yardsticks.unigram, yardsticks.bigram, yardsticks.plateau());
}

std::string words(const TrainingRun& run) {
  if (run.has_learned()) return format("%.2f", run.validation_loss);
  return format("%s from step %ld", name_of(run.outcome), static_cast<long>(run.failed_at));
}

/// "0.001: 2.10 with, 2.30 without; …"
std::string at_every_rate(const Runs& runs, Placement placement) {
  std::string text;
  for (const double rate : learning_rates) {
    text += format("%s%g: %s with, %s without", text.empty() ? "" : "; ", rate,
                   words(runs.find(placement, rate, true)).c_str(),
                   words(runs.find(placement, rate, false)).c_str());
  }
  return text;
}

std::vector<Claim> judge_warm_up(const Runs& deep, const Runs& shallow) {
  const auto blocks = [](const Runs& runs) { return static_cast<long>(runs.layers()); };
  std::vector<Claim> claims;
  bool needs = false, fails = true;
  for (const double rate : learning_rates) {
    const auto& with = shallow.find(Placement::post_ln, rate, true);
    const auto& without = shallow.find(Placement::post_ln, rate, false);
    needs = needs || (with.has_learned() && (!without.has_learned() ||
                                             without.validation_loss > with.validation_loss + 0.1));
    fails = fails && !deep.find(Placement::post_ln, rate, true).has_learned();
  }
  claims.push_back({"b",
                    format("Post-LN needs learning-rate warm-up (%ld blocks)", blocks(shallow)),
                    "Xiong 2020, 2002.04745",
                    "at some rate it learns with, and fails or ends 0.1 nats worse without",
                    at_every_rate(shallow, Placement::post_ln), needs});
  claims.push_back(
      {"b", format("A deep Post-LN fails even with warm-up (%ld blocks)", blocks(deep)),
       "Liu 2020, 2004.08249; Wang 2022, 2203.00555", "it fails at every rate with warm-up",
       at_every_rate(deep, Placement::post_ln), fails});
  for (const auto* runs : {&shallow, &deep}) {
    bool learns = false, can_do_without = true;
    for (const double rate : learning_rates) {
      const auto& with = runs->find(Placement::pre_ln, rate, true);
      const auto& without = runs->find(Placement::pre_ln, rate, false);
      if (!with.has_learned()) continue;
      learns = true;
      can_do_without = can_do_without && without.has_learned() &&
                       without.validation_loss <= with.validation_loss + 0.05;
    }
    claims.push_back({"b",
                      format("Pre-LN trains as well without warm-up (%ld blocks)", blocks(*runs)),
                      "Xiong 2020, 2002.04745",
                      "at every rate at which it learns with, it ends within 0.05 nats without",
                      at_every_rate(*runs, Placement::pre_ln), learns && can_do_without});
  }
  return claims;
}

std::vector<Claim> judge(const Runs& deep, const Runs& shallow) {
  std::vector<Claim> claims = judge_warm_up(deep, shallow);
  bool as_often = true, more_often = false;
  for (const double rate : learning_rates) {
    for (const bool warm_up : {true, false}) {
      const bool deep_norm = deep.find(Placement::deep_norm, rate, warm_up).has_learned();
      const bool post = deep.find(Placement::post_ln, rate, warm_up).has_learned();
      as_often = as_often && (deep_norm || !post);
      more_often = more_often || (deep_norm && !post);
    }
  }
  const auto both = [&](Placement first, Placement second) {
    return format("%ld of %zu runs of %s fail, %ld of %s", static_cast<long>(deep.failures(first)),
                  2 * learning_rates.size(), name_of(first),
                  static_cast<long>(deep.failures(second)), name_of(second));
  };
  claims.push_back({"b", "DeepNorm trains where a deep Post-LN does not", "Wang 2022, 2203.00555",
                    "it learns wherever Post-LN does, and somewhere where Post-LN fails",
                    both(Placement::deep_norm, Placement::post_ln), as_often && more_often});
  const double post = shallow.best(Placement::post_ln), pre = shallow.best(Placement::pre_ln);
  claims.push_back({"b",
                    format("Post-LN, where it trains, ends better than Pre-LN (%ld blocks)",
                           static_cast<long>(shallow.layers())),
                    "Liu 2020, 2004.08249", "lowest validation loss at least 0.01 lower",
                    format("Post-LN %.3f, Pre-LN %.3f", post, pre), post <= pre - 0.01});
  const double highest = *std::max_element(learning_rates.begin(), learning_rates.end());
  const auto& peri_run = deep.find(Placement::peri_ln, highest, true);
  const auto& pre_run = deep.find(Placement::pre_ln, highest, true);
  claims.push_back(
      {"b", "Peri-LN stands high learning rates better than Pre-LN", "Kim 2025, 2502.02732",
       format("at %g with warm-up it learns, and ends 0.01 lower or Pre-LN fails", highest),
       "Peri-LN " + words(peri_run) + ", Pre-LN " + words(pre_run),
       peri_run.has_learned() &&
           (!pre_run.has_learned() || peri_run.validation_loss <= pre_run.validation_loss - 0.01)});
  claims.push_back({"b", "Sandwich-LN is at least as stable as Pre-LN",
                    "Ding 2021 (CogView), 2105.13290", "no more of its runs fail",
                    both(Placement::sandwich_ln, Placement::pre_ln),
                    deep.failures(Placement::sandwich_ln) <= deep.failures(Placement::pre_ln)});
  return claims;
}

void draw_all(const Runs& deep, const Runs& shallow, const Options& options) {
  std::string failed, fine;
  for (const Placement placement : placements) {
    const auto count = static_cast<long>(deep.failures(placement));
    if (count == 0) {
      fine += (fine.empty() ? "" : ", ") + std::string(name_of(placement));
    } else {
      failed += format("%s%s in %ld of %zu runs", failed.empty() ? "" : ", ", name_of(placement),
                       count, 2 * learning_rates.size());
    }
  }
  const std::string outcome = (failed.empty() ? std::string() : "Failed: " + failed + ". ") +
                              (fine.empty() ? std::string() : "Never: " + fine + ". ");
  draw(options.out, "b_losses",
       outcome +
           "A cross is a run that ends on the plateau of a model that knows how often each "
           "character occurs, and little else. In a Post-LN a sublayer is a third of what its "
           "norm passes on, so changes of all weights add up with depth (Liu 2020).");
  draw(
      options.out, "b_curves",
      outcome +
          "All runs have the same weights at first (DeepNorm's times beta) and the same "
          "batches. What is stuck has the loss of the unigram model, as if it gave every token the "
          "same logits; the others leave that plateau soon, or at lower rates later.");
  draw(
      options.out, "b_warm_up",
      format("Warm-up keeps the first steps short, which a Post-LN needs to get off the plateau. "
             "Of its runs with %ld blocks %ld of %zu fail, with %ld blocks %ld; of Pre-LN's %ld "
             "and %ld, as each of its blocks is one of many terms of the stream.",
             static_cast<long>(shallow.layers()),
             static_cast<long>(shallow.failures(Placement::post_ln)), 2 * learning_rates.size(),
             static_cast<long>(deep.layers()), static_cast<long>(deep.failures(Placement::post_ln)),
             static_cast<long>(shallow.failures(Placement::pre_ln)),
             static_cast<long>(deep.failures(Placement::pre_ln))));
}

/// As deep as the models of Xiong et al. where the others have 24 blocks: 6.
Index shallow_layers(const Options& options) { return (options.layers + 3) / 4; }

}  // namespace

std::vector<TrainingRun> train_all(const std::vector<TrainingSettings>& settings,
                                   const gpt::Corpus& corpus, const Options& options,
                                   const std::string& part) {
  Index steps = 0;
  for (const auto& run : settings) steps += run.steps;
  Progress progress(part + ": steps", steps);
  const Yardsticks yardsticks = yardsticks_of(corpus);
  std::vector<TrainingRun> runs(settings.size());
  side_by_side(settings.size(), options.threads, [&](std::size_t i) {
    runs[i] = train(settings[i], corpus, yardsticks, [&](Index done) { progress.advance(done); });
  });
  return runs;
}

std::vector<TrainingRun> train_over_learning_rates(const Options& options,
                                                   const gpt::Corpus& corpus) {
  std::vector<TrainingSettings> settings;
  const auto add = [&](Placement placement, Index layers) {
    const ModelShape shape{corpus.vocabulary.size(), options.context, layers, options.channels,
                           options.heads};
    for (const double rate : learning_rates) {
      for (const bool warm_up : {true, false}) {
        settings.push_back(
            {placement, rate, warm_up, shape, options.steps, options.batch, options.seed});
      }
    }
  };
  for (const Placement placement : placements) add(placement, options.layers);
  add(Placement::pre_ln, shallow_layers(options));
  add(Placement::post_ln, shallow_layers(options));
  return train_all(settings, corpus, options, "(b) learning rates");
}

std::vector<Claim> study_learning_rates(const std::vector<TrainingRun>& runs,
                                        const Options& options, const gpt::Corpus& corpus) {
  const Runs deep(runs, options.layers), shallow(runs, shallow_layers(options));
  write(runs, deep, shallow, options, corpus);
  draw_all(deep, shallow, options);
  return judge(deep, shallow);
}

}  // namespace study
