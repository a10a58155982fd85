// SPDX-License-Identifier: MIT
/// Part c: the largest activation of the residual stream, max |h|, by block; and where Eigen::half,
/// which ends at 65504, first overflows.
///
/// By block: at initialization and after training with warm-up at one of part b's rates, on the
/// same held-out text, in float.
///
/// In half: the trained Pre-LN and Sandwich-LN, as they are but for a factor g = 1, 2, 4, … on the
/// last matrix and bias of every sublayer, which makes every update g times as large: as massive
/// activations are. See half_stream.hpp.
#pragma once

#include "claims.hpp"
#include "options.hpp"
#include "training.hpp"

#include <vector>

namespace study {

/// The rate whose runs are taken.
inline constexpr double activations_rate = 3e-3;

/// The runs, of all placements, from part b or trained here where that has none; writes c_*.csv and
/// draws c_*.svg and .png.
std::vector<Claim> study_activations(const std::vector<TrainingRun>& from_part_b,
                                     const Options& options, const gpt::Corpus& corpus);

}  // namespace study
