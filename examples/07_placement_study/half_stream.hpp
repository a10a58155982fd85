// SPDX-License-Identifier: MIT
/// A trained network run in half precision through tokennorm, until something is not finite.
///
/// The residual stream is Eigen::half, and norms read and write it: Workspace<half, float>.
/// Parameters are float, as are the matrix products inside a sublayer. What goes into a sublayer
/// and comes out of it is
///
///     half     rounded to half: its update must fit into half before any norm sees it
///     float    kept in float up to the residual add, as where a kernel fuses the output norm into
///              the sublayer
///
/// Sandwich-LN's output norm has an update of any size at length 1 a channel, if it is finite.
#pragma once

#include "character_model.hpp"

#include <span>

namespace study {

/// The first block, from 1, whose output has an infinity or NaN in it; 0 where none has.
struct FirstOverflow {
  double gain;
  Index half_updates, float_updates;
};

/// For gains 1, 2, 4, …, `largest_gain`. The model is a Pre-LN or a Sandwich-LN.
std::vector<FirstOverflow> find_overflows(CharacterModel& model, Placement placement,
                                          const ModelShape& shape, std::span<const int> ids,
                                          double largest_gain);

}  // namespace study
