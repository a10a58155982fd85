// SPDX-License-Identifier: MIT
// See activations.hpp.
#include "activations.hpp"

#include "half_stream.hpp"
#include "learning_rates.hpp"

#include <algorithm>
#include <limits>
#include <map>

namespace study {

namespace {

/// Of the stream before the first block and after each.
struct Stream {
  std::vector<double> largest;      // max |h|
  std::vector<double> mean_square;  // E h²
};

Stream measure(const CharacterModel& model, std::span<const int> ids) {
  Stream measured;
  for (const auto& h : model.network().stream(model.embedded(ids), model.sequences(ids))) {
    measured.largest.push_back(static_cast<double>(h.cwiseAbs().maxCoeff()));
    measured.mean_square.push_back(mean_square(h));
  }
  return measured;
}

std::vector<TrainingRun> train_here(const Options& options, const gpt::Corpus& corpus) {
  const ModelShape shape{corpus.vocabulary.size(), options.context, options.layers,
                         options.channels, options.heads};
  std::vector<TrainingSettings> settings;
  for (const Placement placement : placements) {
    settings.push_back({placement, activations_rate, /*warm_up=*/true, shape, options.steps,
                        options.batch, options.seed});
  }
  return train_all(settings, corpus, options, "(c) activations");
}

using ByPlacement = std::map<Placement, Stream>;
using Overflows = std::map<Placement, std::vector<FirstOverflow>>;

void write(const ByPlacement& at_first, const ByPlacement& trained, const Overflows& overflows,
           const Options& options) {
  const auto write_stream = [&](const char* name, const ByPlacement& streams, const auto& of) {
    Csv csv(options.out / name, header_of_placements("block"));
    for (std::size_t block = 0; block < of(streams.begin()->second).size(); ++block) {
      std::vector<double> row;
      for (const Placement placement : placements) row.push_back(of(streams.at(placement))[block]);
      csv.row(block, row);
    }
  };
  const auto largest = [](const Stream& stream) -> const auto& { return stream.largest; };
  const auto mean_square = [](const Stream& stream) -> const auto& { return stream.mean_square; };
  write_stream("c_largest_at_first.csv", at_first, largest);
  write_stream("c_largest_trained.csv", trained, largest);
  write_stream("c_mean_square_at_first.csv", at_first, mean_square);
  write_stream("c_mean_square_trained.csv", trained, mean_square);

  Csv csv(options.out / "c_half.csv",
          {"gain", "Pre-LN, updates in half", "Sandwich-LN, updates in half",
           "Pre-LN, updates in float", "Sandwich-LN, updates in float"});
  const auto& pre = overflows.at(Placement::pre_ln);
  const auto& sandwich = overflows.at(Placement::sandwich_ln);
  for (std::size_t i = 0; i < pre.size(); ++i) {
    csv.row(pre[i].gain, pre[i].half_updates, sandwich[i].half_updates, pre[i].float_updates,
            sandwich[i].float_updates);
  }
}

/// The first gain at which anything overflows, in words.
std::string first_gain(const std::vector<FirstOverflow>& found, Index FirstOverflow::*updates) {
  for (const auto& at : found) {
    if (at.*updates > 0)
      return format("at gain %g in block %ld", at.gain, static_cast<long>(at.*updates));
  }
  return format("never up to gain %g", found.back().gain);
}

std::vector<Claim> judge(const ByPlacement& trained, const Overflows& overflows) {
  const auto growth = [&](Placement placement) {
    const auto& squares = trained.at(placement).mean_square;
    return squares.back() / squares[1];
  };
  const double pre_growth = growth(Placement::pre_ln), peri_growth = growth(Placement::peri_ln);
  const double pre_last = trained.at(Placement::pre_ln).largest.back();
  const double peri_last = trained.at(Placement::peri_ln).largest.back();
  const double res_post_last = trained.at(Placement::res_post_ln).largest.back();

  bool overflows_in_pre = false, overflows_in_sandwich = false;
  for (const auto& at : overflows.at(Placement::pre_ln))
    overflows_in_pre = overflows_in_pre || at.float_updates > 0;
  for (const auto& at : overflows.at(Placement::sandwich_ln))
    overflows_in_sandwich = overflows_in_sandwich || at.float_updates > 0;
  const auto both = [&](Index FirstOverflow::*updates) {
    return "Pre-LN " + first_gain(overflows.at(Placement::pre_ln), updates) + ", Sandwich-LN " +
           first_gain(overflows.at(Placement::sandwich_ln), updates);
  };
  const auto gain_of = [&](Placement placement) {
    for (const auto& at : overflows.at(placement)) {
      if (at.half_updates > 0) return at.gain;
    }
    return std::numeric_limits<double>::infinity();
  };
  return {
      {"c", "Trained, Pre-LN's stream grows more with depth than Peri-LN's", "Kim 2025, 2502.02732",
       "E h² after the last block over the first: 1.2 x Peri-LN's or more",
       format("Pre-LN %.1f x, Peri-LN %.1f x", pre_growth, peri_growth),
       pre_growth >= 1.2 * peri_growth},
      {"c", "Trained, Pre-LN has the larger activations (massive activations)",
       "Kim 2025, 2502.02732", "max |h| after the last block: 1.2 x Peri-LN's or more",
       format("Pre-LN %.1f, Peri-LN %.1f", pre_last, peri_last), pre_last >= 1.2 * peri_last},
      {"c", "Residual-post-norm keeps deep activations smaller than Pre-LN",
       "Liu 2021 (Swin v2), 2111.09883", "max |h| after the last block: Pre-LN's 1.2 x or more",
       format("ResPostLN %.1f, Pre-LN %.1f", res_post_last, pre_last),
       pre_last >= 1.2 * res_post_last},
      {"c", "The output norm of Sandwich-LN keeps the stream within half's range",
       "Ding 2021 (CogView), 2105.13290",
       "updates in float: Pre-LN overflows at some gain, Sandwich-LN at none",
       both(&FirstOverflow::float_updates), overflows_in_pre && !overflows_in_sandwich},
      {"c", "The same where updates are stored in half before their norm", "(as above)",
       "updates in half: Sandwich-LN stands at least twice the gain",
       both(&FirstOverflow::half_updates),
       gain_of(Placement::sandwich_ln) >= 2 * gain_of(Placement::pre_ln)},
  };
}

}  // namespace

std::vector<Claim> study_activations(const std::vector<TrainingRun>& from_part_b,
                                     const Options& options, const gpt::Corpus& corpus) {
  const std::vector<TrainingRun> here =
      from_part_b.empty() ? train_here(options, corpus) : std::vector<TrainingRun>();
  const auto& runs = from_part_b.empty() ? here : from_part_b;

  const auto starts = gpt::sequence_starts(corpus.validation, options.context, options.batch);
  const auto ids = gpt::excerpts_at(corpus.validation, starts, options.context).inputs;
  ByPlacement at_first, trained;
  Overflows overflows;
  for (const auto& run : runs) {
    const auto& [placement, rate, warm_up, shape, steps, batch, seed] = run.settings;
    if (rate != activations_rate || !warm_up || shape.layers != options.layers) continue;
    std::mt19937_64 rng(seed);
    at_first[placement] = measure(CharacterModel(placement, shape, rng), ids);
    trained[placement] = measure(*run.model, ids);
    if (placement == Placement::pre_ln || placement == Placement::sandwich_ln) {
      overflows[placement] =
          find_overflows(*run.model, placement, shape, ids, /*largest_gain=*/1 << 18);
    }
  }

  write(at_first, trained, overflows, options);
  const auto last = [](const ByPlacement& streams, Placement placement) {
    return streams.at(placement).largest.back();
  };
  draw(
      options.out, "c_largest",
      format("A norm on the stream (Post-LN, DeepNorm) holds it at a few units; where updates are "
             "added without a norm on the sum, they pile up: after the last block Pre-LN's largest "
             "is %.0f at first and %.0f trained, Peri-LN's %.0f and %.0f. Half ends at 65504.",
             last(at_first, Placement::pre_ln), last(trained, Placement::pre_ln),
             last(at_first, Placement::peri_ln), last(trained, Placement::peri_ln)));
  const auto& pre = overflows.at(Placement::pre_ln);
  const auto& sandwich = overflows.at(Placement::sandwich_ln);
  draw(options.out, "c_half",
       "Updates in float: Pre-LN's stream overflows " +
           first_gain(pre, &FirstOverflow::float_updates) + ", Sandwich-LN's " +
           first_gain(sandwich, &FirstOverflow::float_updates) +
           ", as its output norm undoes the gain. Updates in half: " +
           first_gain(pre, &FirstOverflow::half_updates) + " and " +
           first_gain(sandwich, &FirstOverflow::half_updates) +
           ": a norm cannot undo what has overflowed before it.");
  return judge(trained, overflows);
}

}  // namespace study
