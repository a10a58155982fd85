// SPDX-License-Identifier: MIT
/// Part d: BLOOM's embedding norm, on and off, in a Pre-LN over learning rates, without warm-up.
///
/// A spike is a step whose loss is 0.5 nats or more above the smoothed loss of the steps before
/// (training.hpp), after the first twenty; steps in a row are one spike. A batch's loss scatters by
/// about 0.1 nats.
#pragma once

#include "claims.hpp"
#include "options.hpp"
#include "training.hpp"

#include <array>
#include <vector>

namespace study {

inline constexpr std::array embedding_norm_rates = {3e-3, 1e-2, 3e-2, 1e-1};

/// Trains, writes d_*.csv and draws d_*.svg and .png.
std::vector<Claim> study_embedding_norm(const Options& options, const gpt::Corpus& corpus);

}  // namespace study
