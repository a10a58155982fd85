// SPDX-License-Identifier: MIT
/// Part a: gradients and the residual stream at initialization, against the number of blocks L.
///
/// What Xiong et al. 2020, arXiv:2002.04745, prove of the networks of sublayers.hpp (theorem), for
/// tokens x ~ N(0, I_d), with expectations over tokens and weights:
///
///     lemma 2     Pre-LN      (1 + l/2)·d ≤ E‖h_l‖² ≤ (1 + 3l/2)·d     after block l
///                 Post-LN     E‖h + f(h)‖² = 3/2·d     before the last norm of each block
///     theorem 1   Post-LN     ‖∂loss/∂W₂‖ of the last feed-forward layer = O(d·√(ln d))
///                 Pre-LN                                                 = O(d·√(ln d / L))
///
/// The exponent of L is the slope of ln ‖∂loss/∂W₂‖ over ln L, by least squares, over L ≥ 8: with
/// fewer blocks the 1 in (1 + l/2) still counts. The theorem's loss is cross-entropy at one
/// position, of a random target; the character model's is that of example 02, a mean over all
/// tokens of a batch. What is shown is the mean over weights of several seeds.
#pragma once

#include "claims.hpp"
#include "corpus.hpp"
#include "options.hpp"

#include <vector>

namespace study {

/// Writes a_*.csv and draws a_*.svg and .png.
std::vector<Claim> study_initialization(const Options& options, const gpt::Corpus& corpus);

}  // namespace study
