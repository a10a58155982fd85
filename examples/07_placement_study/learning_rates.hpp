// SPDX-License-Identifier: MIT
/// Part b: a deep character model in each placement, over learning rates, with and without warm-up;
/// and Pre-LN and Post-LN with a quarter of the blocks, which is as many as Xiong et al. trained.
///
/// What ends how is defined in training.hpp.
#pragma once

#include "claims.hpp"
#include "options.hpp"
#include "training.hpp"

#include <array>
#include <vector>

namespace study {

inline constexpr std::array learning_rates = {1e-3, 3e-3, 1e-2, 3e-2};

/// All runs of part b, placement by placement, rate by rate, with warm-up and without.
std::vector<TrainingRun> train_over_learning_rates(const Options& options,
                                                   const gpt::Corpus& corpus);

/// Trains `settings` side by side.
std::vector<TrainingRun> train_all(const std::vector<TrainingSettings>& settings,
                                   const gpt::Corpus& corpus, const Options& options,
                                   const std::string& part);

/// Writes b_*.csv and draws b_*.svg and .png.
std::vector<Claim> study_learning_rates(const std::vector<TrainingRun>& runs,
                                        const Options& options, const gpt::Corpus& corpus);

}  // namespace study
